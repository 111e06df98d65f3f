"""Base of the objectives that train on the next token and on further terms beside it."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nt_failures.data.batches import Example, join
from nt_failures.objectives.base import Objective
from nt_failures.objectives.losses import Batch, ForwardPass, Loss, cross_entropy, forward_pass, label_count

Terms = dict[str, tuple[float, Tensor]]
"""Terms of a loss by their names in the log: the weight, and the sum over the labels."""


class TeacherForced(Objective):
    """The inputs and labels of `next_token`, for a loss that reads hidden states."""

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        return join(parts, parts["target_ids"], parts["target_ids"], self.pad_token_id)

    @abc.abstractmethod
    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        """As in `Objective`."""


class ExtraLoss(TeacherForced):
    """Teacher forcing with further terms of the loss."""

    whole_row: ClassVar[bool] = False
    """whether the target's last token is read, too, so that it has a state"""

    def forward_pass(self, model: torch.nn.Module, batch: Batch) -> ForwardPass:
        """What the next token and `extra_losses` are computed from."""
        return forward_pass(model, batch, self.whole_row)

    @abc.abstractmethod
    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        """The terms beside the next token's cross-entropy."""

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        output = self.forward_pass(model, batch)
        next_token = cross_entropy(output.logits_BTV, output.labels_BT)
        terms = {"next_token": (1.0, next_token), **self.extra_losses(model, output, batch)}
        return weighed(terms, output.labels_BT)


def weighed(terms: Terms, labels_BT: Tensor) -> Loss:
    """The terms times their weights, added up; the log gets each without its weight."""
    total = torch.stack([weight * term for weight, term in terms.values()]).sum()
    return Loss(total, label_count(labels_BT), {name: term for name, (_, term) in terms.items()})
