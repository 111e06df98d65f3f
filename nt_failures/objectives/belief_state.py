"""Belief state: a forward and a backward encoder predict, for every gap in the target, the token at each end."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, first_label, join, reverse_rows
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.objectives.decoding import Prefix, by_forcing, greedy, revealing_inputs
from nt_failures.objectives.extra_loss import Terms, weighed
from nt_failures.objectives.losses import (
    Batch,
    Loss,
    VocabularyHead,
    at_least_float32,
    row_mean_sum,
    states_of_pass,
    token_nats,
)
from nt_failures.objectives.options import option

# Shapes beyond base.py's: N pairs of a row, D hidden size. A pair is (tokens that F has read, tokens that B has read).

END = -1
"""Label of the end symbol, which has no id in the tokenizer: the last row of the head's unembedding."""


class PairHead(nn.Module):
    """From the states at both ends of a gap to the logits of its first and last token; no biases.

    x = [forward; backward], x = RMSNorm(x + down(silu(gate) * up)) with [gate; up] of x; its first half is unembedded
    to the next token, its second to the previous one, by one matrix that is tied with no embedding.
    """

    def __init__(self, width: int, inner: int, tokens: int):
        super().__init__()
        self.gate_up = nn.Linear(2 * width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, 2 * width, bias=False)
        self.norm = nn.RMSNorm(2 * width, eps=1e-5)
        self.unembedding = VocabularyHead(width, tokens, bias=False)

    def forward(self, before: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., V + 1) of the token behind `before` and of the one in front of `behind`, both (..., D)."""
        x = torch.cat([before, behind], dim=-1)
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        following, previous = self.norm(x + self.down(F.silu(gate) * up)).chunk(2, dim=-1)
        return at_least_float32(self.unembedding(following)), at_least_float32(self.unembedding(previous))

    @staticmethod
    def inner_width(width: int) -> int:
        """The source's rule, 16/3 of the width in whole 128s; at least 128 (ours), where the source would have 0."""
        return max(128, 128 * round(16 * width / 3 / 128))


@dataclasses.dataclass(frozen=True)
class BeliefState(Objective):
    """Predict both ends of every gap between what stands before it and what stands behind it.

    The forward encoder F reads the prefix and i target tokens, the backward encoder B the end symbol E and the last k
    target tokens, backwards. For the target `32 34 6 16 12` (inputs and labels are those of `next_token`):

        input_ids   ...   12    =   32   34    6   16   12    E
        labels      ... -100 -100   32   34    6   16   12

        i k   F has read      B has read    next, previous label
        0 0   .. =            E             32, 12
        1 2   .. = 32         E 12 16       34, 6
        1 3   .. = 32         E 12 16 6     34, 34

    For the states F_i and B_k: loss = mean over rows of the mean over a row's pairs of
    (- log p(next | F_i, B_k) - log p(previous | F_i, B_k)) / 2 (arXiv 2410.23506, eq. 2). The pairs are all with
    i + k <= T + 1 - minimum_gap, 15 here. F is the model, B a trunk of its kind with as many layers, which reads the
    model's token embedding; the head is `PairHead`, its matrices start at N(0, 0.02).
    Equal to the authors' code (golden): loss, gradients, labels, decoding logits.

    E ends the row for B alone (F reads none in the source either): an embedding and a row of the unembedding of its
    own, no id of the tokenizer. Rows of one length weigh alike, as in the source; else a row weighs by its length, so
    that a batch may be cut anywhere. The model's own unembedding is not used; where it is tied to no embedding it is
    frozen. Decoding is token by token by the head's next half, B having read E alone; E is never chosen, as the length
    is given. So the stock checkpoint alone does not decode.
    Relations: inputs and labels of `next_token`, which predicts from F alone. Needs: nothing.

    Args:
        minimum_gap: from 1, columns from F's last token to B's last; 2, of the source's star graphs, leaves one
            token between them at least. The source's own default is 1.
        adjacent: what a gap of 1 without a token in it is trained on: `"end"`, both labels E (the source's default), or
            `"tokens"`, the ones that the other encoder has just read.
        pair_fraction: share of a row's pairs, drawn anew for each batch (ours, 1 in the source): memory and time.

    Example:
        >>> from nt_failures import BeliefState
        >>> batch = BeliefState().collate([{"prefix_ids": [1, 2], "target_ids": [7, 8]}])
        >>> batch["pairs"].tolist(), batch["pair_labels"].tolist()
        ([[[0, 0], [0, 1], [1, 0]]], [[[7, 8], [7, 7], [8, 8]]])
    """

    minimum_gap: int = option(2, least=1, whole=True)
    adjacent: str = option("end", choices=("end", "tokens"))
    pair_fraction: float = option(1.0, most=1, above=True)

    VERSION: ClassVar[int] = 2
    stock = False
    citation = "Hu et al., The Belief State Transformer, ICLR 2025, arXiv 2410.23506"

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        head = PairHead(width, PairHead.inner_width(width), model.config.vocab_size + 1)
        backward = auxiliary_modules.encoder_like(model, layers=model.config.num_hidden_layers)
        auxiliary_modules.attach(model, end=nn.Embedding(1, width), backward=backward, pair=head)
        for weight in (head.gate_up.weight, head.down.weight, head.unembedding.weight):
            nn.init.normal_(weight, std=0.02)
        if (own := model.get_output_embeddings()).weight is not model.get_input_embeddings().weight:
            own.requires_grad_(False)  # data parallelism waits for the gradient of every other parameter

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        lengths_B = target_BT.ne(IGNORE).sum(dim=1)
        pairs_BN2 = self._pairs(lengths_B)
        # What stands behind i tokens, and in front of the last k: in the row `= r_1 .. r_T END`.
        following = F.pad(target_BT, (0, 1), value=IGNORE).scatter(1, lengths_B[:, None], END)
        from_equals = torch.cat([parts["prefix_ids"][:, -1:], target_BT], dim=1)
        previous = reverse_rows(from_equals, from_equals)
        read_BN2 = pairs_BN2.clamp(min=0)
        ends = (following.gather(1, read_BN2[..., 0]), previous.gather(1, read_BN2[..., 1]))
        labels_BN2 = torch.stack(ends, dim=-1).where(pairs_BN2.ne(IGNORE), IGNORE)
        if self.adjacent == "end":
            labels_BN2[pairs_BN2.sum(dim=-1) == lengths_B[:, None]] = END
        return batch | {"pairs": pairs_BN2, "pair_labels": labels_BN2}

    def _pairs(self, lengths_B: Tensor) -> Tensor:
        """Pairs (B, N, 2) of each row, -100 where it has fewer than another."""
        most_B = lengths_B + 1 - self.minimum_gap
        most = int(most_B.max())
        if most < 0:
            wide = f"minimum_gap={self.minimum_gap} is wider than every target of this batch"
            raise ValueError(
                f"{wide}; the longest has {int(lengths_B.max())} tokens; give at most {int(lengths_B.max()) + 1}."
            )
        pairs_N2 = torch.tensor([(i, k) for i in range(most + 1) for k in range(most + 1 - i)])
        inside_BN = pairs_N2.sum(dim=1) <= most_B[:, None]
        pairs_BN2 = pairs_N2.expand(len(lengths_B), -1, -1).where(inside_BN[:, :, None], IGNORE)
        if self.pair_fraction == 1:
            return pairs_BN2
        order_BN = torch.rand(inside_BN.shape).masked_fill(~inside_BN, torch.inf).argsort(dim=1)
        drawn_B = (self.pair_fraction * inside_BN.sum(dim=1)).ceil().long()
        order_BN = order_BN[:, : math.ceil(self.pair_fraction * len(pairs_N2))]
        kept_BN = torch.arange(order_BN.shape[1]) < drawn_B[:, None]
        return pairs_BN2.gather(1, order_BN[:, :, None].expand(-1, -1, 2)).where(kept_BN[:, :, None], IGNORE)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        labels_BT = batch["labels"][:, first_label(batch) :]
        most = labels_BT.shape[1] + 1 - self.minimum_gap
        before = self._before(model, batch, most)
        read_BN2 = batch["pairs"].clamp(min=0)[:, :, None].expand(-1, -1, before.shape[-1], -1)
        before = before.gather(1, read_BN2[..., 0])
        behind = self._behind(model, reverse_rows(labels_BT, labels_BT)[:, :most]).gather(1, read_BN2[..., 1])
        terms: Terms = {}
        for i, (name, logits) in enumerate(
            zip(("next_token", "previous_token"), self.ends(model, before, behind), strict=True)
        ):
            tokens = batch["pair_labels"][..., i]
            tokens = tokens.where(tokens.ne(END), logits.shape[-1] - 1)
            terms[name] = (0.5, row_mean_sum(token_nats(logits, tokens), tokens.ne(IGNORE), labels_BT))
        return weighed(terms, labels_BT)

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        return by_forcing(lambda shown_BT: self.predict_forced(model, prefix, shown_BT), lengths_B)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        inputs = revealing_inputs(*prefix, shown_BT)
        before = states_of_pass(model, **inputs)[:, -shown_BT.shape[1] :]
        nothing = self._behind(model, inputs["input_ids"][:, :0])  # that is known of what comes behind a token
        logits_BTV = self.ends(model, before, nothing.expand_as(before))[0][..., :-1]
        return greedy(logits_BTV, shown_BT)

    @staticmethod
    def _before(model: torch.nn.Module, batch: Batch, most: int) -> Tensor:
        """States (B, most + 1, D) of the model after the prefix and 0, 1, .. target tokens."""
        start = first_label(batch) - 1
        names = [name for name in ("input_ids", "attention_mask", "position_ids") if name in batch]
        inputs = {name: batch[name][:, : start + most + 1] for name in names}
        return states_of_pass(model, **inputs)[:, start:]

    @staticmethod
    def _behind(model: torch.nn.Module, backwards: Tensor) -> Tensor:
        """States (B, K + 1, D) of the backward encoder after the end symbol and 0, 1, .. of these tokens (B, K)."""
        modules, inner = auxiliary_modules.modules_of(model), auxiliary_modules.unwrap_model(model)
        end = modules["end"].weight[None].expand(len(backwards), -1, -1)
        tokens = inner.get_input_embeddings()(backwards.clamp(min=0))
        embedded = torch.cat([end, tokens.to(end.dtype)], dim=1)
        states = modules["backward"](inputs_embeds=embedded, use_cache=False).last_hidden_state
        return states.to(inner.dtype)

    @staticmethod
    def ends(model: torch.nn.Module, before: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., V + 1) of a gap's first and last token; the last row is the end symbol's."""
        return auxiliary_modules.modules_of(model)["pair"](before, behind)
