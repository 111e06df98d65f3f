"""Modules that an objective adds to a model: how they get in, how a loss reaches them, and their file beside the weights.

They live in the model under one name, so the optimizer, devices and data parallelism see them; they are saved in a file
of their own, so what stands beside it is a stock checkpoint.

Shapes: B rows, S columns of the input, T target columns, D hidden size, V vocabulary.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from nt_failures.data.batches import IGNORE, predicting
from nt_failures.models import mamba_scan

NAME = "objective_modules"
"""The attribute of a model under which its objective's modules live."""

MODULES_FILE = "objective_modules.safetensors"


class VocabularyHead(torch.nn.Linear):
    """A linear layer from hidden states to the vocabulary; AdamW trains it beside Muon, as it does the unembedding."""


def attach(model: PreTrainedModel, **modules: torch.nn.Module) -> None:
    """Put the modules into the model, initialised as its own are; ValueError if it has some already."""
    if has_modules(model):
        raise ValueError(
            f"this {type(model).__name__} has the modules of an objective in it already; load the model afresh to train "
            "it under another one."
        )
    added = torch.nn.ModuleDict(modules)
    with torch.no_grad():
        added.apply(model._init_weights)
    model.add_module(NAME, added.to(device=model.device, dtype=model.dtype))


def attached(model: torch.nn.Module) -> torch.nn.ModuleDict:
    """The modules of a model, however it is wrapped."""
    return plain(model).get_submodule(NAME)


def has_modules(model: torch.nn.Module) -> bool:
    """Whether an objective put modules into the model."""
    return NAME in dict(plain(model).named_children())


def plain(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, without the wrappers of data parallelism and torch.compile."""
    return extract_model_from_parallel(model, keep_torch_compile=False)


def inside_forward(
    model: torch.nn.Module, function: Callable[[PreTrainedModel, Mapping[str, torch.Tensor]], Any], batch: Mapping
) -> Any:
    """`function(plain model, batch)`, run as the forward pass of the wrapped model.

    Data parallelism counts a parameter's gradient as complete when its part of the forward pass is done, so modules that
    a loss uses must be used inside of it.
    """
    inner = plain(model)
    own = inner.__dict__.pop("forward", None)  # where accelerate keeps its autocast

    def once(**kwargs: Any) -> Any:
        restore()
        return function(inner, kwargs)

    def restore() -> None:
        inner.__dict__.pop("forward", None)
        if own is not None:
            inner.forward = own

    inner.forward = once
    try:
        return model(**batch)
    finally:
        restore()


def unembed(model: torch.nn.Module, states: torch.Tensor, frozen: bool = False) -> torch.Tensor:
    """Logits (..., V) of hidden states (..., D), by the model's own unembedding; `frozen` sends it no gradient.

    What a few families put behind it is left out: a scale (granite, cohere) or a soft cap (gemma2).
    """
    head = plain(model).get_output_embeddings()
    states = states.to(head.weight.dtype)
    if not frozen:
        return head(states)
    weights = {name: weight.detach() for name, weight in head.named_parameters()}
    return torch.func.functional_call(head, weights, (states,))


def encoder_like(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A new trunk of the model's own kind with this many layers and its scan, for `inputs_embeds`; it embeds no tokens."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    trunk = AutoModel.from_config(config)
    trunk.set_input_embeddings(torch.nn.Identity())
    if mamba_scan.uses_torch_scan(model):
        mamba_scan.use_scan(trunk, "torch")
    return trunk


class Seen(NamedTuple):
    """One forward pass over prefix | target without the last column."""

    logits_BTV: torch.Tensor
    """of the labelled columns: column i predicts label i"""
    labels_BT: torch.Tensor
    """labels of these columns, -100 where there is none"""
    states_BSD: torch.Tensor
    """last hidden states after the final norm, of all columns, in the type of the model's weights"""
    first: int
    """the labels' first column in the batch; the state at `first - 1 + i` predicts label i"""


def see(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Seen:
    """Logits and hidden states of a collated batch."""
    labels = batch["labels"]
    inputs, first = predicting(batch)
    found = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=labels.shape[1] - first)
    return Seen(found.logits, labels[:, first:], last_states(model, found), first)


def last_states(model: torch.nn.Module, found: ModelOutput) -> torch.Tensor:
    """Last hidden states in the type of the weights: a Mamba in bfloat16 has them, and autocast gives them, in float32."""
    return found.hidden_states[-1].to(plain(model).dtype)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, summed over the labels that are not -100."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="sum")


def weighed(values_BN: torch.Tensor, counted_BN: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each row's mean over its counted values, times its number of labels, summed over the rows.

    A term with another number of items than there are labels stays a mean of its own that way, whatever the batch or
    process a row falls into.
    """
    items_B = counted_BN.sum(dim=1).clamp(min=1)
    means_B = values_BN.where(counted_BN, 0).sum(dim=1) / items_B
    return (means_B * labels.ne(IGNORE).sum(dim=1)).sum()


def save(state: Mapping[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """Write the attached modules' part of a model's state into the folder; returns the rest, which is the stock model's."""
    start = f"{NAME}."
    own = {
        name.removeprefix(start): t.detach().cpu().contiguous() for name, t in state.items() if name.startswith(start)
    }
    if own:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(own, folder / MODULES_FILE, metadata={"format": "pt"})
    return {name: tensor for name, tensor in state.items() if not name.startswith(start)}


def load(model: torch.nn.Module, file: Path) -> None:
    """Bring saved modules back into a model that has them attached; ValueError if they do not fit or are missing."""
    if not file.exists():
        raise ValueError(f"{file} is missing: the weights of the objective's modules were not saved with this model.")
    try:
        attached(model).load_state_dict(load_file(file))
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the objective's modules: {error}") from error
