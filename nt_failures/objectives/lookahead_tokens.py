"""Lookahead tokens: a later span of the answer is written into it ahead of time, between two tokens of its own."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import IGNORE, Example, join
from nt_failures.objectives.base import Objective
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class LookaheadTokens(Objective):
    """Next-token training on targets into half of which a later span was inserted, `<T> z </T>` (TRELAWNEY).

    The target `32 34 6 16 12`, its span `6 16` inserted behind the first token; below it the other half, as it is:

        input_ids   ...   12    =   32  <T>    6   16 </T>   34    6   16   12
        labels      ... -100 -100   32 -100    6   16 </T>   34    6   16   12     (the model shifts)

        input_ids   ...   12    =   32   34    6   16   12
        labels      ... -100 -100   32   34    6   16   12

    `r_1 .. r_d <T> r_k .. r_l </T> r_d+1 .. r_T` with 1 <= d < k <= l <= T: loss = - sum log p of each token but
    `<T>`, the standard loss (arXiv 2504.11336). That one has no loss, so that the model never writes it unasked.
    Decoding is plain: nothing is inserted, and forced predictions see none either. (The source also decodes behind a
    `<T>` that it inserts, with a span of the model's or the user's; that is not offered.)
    By the paper's description, second-hand: no code is known to us. Ours: d, then k, then l are drawn uniformly;
    positions count inside the target, so a target of one token stays as it is. That random later spans did better than
    fixed ones is reported, but not which those are, so there are none here.

    All rows of a batch are padded to the longest that can be drawn, 2 T + 1 columns of target: a step's cost and a
    compiled graph do not hang on the draws. The model needs positions for it (`added_columns`).
    Relations: chance 0 is `next_token`. Needs: nothing; the tokenizer gets two tokens.

    Args:
        chance: that a row gets a span, 0..1; 0.5 in the source.
        open_token_id, close_token_id: of `<T>` and `</T>`; `from_tokenizer` finds them.

    Example:
        >>> from nt_failures import LookaheadTokens
        >>> objective = LookaheadTokens(chance=1, open_token_id=15, close_token_id=16)
        >>> batch = objective.collate([{"prefix_ids": [1, 2], "target_ids": [7, 8]}])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist()
        ([[1, 2, 7, 15, 8, 16, 8]], [[-100, -100, 7, -100, 8, 16, 8]])
    """

    chance: float = option(0.5, most=1)
    open_token_id: int | None = option(None, whole=True)
    close_token_id: int | None = option(None, whole=True)

    extra_tokens = {"<T>": "open_token_id", "</T>": "close_token_id"}
    citation = "Thankaraj et al., Looking beyond the next token, arXiv 2504.11336"

    def added_columns(self, length: int) -> int:
        return length + 1

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        shown_BW = self.insert(parts["target_ids"])
        labels_BW = shown_BW.masked_fill(shown_BW.eq(self.open_token_id), IGNORE)
        # No token sees those behind it, so the mask need not hide the padding.
        filled_BW = shown_BW.masked_fill(shown_BW.eq(IGNORE), self.pad_token_id)
        return join({**parts, "target_ids": filled_BW}, filled_BW, labels_BW, self.pad_token_id)

    def insert(self, target_BT: Tensor) -> Tensor:
        """The targets, (B, 2 T + 1), -100 behind each; `chance` of them with a span behind their first d tokens."""
        length_B1 = target_BT.ne(IGNORE).sum(dim=1, keepdim=True)
        chosen_B1 = (torch.rand(length_B1.shape) < self.chance) & (length_B1 > 1)
        d_B1 = _draw(1, length_B1)
        first_B1 = _draw(d_B1, length_B1)  # of the span, in columns from 0
        end_B1 = _draw(first_B1 + 1, length_B1 + 1)
        close_B1 = d_B1 + 1 + end_B1 - first_B1
        columns_W = torch.arange(2 * target_BT.shape[1] + 1)
        behind_BW = columns_W - torch.where(columns_W > close_B1, close_B1 + 1 - d_B1, d_B1 + 1 - first_B1)
        source_BW = torch.where(chosen_B1 & (columns_W > d_B1), behind_BW, columns_W)
        inside_BW = source_BW < length_B1
        shown_BW = target_BT.gather(1, source_BW.where(inside_BW, 0)).where(inside_BW, IGNORE)
        for column_B1, token in ((d_B1, self.open_token_id), (close_B1, self.close_token_id)):
            shown_BW = shown_BW.masked_fill(chosen_B1 & (columns_W == column_B1), token)
        return shown_BW


def _draw(least: Tensor | int, end_B1: Tensor) -> Tensor:
    """A whole number from `least` up to but not including `end_B1`, uniformly in each row."""
    return least + (torch.rand(end_B1.shape) * (end_B1 - least)).long()
