"""Masked diffusion: hidden target tokens are predicted from all others, and decoded step by step, surest first."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join, position_ids
from nt_failures.models.attention_masks import full
from nt_failures.objectives.base import Loss, Objective, option
from nt_failures.objectives.decoding import Prefix, answer_columns
from nt_failures.objectives.losses import Batch, label_count, masked_logits, token_nats

LOWEST_RATE = 1e-3
"""Keeps the weight 1 / rate finite."""


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(Objective):
    """Predict masked target tokens from the prefix and the target tokens that are not masked, on both sides.

    The target `32 34 6 16 12` with a drawn rate of 0.4, attention in both directions:

        input_ids   ...   12    =   32    $    6   16    $
        predicted                        34             12      each in its own column

    loss = sum over the masked tokens of w * (- log p(r_i | x, r_unmasked)) / rate, rate ~ U(0, 1) for each example,
    divided by the number of target tokens (arXiv 2406.05183; 2410.14157, section 3, where w = alpha * (1 - p)^gamma).
    Decoding starts from dummies and keeps the surest tokens of each of `steps` passes; `parallel` is one pass.
    Relations: `masked_teacher` stays causal. Needs: a 4-D mask, attention in both directions.

    Args:
        steps: passes of decoding; None for one token a pass.
        alpha, gamma: of the weight; gamma 0 weighs all tokens alike. The source's are 0.25 and 2 at most.

    Example:
        >>> from nt_failures import MaskedDiffusion
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> {name: tuple(tensor.shape) for name, tensor in MaskedDiffusion(dummy_token_id=13).collate(rows).items()}
        {'input_ids': (1, 5), 'attention_mask': (1, 5), 'labels': (1, 5), 'position_ids': (1, 5), 'weights': (1, 3)}
    """

    steps: int | None = option(None, least=1, whole=True)
    alpha: float = option(1.0, above=True)
    gamma: float = option(0.0)

    extra_tokens = ("$",)
    needs = frozenset({"4d_mask", "bidirectional"})
    decodings = ("unmasking", "parallel")
    citation = (
        "Ye et al., Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning, ICLR 2025, "
        "arXiv 2410.14157; arXiv 2406.05183"
    )

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        rate_B1 = torch.rand(len(target_BT), 1).clamp(min=LOWEST_RATE)
        masked_BT = (torch.rand(target_BT.shape) < rate_B1) & target_BT.ne(IGNORE)
        batch = join(parts, target_BT.masked_fill(masked_BT, self.dummy_token_id), target_BT, self.pad_token_id)
        batch["position_ids"] = position_ids(batch["attention_mask"])
        return batch | {"weights": masked_BT / rate_B1}

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        weights_BT = batch["weights"]
        labels_BT = batch["labels"][:, -weights_BT.shape[1] :]
        logits_BTV = masked_logits(model, batch, full(batch["attention_mask"]), weights_BT.shape[1])
        nats_BT = token_nats(logits_BTV, labels_BT)
        hard_BT = self.alpha * (1 - (-nats_BT.detach()).exp()) ** self.gamma
        return Loss((weights_BT * hard_BT * nats_BT).sum(), label_count(labels_BT), {})

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        real_BT = answer_columns(lengths_B)
        ids_BT = torch.full(real_BT.shape, self.dummy_token_id, device=lengths_B.device)
        open_BT = real_BT.clone()
        longest = real_BT.shape[1]
        steps = 1 if decoding == "parallel" else min(self.steps or longest, longest)
        for step in range(1, steps + 1):
            sure_BT, best_BT = _log_probs(model, prefix, ids_BT, real_BT).max(dim=-1)
            left_B = lengths_B - -(-lengths_B * step // steps)  # columns still open behind this pass, rounded down
            fill_B1 = (open_BT.sum(dim=1) - left_B)[:, None]
            rank_BT = sure_BT.where(open_BT, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
            chosen_BT = open_BT & (rank_BT < fill_B1)
            ids_BT = best_BT.where(chosen_BT, ids_BT)
            open_BT &= ~chosen_BT
        return ids_BT.where(real_BT, IGNORE)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        """Each token with the true earlier ones revealed and all later ones masked, one pass a column."""
        real_BT = shown_BT.ne(IGNORE)
        columns_T = torch.arange(shown_BT.shape[1], device=shown_BT.device)
        found = []
        for column in range(shown_BT.shape[1]):
            ids_BT = shown_BT.where(real_BT & (columns_T < column), self.dummy_token_id)
            found.append(_log_probs(model, prefix, ids_BT, real_BT)[:, column].argmax(dim=-1))
        return torch.stack(found, dim=1).where(real_BT, IGNORE)


def _log_probs(model: PreTrainedModel, prefix: Prefix, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
    """Log-probabilities (B, T, V) of the target columns, of which `real_BT` hold an answer."""
    mask = torch.cat([prefix[1], real_BT.to(prefix[1].dtype)], dim=1)
    batch = {
        "input_ids": torch.cat([prefix[0], ids_BT], dim=1),
        "attention_mask": mask,
        "position_ids": position_ids(mask),
    }
    return masked_logits(model, batch, full(mask), ids_BT.shape[1]).float().log_softmax(dim=-1)
