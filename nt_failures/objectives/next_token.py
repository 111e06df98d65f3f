"""Next-token prediction by teacher forcing: the baseline, and what fails on path-star graphs."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import IGNORE, Example, join
from nt_failures.objectives.base import Objective
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class NextToken(Objective):
    """Predict each target token from the prefix and the TRUE earlier target tokens.

    For the prefix `... 32 12 =` and the target `32 34 6 16 12`:

        input_ids   ...   32   12    =   32   34    6   16   12
        labels      ... -100 -100 -100   32   34    6   16   12     (the model shifts)

    loss = `- sum_i log p(r_i | x, r_<i)`, the standard loss of causal LMs on completions only (arXiv 2403.06963).
    Equal to the authors' code in both orders (golden): layouts token for token, loss and gradient.
    The true earlier tokens let a model look up every later node as the only child of the one before, the cheat.
    `order="reversed"` trains on `12 16 6 34 32`, where every token is a look-up.
    Relations: `teacherless` hides the earlier tokens; `hybrid` and `masked_teacher` mix both. Needs: nothing.

    Args:
        positions: train on these positions of the answer alone, from 1 in the task's own order; `(2,)` is the decision.
            None for all.

    Example:
        >>> from nt_failures import NextToken
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> NextToken(positions=(2,)).collate(rows)["labels"].tolist()
        [[-100, -100, -100, 8, -100]]
    """

    positions: tuple[int, ...] | None = option(None, least=1, whole=True, several=True)

    citation = "Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, ICML 2024, arXiv 2403.06963"

    @property
    def trained_positions(self) -> tuple[int, ...] | None:
        return self.positions

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        labels_BT = parts["target_ids"]
        if self.positions is not None:
            chosen_BT = torch.isin(parts["target_positions"], torch.tensor(self.positions))
            if not chosen_BT.any():
                raise ValueError(f"no target token stands at positions {self.positions}; the answer is shorter.")
            labels_BT = labels_BT.where(chosen_BT, IGNORE)
        return join(parts, parts["target_ids"], labels_BT, self.pad_token_id)
