"""Building blocks of the objectives' losses: forward passes, cross-entropies, means by row, the unembedding.

Shapes: B rows, S columns of the input, T target columns, D hidden size, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.utils import ModelOutput

from nt_failures.data.batches import IGNORE, predicting
from nt_failures.models.attention_masks import additive
from nt_failures.objectives.auxiliary_modules import unwrap_model

Batch = Mapping[str, Tensor]
"""What `Objective.collate` returns."""


class Loss(NamedTuple):
    """What `Objective.loss` returns. The Trainer divides sums by the items of the whole accumulated batch.

    `sum`, a scalar with gradient, is over the counted items of this batch; `count`, a scalar, are these items, always
    the number of labels that are not -100; `parts` are sums over the same items, by name, for the log. Those that are
    terms of the loss keep their gradient, for `grad/<part>`; that of the next token is named `next_token`.

    Example:
        >>> nats = torch.tensor([0.5, 1.5], requires_grad=True)  # of two labels
        >>> loss = Loss(nats.sum(), torch.tensor(2), {"next_token": nats.sum()})
        >>> (loss.sum / loss.count).item()
        1.0
    """

    sum: Tensor
    count: Tensor
    parts: dict[str, Tensor]


class VocabularyHead(torch.nn.Linear):
    """A linear layer from hidden states to the vocabulary; AdamW trains it beside Muon, as it does the unembedding."""


def unembed(model: torch.nn.Module, states: Tensor, frozen: bool = False) -> Tensor:
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
    """One forward pass over prefix | target, without the last column unless it read the whole row.

    `logits_BTV` are of the labelled columns: column i predicts label i of `labels_BT`, -100 where there is none;
    `states_BSD` are the last hidden states after the final norm, of all columns, in the type of the model's weights;
    `first` is the labels' first column in the batch.
    """

    logits_BTV: Tensor
    labels_BT: Tensor
    states_BSD: Tensor
    first: int

    @property
    def label_states_BTD(self) -> Tensor:
        """The states that predict the labels: state i predicts label i."""
        start = self.first - 1
        return self.states_BSD[:, start : start + self.labels_BT.shape[1]]


def forward_pass(model: torch.nn.Module, batch: Batch, whole_row: bool = False) -> ForwardPass:
    """Logits and hidden states of a collated batch; `whole_row` reads the last column, too, which predicts nothing."""
    inputs, first = predicting(batch)
    inputs = {name: batch[name] for name in inputs} if whole_row else inputs
    labels_BT = batch["labels"][:, first:]
    columns = labels_BT.shape[1]
    output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=columns + whole_row)
    return ForwardPass(output.logits[:, :columns], labels_BT, last_states(model, output), first)


def last_states(model: torch.nn.Module, output: ModelOutput) -> Tensor:
    """Last hidden states in the type of the weights; a Mamba in bfloat16, and autocast, return them in float32."""
    return output.hidden_states[-1].to(unwrap_model(model).dtype)


def states_of_pass(model: torch.nn.Module, **inputs: Tensor) -> Tensor:
    """Last hidden states (B, S, D) of a pass over these inputs."""
    return last_states(model, model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=1))


def masked_logits(model: torch.nn.Module, batch: Batch, seen_BSS: Tensor, columns: int) -> Tensor:
    """Logits (B, columns, V) of the last columns, where column i attends to column j if `seen_BSS[:, i, j]`.

    The batch holds `position_ids`, and `inputs_embeds` or else `input_ids`.
    """
    read = "inputs_embeds" if "inputs_embeds" in batch else "input_ids"
    return model(
        **{read: batch[read]},
        attention_mask=additive(seen_BSS, unwrap_model(model).dtype),
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=columns,
    ).logits


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the labels that are not -100."""
    logits = at_least_float32(logits).flatten(0, -2)
    return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")


def token_nats(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Cross-entropy (B, T) of each label in nats, 0 where it is -100.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # of two tokens, equally likely
        >>> token_nats(logits, torch.tensor([[1, -100]]))
        tensor([[0.6931, 0.0000]])
    """
    logits_BVT = at_least_float32(logits_BTV).transpose(1, 2)
    return F.cross_entropy(logits_BVT, labels_BT, ignore_index=IGNORE, reduction="none")


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the channels, (...,) of (..., D)."""
    return (at_least_float32(found) - at_least_float32(wanted)).square().mean(dim=-1)


def bag_nats(logits: Tensor, in_bag: Tensor, token_weights: Sequence[float] | None = None) -> Tensor:
    """Binary cross-entropies of logits (..., V) against bags (..., V), summed over the vocabulary, in nats."""
    logits = at_least_float32(logits)
    weights = None if token_weights is None else logits.new_tensor(token_weights)
    nats = F.binary_cross_entropy_with_logits(logits, in_bag.to(logits.dtype), weights, reduction="none")
    return nats.sum(dim=-1)


def label_count(labels: Tensor) -> Tensor:
    """How many labels there are (scalar).

    Example:
        >>> label_count(torch.tensor([[1, -100]]))
        tensor(1)
    """
    return labels.ne(IGNORE).sum()


def row_mean_sum(values_BN: Tensor, counted_BN: Tensor, labels: Tensor) -> Tensor:
    """Sum over rows of: mean of its counted values x its number of labels. So the term does not depend on batching."""
    means_B = values_BN.where(counted_BN, 0).sum(dim=1) / counted_BN.sum(dim=1).clamp(min=1)
    return (means_B * labels.ne(IGNORE).sum(dim=1)).sum()


def ahead_loss(
    model: torch.nn.Module, states_BSD: Tensor, steps: int, batch: Batch, labels_BT: Tensor, but_not: int | None = None
) -> Tensor:
    """Mean cross-entropy of the labels `steps` columns behind each state, times the number of labels.

    States of the whole row, unembedded; labels before which there is no such state, or a padded one, are left out, and
    so is the token `but_not`.
    """
    first = batch["labels"].shape[1] - labels_BT.shape[1]
    start = max(first - steps, 0)  # the state in column c predicts column c + steps
    labels = batch["labels"][:, start + steps :]
    columns = slice(start, start + labels.shape[1])
    counted = labels.ne(IGNORE) & batch["attention_mask"][:, columns].bool()  # no state in a padded column
    if but_not is not None:
        counted = counted & labels.ne(but_not)
    return row_mean_sum(token_nats(unembed(model, states_BSD[:, columns]), labels), counted, labels_BT)


def upcoming(labels_BT: Tensor, vocabulary: int, window: int | None = None, nearest: int = 1) -> Tensor:
    """How soon each token follows a state, (B, T, V): `window` - steps to its next occurrence, else -inf.

    Counted are tokens from `nearest` to `window` steps ahead, at most T; a state's own label is 1 step ahead.
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
