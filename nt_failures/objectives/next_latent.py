"""Next latent: beside the next token, predict the next hidden state from this one and the next token."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import ExtraLoss, Loss
from nt_failures.objectives.losses import cross_entropy, forward_pass, row_mean_sum, unembed


@dataclasses.dataclass(frozen=True)
class NextLatent(ExtraLoss):
    """Predict the next token, and roll the hidden state forward through the true tokens.

    For the prefix `.. 12 =` and the target `32 34 6 16 12`, horizon 2:

        states       ...  h12  h=   h32   h34   h6   h16
        rolled once       g=   g32  g34   g6    g16            from each state and the next token
        rolled twice      g32  g34  g6    g16                  from the rolled state and the token behind it

    g_t+1 = h_t + MLP([LayerNorm h_t ; e(s_t+1)]). loss = CE_next + smooth_weight * SmoothL1(stopgrad h_t+i, g_t+i) + kl_weight *
    KL(softmax(U stopgrad h_t+i) || softmax(U g_t+i)), each a mean over i = 1 .. horizon and all real columns, prefix
    included; U is frozen in the KL term (arXiv 2511.05963, section 3). A state that lets later states be rolled from
    it must hold what the whole answer needs. Without the stop-gradient the states would collapse.
    Inputs and labels are those of `next_token`, decoding too: the MLP is dropped. Needs: hidden states.

    Args:
        horizon: steps rolled forward, from 1; None for the target's length - 2, the source's choice for path-star.
        smooth_weight, kl_weight: of the two latent losses.
    """

    horizon: int | None = None
    smooth_weight: float = 1.0
    kl_weight: float = 1.0

    citation: ClassVar[str] = (
        "Teoh et al., Next-Latent Prediction Transformers Learn Compact World Models, arXiv 2511.05963"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon is not None and not (isinstance(self.horizon, int) and self.horizon >= 1):
            raise ValueError(f"horizon={self.horizon!r} must be a whole number from 1; leave it out for length - 2.")
        if not (0 <= self.smooth_weight < math.inf and 0 <= self.kl_weight < math.inf):
            raise ValueError(f"smooth_weight={self.smooth_weight}, kl_weight={self.kl_weight} must be numbers >= 0.")

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        mlp = nn.Sequential(
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        auxiliary_modules.attach(model, norm=nn.LayerNorm(width), step=mlp)

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        seen = forward_pass(model, batch)
        next_token = cross_entropy(seen.logits_BTV, seen.labels_BT)
        # The last token of a row is never read: it has a state only where a longer row stands beside it.
        real_BS = batch["attention_mask"][:, :-1].bool() & batch["attention_mask"][:, 1:].bool()
        smooth, kl, counted = [], [], []
        rolled = seen.states_BSD
        steps = min(self.horizon or max(seen.labels_BT.shape[1] - 2, 1), max(seen.states_BSD.shape[1] - 1, 1))
        # Without a horizon it is that of each row's own target, whatever stands beside it in the batch.
        own_B1 = (seen.labels_BT.ne(IGNORE).sum(dim=1, keepdim=True) - 2).clamp(min=self.horizon or 1)
        for i in range(1, steps + 1):
            rolled = self._roll(model, rolled[:, :-1], batch["input_ids"][:, i:-1])
            smooth_BS, kl_BS = _distances(model, rolled, seen.states_BSD[:, i:].detach())
            smooth.append(smooth_BS)
            kl.append(kl_BS)
            counted.append(real_BS[:, :-i] & real_BS[:, i:] & (own_B1 >= i))
        sums = {"next_token": next_token}
        for name, values in (("smooth", smooth), ("kl", kl)):
            sums[name] = row_mean_sum(torch.cat(values, dim=1), torch.cat(counted, dim=1), seen.labels_BT)
        total = next_token + self.smooth_weight * sums["smooth"] + self.kl_weight * sums["kl"]
        return Loss(total, seen.labels_BT.ne(IGNORE).sum(), {name: s.detach() for name, s in sums.items()})

    def _roll(self, model: torch.nn.Module, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """States one step on, from states and the tokens that follow them."""
        modules = auxiliary_modules.attached(model)
        embedded = auxiliary_modules.unwrap_model(model).get_input_embeddings()(tokens)
        return states + modules["step"](torch.cat([modules["norm"](states), embedded], dim=-1))


def _distances(model: torch.nn.Module, rolled: torch.Tensor, true: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth L1 and KL (B, S) between rolled and true states; the unembedding is frozen here."""
    smooth = F.smooth_l1_loss(rolled, true, reduction="none").mean(dim=-1)
    logits, wanted = (unembed(model, x, frozen=True).float().log_softmax(dim=-1) for x in (rolled, true))
    return smooth, F.kl_div(logits, wanted, log_target=True, reduction="none").sum(dim=-1)
