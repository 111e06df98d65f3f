"""Building blocks of the objectives' losses: forward passes, cross-entropies, means by row, the unembedding.

Shapes: B rows, S columns of the input, T target columns, D hidden size, V vocabulary.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F
from transformers.utils import ModelOutput

from nt_failures.data.batches import IGNORE, predicting
from nt_failures.models.attention_masks import additive
from nt_failures.objectives.auxiliary_modules import unwrap_model

Batch = Mapping[str, torch.Tensor]
"""What `Objective.collate` returns."""


class VocabularyHead(torch.nn.Linear):
    """A linear layer from hidden states to the vocabulary; AdamW trains it beside Muon, as it does the unembedding."""


def unembed(model: torch.nn.Module, states: torch.Tensor, frozen: bool = False) -> torch.Tensor:
    """Logits (..., V) of hidden states (..., D), by the model's own unembedding; `frozen` sends it no gradient.

    A scale (granite, cohere) or a soft cap (gemma2) behind the unembedding is left out.
    """
    head = unwrap_model(model).get_output_embeddings()
    states = states.to(head.weight.dtype)
    if not frozen:
        return head(states)
    weights = {name: weight.detach() for name, weight in head.named_parameters()}
    return torch.func.functional_call(head, weights, (states,))


class ForwardPass(NamedTuple):
    """One forward pass over prefix | target without the last column."""

    logits_BTV: torch.Tensor
    """of the labelled columns: column i predicts label i"""
    labels_BT: torch.Tensor
    """labels of these columns, -100 where there is none"""
    states_BSD: torch.Tensor
    """last hidden states after the final norm, of all columns, in the type of the model's weights"""
    first: int
    """the labels' first column in the batch"""

    @property
    def label_states_BTD(self) -> torch.Tensor:
        """The states that predict the labels: state i predicts label i."""
        return self.states_BSD[:, self.first - 1 :]


def forward_pass(model: torch.nn.Module, batch: Batch) -> ForwardPass:
    """Logits and hidden states of a collated batch."""
    labels = batch["labels"]
    inputs, first = predicting(batch)
    output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=labels.shape[1] - first)
    return ForwardPass(output.logits, labels[:, first:], last_states(model, output), first)


def last_states(model: torch.nn.Module, output: ModelOutput) -> torch.Tensor:
    """Last hidden states in the type of the weights; a Mamba in bfloat16, and autocast, return them in float32."""
    return output.hidden_states[-1].to(unwrap_model(model).dtype)


def masked_logits(model: torch.nn.Module, batch: Batch, seen_BSS: torch.Tensor, columns: int) -> torch.Tensor:
    """Logits (B, columns, V) of the last columns, from a forward pass in which column i attends to j if `seen_BSS[i, j]`."""
    return model(
        input_ids=batch["input_ids"],
        attention_mask=additive(seen_BSS, unwrap_model(model).dtype),
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=columns,
    ).logits


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, summed over the labels that are not -100."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="sum")


def token_nats(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (B, T) of each label in nats, 0 where it is -100."""
    return F.cross_entropy(logits_BTV.float().transpose(1, 2), labels_BT, ignore_index=IGNORE, reduction="none")


def label_count(labels: torch.Tensor) -> torch.Tensor:
    """How many labels there are (scalar)."""
    return labels.ne(IGNORE).sum()


def row_mean_sum(values_BN: torch.Tensor, counted_BN: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over a row's counted values x its number of labels, summed over rows; so the term does not depend on batching.

    Args:
        values_BN: any number N of values of each row.
        counted_BN: which of them count.
        labels: (B, T), -100 where there is none.
    """
    means_B = values_BN.where(counted_BN, 0).sum(dim=1) / counted_BN.sum(dim=1).clamp(min=1)
    return (means_B * labels.ne(IGNORE).sum(dim=1)).sum()


def upcoming(labels_BT: torch.Tensor, vocabulary: int, window: int | None = None, nearest: int = 1) -> torch.Tensor:
    """How soon each token comes after each state, (B, T, V): `window` - steps to its next occurrence, else -inf.

    Counted are the tokens from `nearest` to `window` steps ahead; the label of a state itself is 1 step ahead of it. A
    window beyond the labels is cut to their length T.
    """
    length = labels_BT.shape[1]
    window = min(window or length, length)
    columns_T = torch.arange(length, device=labels_BT.device)
    steps_TT = columns_T[None, :] - columns_T[:, None] + 1  # from state t to label column j
    counted_BTT = ((steps_TT >= nearest) & (steps_TT <= window)) & labels_BT.ne(IGNORE)[:, None, :]
    scores_BTT = (window - steps_TT).float().expand_as(counted_BTT).masked_fill(~counted_BTT, -torch.inf)
    tokens_BTT = labels_BT.clamp(min=0)[:, None, :].expand_as(counted_BTT)
    never_BTV = torch.full((*labels_BT.shape, vocabulary), -torch.inf, device=labels_BT.device)
    return never_BTV.scatter_reduce(2, tokens_BTT, scores_BTT, "amax")
