"""Token order: beside the next token, rank all tokens by how soon they come."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import ExtraLoss, Loss
from nt_failures.objectives.losses import VocabularyHead, cross_entropy, forward_pass


@dataclasses.dataclass(frozen=True)
class TokenOrder(ExtraLoss):
    """Predict the next token, and with a second unembedding the order in which the later target tokens come.

    For the target `32 34 6 16 12` and the state behind `=` (window 5): scores 4 for 32, 3 for 34, 2 for 6, 1 for 16, 0 for
    12, minus infinity for every other token; behind `32`: 4 for 34, 3 for 6, 2 for 16, 1 for 12.

    loss = CE_next + weight * sum_t ( - sum_v softmax(y_t)_v log softmax(U_top h_t)_v ), with y_t,v = window - (steps from t
    to the next v) inside the window (arXiv 2508.19228, section 3: a list-wise ranking loss). What comes soonest weighs most,
    but the whole rest of the answer sends a gradient to every state, the decision's included.
    Inputs and labels are those of `next_token`, decoding too: the second unembedding is dropped. Relations: `future_bag`
    predicts the same tokens without their order. Needs: hidden states.

    Args:
        window: how many tokens ahead are ranked; None for the whole target.
        weight: of the ranking loss.
    """

    window: int | None = None
    weight: float = 1.0

    citation: ClassVar[str] = (
        "Zuhri et al., Predicting the Order of Upcoming Tokens Improves Language Modeling, arXiv 2508.19228"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is not None and not (isinstance(self.window, int) and self.window >= 1):
            raise ValueError(
                f"window={self.window!r} must be a whole number from 1; leave it out for the whole target."
            )
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight={self.weight} must be a number >= 0; 1.0 weighs the ranking like the next token.")

    def attach(self, model: PreTrainedModel) -> None:
        auxiliary_modules.attach(
            model, order=VocabularyHead(model.config.hidden_size, model.config.vocab_size, bias=False)
        )

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        seen = forward_pass(model, batch)
        next_token = cross_entropy(seen.logits_BTV, seen.labels_BT)
        logits_BTV = auxiliary_modules.attached(model)["order"](seen.states_BSD[:, seen.first - 1 :]).float()
        wanted_BTV = self.scores(seen.labels_BT, logits_BTV.shape[-1]).softmax(dim=-1)
        counted_BT = seen.labels_BT.ne(IGNORE)
        ranked_BT = -(wanted_BTV.nan_to_num(0.0) * logits_BTV.log_softmax(dim=-1)).sum(dim=-1)
        order = ranked_BT.where(counted_BT, 0).sum()
        parts = {"next_token": next_token.detach(), "order": order.detach()}
        return Loss(next_token + self.weight * order, counted_BT.sum(), parts)

    def scores(self, labels_BT: torch.Tensor, vocabulary: int) -> torch.Tensor:
        """y (B, T, V): window - distance to the next occurrence, -inf where a token does not come within the window."""
        length = labels_BT.shape[1]
        window = min(self.window or length, length)  # a wider one moves all scores alike, and loses digits
        steps_T = torch.arange(length, device=labels_BT.device)
        distance_TT = (
            steps_T[None, :] - steps_T[:, None] + 1
        )  # state t to label column j; label t itself is one step away
        near_TT = (distance_TT >= 1) & (distance_TT <= window)
        real_BTT = near_TT & labels_BT.ne(IGNORE)[:, None, :]
        scores_BTT = (window - distance_TT).float().expand_as(real_BTT).masked_fill(~real_BTT, -torch.inf)
        tokens_BTT = labels_BT.clamp(min=0)[:, None, :].expand_as(real_BTT)
        empty_BTV = torch.full((*labels_BT.shape, vocabulary), -torch.inf, device=labels_BT.device)
        return empty_BTV.scatter_reduce(2, tokens_BTT, scores_BTT, "amax")
