"""Teacherless training: every revealed target token is replaced by a dummy, all are predicted at once."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch

from nt_failures.data.batches import Example, join
from nt_failures.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class Teacherless(Objective):
    """Predict all target tokens from the prefix alone.

    For the prefix `... 32 12 =` and the target `32 34 6 16 12`:

        input_ids   ...   32   12    =    $    $    $    $    $
        labels      ... -100 -100 -100   32   34    6   16   12     (the model shifts)

    loss = - sum_i log p(r_i | x, $ ... $) (arXiv 2403.06963). No earlier target token is seen, so there is nothing to
    cheat with; in exchange the whole answer must be planned at once, and training is a lottery over seeds.
    Decoding is the same single pass. Relations: `masked_teacher` with rate 1, `hybrid` with share 1. Needs: nothing.
    """

    extra_tokens: ClassVar[tuple[str, ...]] = ("$",)
    decodings: ClassVar[tuple[str, ...]] = ("parallel",)
    citation: ClassVar[str] = "Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, ICML 2024, arXiv 2403.06963"

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        parts = self.layout(examples)
        dummies_BT = torch.full_like(parts["target_ids"], self.dummy_token_id)
        return join(parts, dummies_BT, parts["target_ids"], self.pad_token_id)
