"""Hybrid: one part of each batch teacherless, the rest next-token."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import Example, join
from nt_failures.objectives.base import Objective
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class Hybrid(Objective):
    """Train the first `share` of every batch teacherless and the rest next-token, with one model.

    A batch of two with share 0.5, the target `32 34 6 16 12` in both:

        input_ids   ... 12    =    $    $    $    $    $      labels   ... -100   32   34    6   16   12
                    ... 12    =   32   34    6   16   12               ... -100   32   34    6   16   12

    loss = the sum of both losses. Both decodings work. How the forms are mixed is ours, a variant of arXiv 2504.15266:
    the authors' public code trains on fixed copies of each row, one next-token to three teacherless on two of its tasks
    (circle and line construction; share 0.75 here), adds a teacherless copy with chance 0.5 on a third (triangle
    discovery), and rows with a single label on the fourth (sibling discovery). Here each row of a batch has one form,
    the split of a batch is exact, and only the fraction of a row that is left over is drawn, from torch's generator.
    The split goes by place in the batch, so the examples must come shuffled or fresh.
    Relations: share 0 is `next_token`, share 1 is `teacherless`. Needs: nothing.

    Args:
        share: part of the batch that is teacherless, 0..1; the default 0.5 is ours.
        parallel: decode, and judge, in one pass with dummies for all tokens; otherwise token by token.

    Example:
        >>> from nt_failures import Hybrid
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}] * 2
        >>> Hybrid(share=0.5, dummy_token_id=13).collate(rows)["input_ids"].tolist()
        [[1, 2, 13, 13, 13], [1, 2, 7, 8, 9]]
    """

    share: float = option(0.5, most=1)
    parallel: bool = False

    extra_tokens = {"$": "dummy_token_id"}
    decodings = ("autoregressive", "parallel")
    citation = "ours, after Nagarajan et al., Roll the dice & look before you leap, ICML 2025, arXiv 2504.15266"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parallel:
            object.__setattr__(self, "decodings", self.decodings[::-1])

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        teacherless = int(self.share * len(target_BT) + float(torch.rand(())))  # a part of a row is drawn
        hidden_B1 = torch.arange(len(target_BT))[:, None] < teacherless
        shown_BT = target_BT.masked_fill(hidden_B1, self.dummy_token_id)
        return join(parts, shown_BT, target_BT, self.pad_token_id)
