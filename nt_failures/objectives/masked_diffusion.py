"""Masked diffusion: hidden target tokens are predicted from all others, and decoded step by step, surest first."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join, position_ids
from nt_failures.models.attention_masks import additive, full
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Loss, Objective

LOWEST_RATE = 1e-3
"""Keeps the weight 1 / rate finite."""


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(Objective):
    """Predict masked target tokens from the prefix and the target tokens that are not masked, on both sides.

    The target `32 34 6 16 12` with a drawn rate of 0.4, attention in both directions:

        input_ids   ...   12    =   32    $    6   16    $
        predicted                        34             12      each in its own column

    loss = sum over the masked tokens of w * (- log p(r_i | x, r_unmasked)) / rate, rate ~ U(0, 1) for each example, divided by the
    number of target tokens (arXiv 2406.05183; 2410.14157, section 3, where w = alpha * (1 - p)^gamma weighs hard tokens more).
    Decoding starts from dummies alone and keeps the surest tokens of each of `steps` passes; `parallel` is one pass.
    Relations: `masked_teacher` masks the same way and stays causal. Needs: attention in both directions.

    Args:
        steps: passes of decoding; None for one token a pass.
        alpha, gamma: of the weight; gamma 0 weighs all tokens alike. The source's are 0.25 and 2 at most.
    """

    steps: int | None = None
    alpha: float = 1.0
    gamma: float = 0.0

    extra_tokens: ClassVar[tuple[str, ...]] = ("$",)
    needs: ClassVar[frozenset[str]] = frozenset({"4d_mask", "bidirectional"})
    decodings: ClassVar[tuple[str, ...]] = ("unmasking", "parallel")
    citation: ClassVar[str] = (
        "Ye et al., Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning, ICLR 2025, arXiv 2410.14157; arXiv 2406.05183"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps={self.steps!r} must be a whole number from 1; leave it out for one token a pass.")
        if not (0 < self.alpha < math.inf and 0 <= self.gamma < math.inf):
            raise ValueError(f"alpha={self.alpha} must be a number > 0 and gamma={self.gamma} one >= 0.")

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        rate_B1 = torch.rand(len(target_BT), 1).clamp(min=LOWEST_RATE)
        masked_BT = (torch.rand(target_BT.shape) < rate_B1) & target_BT.ne(IGNORE)
        batch = join(parts, target_BT.masked_fill(masked_BT, self.dummy_token_id), target_BT, self.pad_token_id)
        batch["position_ids"] = position_ids(batch["attention_mask"])
        return batch | {"weights": masked_BT / rate_B1}

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        weights_BT = batch["weights"]
        labels_BT = batch["labels"][:, -weights_BT.shape[1] :]
        logits_BTV = _logits(model, batch, weights_BT.shape[1])
        nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2), labels_BT, ignore_index=IGNORE, reduction="none")
        hard_BT = self.alpha * (1 - (-nats_BT.detach()).exp()) ** self.gamma
        return Loss((weights_BT * hard_BT * nats_BT).sum(), labels_BT.ne(IGNORE).sum(), {})

    @torch.no_grad()
    def decode(
        self,
        model: PreTrainedModel,
        prefix_ids: torch.Tensor,
        length: int | torch.Tensor,
        prefix_mask: torch.Tensor | None = None,
        decoding: str | None = None,
        shown: torch.Tensor | None = None,
    ) -> torch.Tensor:
        decoding, lengths_B, mask = self.asked(model, prefix_ids, length, prefix_mask, decoding)
        columns_T = torch.arange(int(lengths_B.max()), device=prefix_ids.device)
        real_BT = columns_T < lengths_B[:, None]
        given = _Given(prefix_ids, mask, real_BT, self.dummy_token_id)
        if shown is not None:
            ids_BT = given.forced(model, shown)
        else:
            ids_BT = given.unmask(
                model, 1 if decoding == "parallel" else min(self.steps or len(columns_T), len(columns_T))
            )
        return self.reorder(ids_BT.where(real_BT, IGNORE))


@dataclasses.dataclass(frozen=True)
class _Given:
    """Prefixes, and which target columns (B, T) there are to fill."""

    prefix_ids: torch.Tensor
    prefix_mask: torch.Tensor
    real_BT: torch.Tensor
    dummy: int

    def predict(self, model: PreTrainedModel, ids_BT: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, T, V) of the target columns."""
        attention_mask = torch.cat([self.prefix_mask, self.real_BT.to(self.prefix_mask.dtype)], dim=1)
        batch = {
            "input_ids": torch.cat([self.prefix_ids, ids_BT], dim=1),
            "attention_mask": attention_mask,
            "position_ids": position_ids(attention_mask),
        }
        return _logits(model, batch, ids_BT.shape[1]).log_softmax(dim=-1)

    def unmask(self, model: PreTrainedModel, steps: int) -> torch.Tensor:
        """Fill all columns in `steps` passes, the surest first; each pass fills an equal part of a row's columns."""
        ids_BT = torch.full(self.real_BT.shape, self.dummy, device=self.prefix_ids.device)
        open_BT = self.real_BT.clone()
        lengths_B = self.real_BT.sum(dim=1)
        for step in range(1, steps + 1):
            sure_BT, best_BT = self.predict(model, ids_BT).max(dim=-1)
            left_B = lengths_B - -(-lengths_B * step // steps)  # columns still open behind this pass
            fill_B1 = (open_BT.sum(dim=1) - left_B)[:, None]
            rank_BT = sure_BT.where(open_BT, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
            chosen_BT = open_BT & (rank_BT < fill_B1)
            ids_BT = best_BT.where(chosen_BT, ids_BT)
            open_BT &= ~chosen_BT
        return ids_BT

    def forced(self, model: PreTrainedModel, shown_BT: torch.Tensor) -> torch.Tensor:
        """Each token with the true earlier ones revealed and all later ones masked, one pass a column."""
        found = []
        for column in range(shown_BT.shape[1]):
            ids_BT = shown_BT.where(self.real_BT, self.dummy).clone()
            ids_BT[:, column:] = self.dummy
            found.append(self.predict(model, ids_BT)[:, column].argmax(dim=-1))
        return torch.stack(found, dim=1)


def _logits(model: torch.nn.Module, batch: Mapping[str, torch.Tensor], targets: int) -> torch.Tensor:
    """Logits (B, T, V) of the last `targets` columns, each for its own column, with attention in both directions."""
    mask = additive(full(batch["attention_mask"]), auxiliary_modules.unwrap_model(model).dtype)
    found = model(
        input_ids=batch["input_ids"],
        attention_mask=mask,
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=targets,
    )
    return found.logits.float()
