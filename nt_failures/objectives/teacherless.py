"""Teacherless training: every revealed target token is replaced by a dummy, all are predicted at once."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import Example, join
from nt_failures.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class Teacherless(Objective):
    """Predict all target tokens from the prefix alone.

    For the prefix `... 32 12 =` and the target `32 34 6 16 12`:

        input_ids   ...   32   12    =    $    $    $    $    $
        labels      ... -100 -100 -100   32   34    6   16   12     (the model shifts)

    loss = - sum_i log p(r_i | x, $ ... $) (arXiv 2403.06963). Equal to the authors' code (golden): layouts token for
    token, loss and gradient. There is nothing to cheat with; in exchange the whole answer must be planned at once.
    Decoding is the same single pass.
    Relations: `masked_teacher` with rate 1, `hybrid` with share 1. Needs: nothing.

    Example:
        >>> from nt_failures import Teacherless
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> Teacherless(dummy_token_id=13).collate(rows)["input_ids"].tolist()
        [[1, 2, 13, 13, 13]]
    """

    extra_tokens = {"$": "dummy_token_id"}
    decodings = ("parallel",)
    citation = "Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, ICML 2024, arXiv 2403.06963"

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        dummies_BT = torch.full_like(parts["target_ids"], self.dummy_token_id)
        return join(parts, dummies_BT, parts["target_ids"], self.pad_token_id)
