"""Future bag: beside the next token, predict which tokens come later, as a set."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import ExtraLoss, Loss
from nt_failures.objectives.losses import VocabularyHead, cross_entropy, forward_pass, row_mean_sum


@dataclasses.dataclass(frozen=True)
class FutureBag(ExtraLoss):
    """Predict the next token, and with one linear head the set of the target tokens behind it.

    For the target `32 34 6 16 12`: the bag of the state behind `=` is {34, 6, 16, 12}, behind `32` {6, 16, 12}, behind `6`
    {12}; behind `16` there is none, and the state does not count.

    loss = CE_next + weight * mean over the states with a bag of (mean over the bag of - log sigmoid(b_v) + mean over all other tokens
    of - log sigmoid(- b_v)) / 2, with b = linear(h_t) (arXiv 2510.14751; the balance of few tokens in the bag against many outside
    is ours). The next token itself is left out: that one could be looked up, so the head cannot learn the cheat.
    Inputs and labels are those of `next_token`, decoding too: the head is dropped. Relations: `token_order` keeps the order. Needs: hidden states.

    Args:
        window: how many tokens ahead the bag reaches, from 2; None for the whole target.
        weight: of the bag's loss.
    """

    window: int | None = None
    weight: float = 1.0

    citation: ClassVar[str] = (
        "Mahajan et al., Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries, arXiv 2510.14751"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is not None and not (isinstance(self.window, int) and self.window >= 2):
            raise ValueError(
                f"window={self.window!r} must be a whole number from 2; leave it out for the whole target."
            )
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight={self.weight} must be a number >= 0; 1.0 weighs the bag like the next token.")

    def attach(self, model: PreTrainedModel) -> None:
        auxiliary_modules.attach(model, bag=VocabularyHead(model.config.hidden_size, model.config.vocab_size))

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        seen = forward_pass(model, batch)
        next_token = cross_entropy(seen.logits_BTV, seen.labels_BT)
        logits_BTV = auxiliary_modules.attached(model)["bag"](seen.states_BSD[:, seen.first - 1 :]).float()
        in_bag_BTV = self.bags(seen.labels_BT, logits_BTV.shape[-1])
        sizes_BT = in_bag_BTV.sum(dim=-1)
        inside_BT = (F.softplus(-logits_BTV) * in_bag_BTV).sum(dim=-1) / sizes_BT.clamp(min=1)
        outside_BT = (F.softplus(logits_BTV) * ~in_bag_BTV).sum(dim=-1) / (logits_BTV.shape[-1] - sizes_BT).clamp(min=1)
        bag = row_mean_sum((inside_BT + outside_BT) / 2, sizes_BT.gt(0), seen.labels_BT)
        parts = {"next_token": next_token.detach(), "bag": bag.detach()}
        return Loss(next_token + self.weight * bag, seen.labels_BT.ne(IGNORE).sum(), parts)

    def bags(self, labels_BT: torch.Tensor, vocabulary: int) -> torch.Tensor:
        """Which tokens (B, T, V) come 2 to `window` steps behind each state."""
        length = labels_BT.shape[1]
        steps_T = torch.arange(length, device=labels_BT.device)
        distance_TT = steps_T[None, :] - steps_T[:, None] + 1
        near_TT = (distance_TT >= 2) & (distance_TT <= (self.window or length))
        real_BTT = near_TT & labels_BT.ne(IGNORE)[:, None, :]
        tokens_BTT = labels_BT.clamp(min=0)[:, None, :].expand_as(real_BTT)
        empty_BTV = torch.zeros((*labels_BT.shape, vocabulary), device=labels_BT.device)
        return empty_BTV.scatter_reduce(2, tokens_BTT, real_BTT.float(), "amax").bool()
