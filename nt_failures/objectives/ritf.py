"""Ranking into the future: each state ranks the rest of the target, in order, above the other nodes of the prompt."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE, Example, join
from nt_failures.objectives.base import Objective, target_logits
from nt_failures.objectives.extra_loss import weighed
from nt_failures.objectives.losses import Batch, Loss, at_least_float32, upcoming
from nt_failures.objectives.options import option

_MARKS = "\u0120\u2581\u010a"
"""What byte-level and SentencePiece tokenizers write for blanks and line breaks; as characters two are letters."""


@dataclasses.dataclass(frozen=True)
class Ritf(Objective):
    """Rank, in each state, the target's remaining tokens in their order, and above the nodes of the other arms.

    For the prompt `32,3|3,19|32,34|34,6/32,6=` and the target `32 34 6`, whose other arm is `3 19`:

        input_ids   ..    6    =        32       34     6
        labels      .. -100 -100        32       34     6          (the model shifts)
        ranked              32>34>6     34>6     6                 future, hinge: 1 apart
        above               3 19        3 19     3 19              arms, each of the row above it

    loss of a row = sum over states i of future_i + arms_weight * arms_i + rest_weight * rest_i, z the next-token logits
    of state i:
        future_i = sum over i <= j < k <= T of max(0, 1 - (z[r_j] - z[r_k]))
        arms_i   = sum over i <= j <= T and the nodes v of the other arms of max(0, 1 - (z[r_j] - z[v]))
        rest_i   = sum over i <= j <= T of max(0, 1 - (z[r_j] - max z[u])), u all ids in neither of the two
    (ranking into the future, arXiv 2503.10542). It takes the cross-entropy's place; the mean is over rows. `future` is
    by the paper's formula, which we know second-hand, from notes on it, on raw logits; of `arms` they say only that the
    right arm ranks above the others, so its form is ours (golden numbers of both). `rest` is ours: without it nothing
    pushes down what was said already, separators and ids that are in no row, and greedy decoding picks those (the
    source's vocabulary is the nodes); `rest_weight=0` leaves it out.

    Which tokens are nodes of the other arms is read from the row, without a task: those of the prompt that are neither
    in the target nor `separators`. So the source, in every target, is none of them. Where a prompt holds other symbols
    than candidates for the answer, this ranks against these, too. Made for one token a node and targets that repeat
    none: a repeated token cannot be ranked before and behind itself.
    The tensors of the hinges are (B, T, T, T) and (B, T, T, P).

    The Trainer divides by labels: a row's loss is multiplied by its T labels, so rows of one length have the mean over
    rows, and rows of several lengths weigh by T, however batches are accumulated.
    Relations: inputs and decoding of `next_token`; `token_order` ranks with a second unembedding. Needs: nothing.

    Args:
        arms_weight, rest_weight: of the second and third sum; 0 leaves them out.
        separators: ids that are no nodes; `from_tokenizer` gives those of tokens without a letter or a digit, and the
            special ones.

    Example:
        >>> from nt_failures import Ritf
        >>> batch = Ritf(separators=(6,)).collate([{"prefix_ids": [1, 2, 6, 1, 3], "target_ids": [1, 3]}])
        >>> batch["labels"].tolist(), batch["other_ids"].tolist()
        ([[-100, -100, -100, -100, -100, 1, 3]], [[-100, 2, -100, -100, -100]])
    """

    arms_weight: float = option(1.0)
    rest_weight: float = option(1.0)
    separators: tuple[int, ...] = option((), whole=True, several=True)

    citation = "Frydenlund, Language Models, Graph Searching, and Supervision Adulteration, ACL 2025, arXiv 2503.10542"

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, **options: Any) -> "Ritf":
        if "separators" not in options:
            special = {*tokenizer.all_special_ids}
            ids = {i for token, i in tokenizer.get_vocab().items() if not any(map(str.isalnum, token.strip(_MARKS)))}
            options["separators"] = tuple(sorted(ids | special))
        return super().from_tokenizer(tokenizer, **options)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        batch = join(parts, parts["target_ids"], parts["target_ids"], self.pad_token_id)
        return batch | {"other_ids": self._other_ids(parts)}

    def _other_ids(self, parts: dict[str, Tensor]) -> Tensor:
        """The prompt's tokens (B, P) that belong to the other arms, each where it first stands; else -100."""
        ids_BP, real_BP = parts["prefix_ids"], parts["prefix_mask"].bool()
        in_target_BP = (ids_BP[:, :, None] == parts["target_ids"][:, None, :]).any(dim=2)
        same_BPP = (ids_BP[:, :, None] == ids_BP[:, None, :]) & real_BP[:, None, :]
        again_BP = same_BPP.tril(diagonal=-1).any(dim=2)
        separates_BP = torch.isin(ids_BP, torch.tensor(self.separators, dtype=ids_BP.dtype))
        return ids_BP.where(real_BP & ~in_target_BP & ~again_BP & ~separates_BP, IGNORE)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        logits_BTV, labels_BT = target_logits(model, batch)
        logits_BTV = at_least_float32(logits_BTV)
        length = labels_BT.shape[1]
        columns_T = torch.arange(length, device=labels_BT.device)
        counted_BT = labels_BT.ne(IGNORE)
        to_come_BTT = (columns_T[:, None] <= columns_T) & counted_BT[:, None, :]  # i <= j
        own_BTT = _scores(logits_BTV, labels_BT)
        later_TT = columns_T[:, None] < columns_T  # j < k
        ranked_BTTT = to_come_BTT[:, :, :, None] & later_TT & counted_BT[:, None, None, :]
        future_B = _hinges(own_BTT, own_BTT, ranked_BTTT)
        other_BP = batch["other_ids"]
        ranked_BTTP = to_come_BTT[:, :, :, None] & other_BP.ne(IGNORE)[:, None, None, :]
        arms_B = _hinges(own_BTT, _scores(logits_BTV, other_BP), ranked_BTTP)
        rest_BT1 = _rest(logits_BTV, labels_BT, other_BP).amax(dim=-1, keepdim=True)
        rest_B = _hinges(own_BTT, rest_BT1, to_come_BTT[:, :, :, None])
        rows = {"future": (1.0, future_B), "arms": (self.arms_weight, arms_B), "rest": (self.rest_weight, rest_B)}
        lengths_B = counted_BT.sum(dim=1)
        terms = {name: (weight, (lengths_B * values_B).sum()) for name, (weight, values_B) in rows.items()}
        return weighed(terms, labels_BT)


def _scores(logits_BTV: Tensor, ids_BN: Tensor) -> Tensor:
    """Logits (B, T, N) that each state gives these ids; those of -100 mean nothing."""
    ids_BTN = ids_BN.clamp(min=0)[:, None, :].expand(-1, logits_BTV.shape[1], -1)
    return logits_BTV.gather(2, ids_BTN)


def _rest(logits_BTV: Tensor, labels_BT: Tensor, other_BP: Tensor) -> Tensor:
    """The logits (B, T, V), -inf for tokens that are still to come and for those of the other arms."""
    vocabulary = logits_BTV.shape[-1]
    others_BV = torch.zeros(len(other_BP), vocabulary, device=other_BP.device)
    others_BV = others_BV.scatter_reduce(1, other_BP.clamp(min=0), other_BP.ne(IGNORE).float(), "amax")
    ranked_BTV = upcoming(labels_BT, vocabulary).isfinite() | others_BV.bool()[:, None, :]
    return logits_BTV.masked_fill(ranked_BTV, -torch.inf)


def _hinges(higher_BTJ: Tensor, lower_BTK: Tensor, counted_BTJK: Tensor) -> Tensor:
    """For each row the sum over the counted pairs of max(0, 1 - (higher - lower)), (B,)."""
    distance_BTJK = higher_BTJ[:, :, :, None] - lower_BTK[:, :, None, :]
    return F.relu(1 - distance_BTJK).where(counted_BTJK, 0).sum(dim=(1, 2, 3))
