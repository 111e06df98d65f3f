"""What the losses of several objectives are made of: one forward pass, cross-entropies, means by row, the unembedding.

Shapes: B rows, S columns of the input, T target columns, D hidden size, V vocabulary.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F
from transformers.utils import ModelOutput

from nt_failures.data.batches import IGNORE, predicting
from nt_failures.objectives.auxiliary_modules import unwrap_model


class VocabularyHead(torch.nn.Linear):
    """A linear layer from hidden states to the vocabulary; AdamW trains it beside Muon, as it does the unembedding."""


def unembed(model: torch.nn.Module, states: torch.Tensor, frozen: bool = False) -> torch.Tensor:
    """Logits (..., V) of hidden states (..., D), by the model's own unembedding; `frozen` sends it no gradient.

    What a few families put behind it is left out: a scale (granite, cohere) or a soft cap (gemma2).
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
    """the labels' first column in the batch; the state at `first - 1 + i` predicts label i"""


def forward_pass(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> ForwardPass:
    """Logits and hidden states of a collated batch."""
    labels = batch["labels"]
    inputs, first = predicting(batch)
    found = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=labels.shape[1] - first)
    return ForwardPass(found.logits, labels[:, first:], last_states(model, found), first)


def last_states(model: torch.nn.Module, found: ModelOutput) -> torch.Tensor:
    """Last hidden states in the type of the weights: a Mamba in bfloat16 has them, and autocast gives them, in float32."""
    return found.hidden_states[-1].to(unwrap_model(model).dtype)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, summed over the labels that are not -100."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="sum")


def row_mean_sum(values_BN: torch.Tensor, counted_BN: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each row's mean over its counted values, times its number of labels, summed over the rows.

    A term with another number of items than there are labels stays a mean of its own that way, whatever the batch or
    process a row falls into.
    """
    items_B = counted_BN.sum(dim=1).clamp(min=1)
    means_B = values_BN.where(counted_BN, 0).sum(dim=1) / items_B
    return (means_B * labels.ne(IGNORE).sum(dim=1)).sum()
