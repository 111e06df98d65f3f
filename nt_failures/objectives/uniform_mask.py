"""Uniform mask: a uniformly drawn number of target tokens is hidden, and predicted from all others on both sides."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example
from nt_failures.objectives.decoding import Prefix, answer_columns
from nt_failures.objectives.losses import Batch, Loss, label_count
from nt_failures.objectives.two_sided import TwoSided, drawn_columns


@dataclasses.dataclass(frozen=True)
class UniformMask(TwoSided):
    """Hide k of the T target tokens, k uniform in 1 .. T, and predict each in its own column (MLM-U).

    The target `32 34 6 16 12`, of which k = 2 were drawn, attention in both directions:

        input_ids   ...   12    =   32    $    6   16    $
        labels      ... -100 -100   32   34    6   16   12     (in their own columns; the model shifts nothing)
        weight                       0  5/2    0    0  5/2

    loss of a row = T / k * sum over the hidden tokens of - log p(r_i | x, the tokens not hidden), by the paper's
    formula (golden): arXiv 2406.05183, eq. 5, whose expectation is the log-likelihood averaged over all orders. The
    paper's mean over rows is divided by T here, as every loss of this library is a mean per target token; rows that
    differ in length weigh by their length, in one batch and under gradient accumulation alike.
    Decoding is left to right, one pass a token, greedy, with the later columns hidden, as in the star-graph recipe of
    the same group (arXiv 2412.05117). That recipe also hides prompt tokens and predicts them, and has an encoder over
    the visible tokens with a decoder of position queries; here it is the model itself, and the prompt is shown. It
    cannot be decoded by stock `generate`.
    Relations: `masked_diffusion` predicts one column earlier, weighs by time and re-masks; `masked_teacher` stays
    causal; k = T is `teacherless` with attention in both directions. Needs: a 4-D mask, attention in both directions.

    Example:
        >>> from nt_failures import UniformMask
        >>> batch = UniformMask(dummy_token_id=13).collate([{"prefix_ids": [1, 2], "target_ids": [7]}])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist(), batch["hidden"].tolist()
        ([[1, 2, 13]], [[-100, -100, 7]], [[True]])
    """

    stock = False
    citation = (
        "Kitouni et al., The Factorization Curse: Which Tokens You Predict Underlie the Reversal Curse and More, "
        "NeurIPS 2024, arXiv 2406.05183; Nolte et al., Transformers Can Navigate Mazes With Multi-Step Prediction, "
        "arXiv 2412.05117"
    )

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        real_BT = target_BT.ne(IGNORE)
        hidden_B1 = 1 + (torch.rand(len(target_BT), 1) * real_BT.sum(dim=1, keepdim=True)).long()  # k
        return self.hidden_batch(parts, drawn_columns(real_BT, hidden_B1), target_BT)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        hidden_BT = batch["hidden"]
        nats_BT, labels_BT = self.target_nats(model, batch)
        weight_B = labels_BT.ne(IGNORE).sum(dim=1).to(nats_BT.dtype) / hidden_BT.sum(dim=1)
        return Loss((weight_B * nats_BT.where(hidden_BT, 0).sum(dim=1)).sum(), label_count(labels_BT), {})

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        return self.left_to_right(model, prefix, answer_columns(lengths_B))
