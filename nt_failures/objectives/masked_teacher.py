"""Masked teacher: each revealed target token is hidden with some rate, by a dummy or by a random token."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import IGNORE, Example, join
from nt_failures.objectives.base import Objective
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class MaskedTeacher(Objective):
    """Predict each target token from the prefix and those earlier target tokens that are not hidden.

    The target `32 34 6 16 12` with a drawn rate of 0.4; below it as one span, and with random tokens for dummies:

        input_ids   ...   12    =   32    $    6   16    $
                    ...   12    =   32   34    $    $   12     spans=True
                    ...   12    =   32    8    6   16   21     replaced=1.0
        labels      ... -100 -100   32   34    6   16   12     (the model shifts)

    loss = `- sum_i log p(r_i | x, r_<i as shown)`. The default, a rate drawn from U(0, 1) for each row under a causal
    model, is ours. It stands between arXiv 2503.10542, which hides teacher tokens of a causal model behind a mask or
    random tokens, token by token or in spans, at given rates (known to us second-hand, so neither its rates nor how it
    draws spans), and arXiv 2406.05183, which draws how many are hidden uniformly but lets the model see later tokens
    (`uniform_mask`). `rate`, `spans` and `replaced` offer the former; their details, said below, are ours.
    Relations: rate 0 is `next_token`, rate 1 is `teacherless`; all distances between occur. Needs: nothing.

    Args:
        rate: chance, 0..1, that an input token of the target is hidden; None draws it uniformly for each row.
        spans: hide one run of neighbouring tokens in each row, placed uniformly, as long as the rate times the target,
            rounded up or down at random so that this holds on average.
        parallel: decode, and judge, in one pass with all tokens hidden; otherwise token by token.
        replaced: chance, 0..1, that a hidden token is a random token instead of the dummy. At 1 a dummy is seen in
            training only where it is drawn, and `parallel` decoding means little.
        vocabulary: random tokens are drawn uniformly from the ids below it, separators, dummy and padding included (the
            source's vocabulary is the nodes); `from_tokenizer` gives the tokenizer's size.

    Example:
        >>> from nt_failures import MaskedTeacher
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> MaskedTeacher(rate=1.0, dummy_token_id=13).collate(rows)["input_ids"].tolist()
        [[1, 2, 13, 13, 13]]
    """

    rate: float | None = option(None, most=1)
    spans: bool = False
    parallel: bool = False
    replaced: float = option(0.0, most=1)
    vocabulary: int | None = option(None, least=1, whole=True)

    extra_tokens = {"$": "dummy_token_id"}
    decodings = ("autoregressive", "parallel")
    citation = (
        "ours, after Frydenlund, Language Models, Graph Searching, and Supervision Adulteration, ACL 2025, "
        "arXiv 2503.10542, and Kitouni et al., The Factorization Curse, NeurIPS 2024, arXiv 2406.05183"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parallel:
            object.__setattr__(self, "decodings", self.decodings[::-1])
        if self.replaced and self.vocabulary is None:
            given = f"replaced={self.replaced} draws random tokens"
            raise ValueError(f"{given} and was given no vocabulary; build it with .from_tokenizer(tokenizer).")

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        rows = len(target_BT)
        rate_B1 = torch.rand(rows, 1) if self.rate is None else torch.full((rows, 1), float(self.rate))
        hidden_BT = _one_run(rate_B1, target_BT.ne(IGNORE)) if self.spans else torch.rand(target_BT.shape) < rate_B1
        shown_BT = target_BT.masked_fill(hidden_BT, self.dummy_token_id)
        if self.replaced:
            random_BT = torch.randint(self.vocabulary, target_BT.shape)
            shown_BT = random_BT.where(hidden_BT & (torch.rand(target_BT.shape) < self.replaced), shown_BT)
        return join(parts, shown_BT, target_BT, self.pad_token_id)


def _one_run(rate_B1: Tensor, real_BT: Tensor) -> Tensor:
    """One run of neighbouring columns in each row, of `rate` times its columns on average, (B, T) booleans."""
    columns_B1 = real_BT.sum(dim=1, keepdim=True)
    wanted_B1 = rate_B1 * columns_B1
    length_B1 = wanted_B1.floor() + (torch.rand(rate_B1.shape) < wanted_B1.frac())
    start_B1 = (torch.rand(rate_B1.shape) * (columns_B1 - length_B1 + 1)).floor()
    places_T = torch.arange(real_BT.shape[1])
    return (places_T >= start_B1) & (places_T < start_B1 + length_B1)
