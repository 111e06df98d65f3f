"""Future bag: beside the next token, predict which tokens come later, as a set."""

import dataclasses
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules, last_block
from nt_failures.objectives.base import target_logits
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import (
    Batch,
    ForwardPass,
    VocabularyHead,
    bag_nats,
    row_mean_sum,
    unembed,
    upcoming,
)
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class FutureBag(ExtraLoss):
    """Predict the next token, and beside it the set of the target tokens behind it.

    For the target `32 34 6 16 12` (inputs and labels are those of `next_token`):

        input_ids   ...   12          =       32      34    6   16   12
        labels      ... -100       -100       32      34    6   16   12
        bag                  34 6 16 12  6 16 12   16 12   12   {}

    loss = CE_next + weight * mean over the states of sum_v w(v) * BCE(b_v, v in bag), b = A h_t + a, a sum over the
    whole vocabulary (FSP-BoW, arXiv 2510.14751). The next token is left out: it could be looked up, and the head would
    learn the cheat.
    By the paper's formula (golden). Whether the last state, with its empty bag, counts there is not known to us, nor
    its head on path-star graphs (a linear one is ours), nor the values of its w, tf-idf.
    `FutureBag(states="first", next_token_in_bag=True, head="shared")` is the bag of words of the public code
    shoaibahmed/Next-Token-Failures, equal to it (golden): one bag of the whole target from the state of `=`; with
    `head="block"` its separate one. `semformer` has the same bag from the mean of its plan tokens' states.

    Where rows differ in length, a row weighs by its length, so that a batch may be cut anywhere; for rows of one length
    that is the mean over the batch's states.
    Relations: inputs and decoding of `next_token`; `token_order` keeps the order. Needs: nothing.

    Args:
        window: the paper's tau, how many tokens ahead the bag reaches, from 2; None for the whole target.
        weight: of the bag's loss; 1 in the paper.
        token_weights: w, a number from 0 for each id of the vocabulary; None for ones.
        states: which ones predict their bag: `"all"` of the target, those `"with_bag"`, or the `"first"`, that of `=`.
        next_token_in_bag: whether the token that a state predicts is in its bag.
        head: behind the state, `"linear"`, a layer of its own; `"shared"`, the model's unembedding; `"block"`, the
            same, on the state of a last block of its own beside the model's, behind the model's final norm.

    Example:
        >>> from nt_failures import FutureBag
        >>> FutureBag(window=1)
        Traceback (most recent call last):
        ValueError: window=1 must be a whole number from 2; the default is None.
        >>> FutureBag(window=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["input_ids"].tolist()
        [[1, 2, 7, 8, 9]]
    """

    window: int | None = option(None, least=2, whole=True)
    weight: float = option(1.0)
    token_weights: tuple[float, ...] | None = option(None, several=True)
    states: str = option("all", choices=("all", "with_bag", "first"))
    next_token_in_bag: bool = False
    head: str = option("linear", choices=("linear", "shared", "block"))

    VERSION: ClassVar[int] = 2
    citation = "Mahajan et al., Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries, arXiv 2510.14751"

    def attach(self, model: PreTrainedModel) -> None:
        given, tokens = self.token_weights, model.config.vocab_size
        if given is not None and len(given) != tokens:
            raise ValueError(f"token_weights has {len(given)} numbers; the model's vocabulary has {tokens} ids.")
        if self.head == "linear":
            auxiliary_modules.attach(model, bag=VocabularyHead(model.config.hidden_size, tokens))
        elif self.head == "block":
            auxiliary_modules.attach(model, block=last_block.new_block(model))

    def forward_pass(self, model: torch.nn.Module, batch: Batch) -> ForwardPass:
        if self.head != "block":
            return super().forward_pass(model, batch)
        blocks, norm = last_block.parts(model)
        with last_block.calls_of(blocks[-1]) as calls:
            logits_BTV, labels_BT = target_logits(model, batch)
        states_BSD = norm(last_block.states_of(auxiliary_modules.modules_of(model)["block"], *calls))
        return ForwardPass(logits_BTV, labels_BT, states_BSD, batch["labels"].shape[1] - labels_BT.shape[1])

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        states_BTD, labels_BT = output.label_states_BTD, output.labels_BT
        if self.states == "first":
            states_BTD = states_BTD[:, :1]
        if self.head == "linear":
            logits = auxiliary_modules.modules_of(model)["bag"](states_BTD)
        else:
            logits = unembed(model, states_BTD)
        nearest = 1 if self.next_token_in_bag else 2
        in_bag = upcoming(labels_BT, logits.shape[-1], self.window, nearest).isfinite()[:, : states_BTD.shape[1]]
        counted = in_bag.any(dim=-1) if self.states == "with_bag" else labels_BT[:, : states_BTD.shape[1]].ne(IGNORE)
        nats = bag_nats(logits, in_bag, self.token_weights)
        return {"bag": (self.weight, row_mean_sum(nats, counted, labels_BT))}
