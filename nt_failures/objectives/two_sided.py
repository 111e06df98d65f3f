"""Base of the objectives that hide target tokens and predict them from what stands on both sides.

Shapes: B rows, T target columns, V vocabulary.
"""

from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, join, position_ids
from nt_failures.models.attention_masks import full
from nt_failures.objectives.base import Objective
from nt_failures.objectives.decoding import Prefix
from nt_failures.objectives.losses import Batch, masked_logits, token_nats


class TwoSided(Objective):
    """Hidden target tokens are dummies in the input, and every column attends to all columns of its row."""

    shift: ClassVar[int] = 0
    """how many columns before its own a token is predicted"""
    vocabulary: ClassVar[int | None] = None
    """ids from here on are not decoded; None for all"""
    extra_tokens = {"$": "dummy_token_id"}
    needs = frozenset({"4d_mask", "bidirectional"})

    def hidden_batch(self, parts: dict[str, Tensor], hidden_BT: Tensor, labels_BT: Tensor) -> dict[str, Tensor]:
        """The batch of a `layout` whose target tokens are dummies where `hidden_BT`, and `hidden` itself."""
        shown_BT = parts["target_ids"].masked_fill(hidden_BT, self.dummy_token_id)
        batch = join(parts, shown_BT, labels_BT, self.pad_token_id)
        return batch | {"position_ids": position_ids(batch["attention_mask"]), "hidden": hidden_BT}

    def target_nats(self, model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropies (B, T) of the labels, 0 where there is none, and the labels."""
        columns = batch["hidden"].shape[1]  # all of them: torch.compile makes a graph for each number
        labels_BT = batch["labels"][:, -columns:]
        return token_nats(self.column_logits(model, batch, columns), labels_BT), labels_BT

    def column_logits(self, model: torch.nn.Module, batch: Batch, columns: int) -> Tensor:
        """Logits (B, columns, V) that predict the last columns of the batch."""
        kept = masked_logits(model, batch, full(batch["attention_mask"]), columns + self.shift)
        return kept[:, :columns]

    def target_pass(self, model: PreTrainedModel, prefix: Prefix, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of the target columns that show `ids_BT` and of which `real_BT` hold an answer."""
        mask = torch.cat([prefix[1], real_BT.to(prefix[1].dtype)], dim=1)
        ids = torch.cat([prefix[0], ids_BT], dim=1)
        batch = {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids(mask)}
        return self.column_logits(model, batch, ids_BT.shape[1])

    def left_to_right(
        self, model: PreTrainedModel, prefix: Prefix, real_BT: Tensor, shown_BT: Tensor | None = None
    ) -> Tensor:
        """Greedy predictions (B, T), one pass a column: earlier columns hold what was predicted, later ones dummies.

        With `shown_BT` (B, T) the earlier columns hold these tokens.
        """
        columns_T = torch.arange(real_BT.shape[1], device=real_BT.device)
        found_BT = torch.full(real_BT.shape, self.dummy_token_id, device=real_BT.device)
        for column in range(real_BT.shape[1]):
            earlier_BT = found_BT if shown_BT is None else shown_BT
            ids_BT = earlier_BT.where(real_BT & (columns_T < column), self.dummy_token_id)
            best_BT = self.target_pass(model, prefix, ids_BT, real_BT)[..., : self.vocabulary].argmax(dim=-1)
            found_BT = best_BT.where(columns_T == column, found_BT)
        return found_BT.where(real_BT, IGNORE)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        return self.left_to_right(model, prefix, shown_BT.ne(IGNORE), shown_BT)


def drawn_columns(real_BT: Tensor, numbers_B1: Tensor) -> Tensor:
    """Booleans (B, T): in each row this many of the real columns, drawn at random."""
    places_BT = torch.rand(real_BT.shape).masked_fill(~real_BT, 2.0).argsort(dim=1).argsort(dim=1)
    return places_BT < numbers_B1
