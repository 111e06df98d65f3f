"""What the objectives share that show a model the batch of `next_token` and only add a loss on its hidden states."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from nt_failures.layout import Example, join
from nt_failures.objectives.base import Objective


class ExtraLoss(Objective):
    """Teacher forcing, as in `next_token`; what a subclass attaches and adds is dropped when it decodes."""

    needs: ClassVar[frozenset[str]] = frozenset({"hidden_states"})

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        parts = self.layout(examples)
        return join(parts, parts["target_ids"], parts["target_ids"], self.pad_token_id)
