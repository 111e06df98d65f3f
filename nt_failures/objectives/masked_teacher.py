"""Masked teacher: each revealed target token is replaced by a dummy with some rate."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import Example, join
from nt_failures.objectives.base import Objective, option


@dataclasses.dataclass(frozen=True)
class MaskedTeacher(Objective):
    """Predict each target token from the prefix and those earlier target tokens that are not masked.

    The target `32 34 6 16 12` with a drawn rate of 0.4:

        input_ids   ...   12    =   32    $    6   16    $
        labels      ... -100 -100   32   34    6   16   12     (the model shifts)

    loss = - sum_i log p(r_i | x, masked r_<i). Uniform-rate masking is arXiv 2406.05183's, a fixed rate
    arXiv 2503.10542's; here the labels stay those of a causal LM, and the mask comes from torch's generator.
    Relations: rate 0 is `next_token`, rate 1 is `teacherless`; all distances between occur. Needs: nothing.

    Args:
        rate: chance, 0..1, that an input token of the target is masked; None draws it uniformly for each example.

    Example:
        >>> from nt_failures import MaskedTeacher
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> MaskedTeacher(rate=1.0, dummy_token_id=13).collate(rows)["input_ids"].tolist()
        [[1, 2, 13, 13, 13]]
    """

    rate: float | None = option(None, most=1)

    extra_tokens = ("$",)
    decodings = ("autoregressive", "parallel")
    citation = "Kitouni et al., The Factorization Curse, arXiv 2406.05183; arXiv 2503.10542"

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        rate_B1 = torch.rand(len(target_BT), 1) if self.rate is None else torch.full((len(target_BT), 1), self.rate)
        hidden_BT = torch.rand(target_BT.shape) < rate_B1
        shown_BT = target_BT.masked_fill(hidden_BT, self.dummy_token_id)
        return join(parts, shown_BT, target_BT, self.pad_token_id)
