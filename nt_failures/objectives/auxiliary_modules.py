"""Modules that an objective adds to a model: how they get in, how a loss reaches them, and their file beside the weights.

They live in the model under one name, so the optimizer, devices and data parallelism see them; they are saved in a file
of their own, so what stands beside it is a stock checkpoint.

Shapes: B rows, S columns of the input, T target columns, D hidden size, V vocabulary.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, PreTrainedModel

from nt_failures.models import mamba_scan

NAME = "objective_modules"
"""The attribute of a model under which its objective's modules live."""

MODULES_FILE = "objective_modules.safetensors"


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
    return unwrap_model(model).get_submodule(NAME)


def has_modules(model: torch.nn.Module) -> bool:
    """Whether an objective put modules into the model."""
    return NAME in dict(unwrap_model(model).named_children())


def unwrap_model(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, without the wrappers of data parallelism and torch.compile."""
    return extract_model_from_parallel(model, keep_torch_compile=False)


def inside_forward(
    model: torch.nn.Module, function: Callable[[PreTrainedModel, Mapping[str, torch.Tensor]], Any], batch: Mapping
) -> Any:
    """`function(unwrapped model, batch)`, run as the forward pass of the wrapped model.

    Data parallelism counts a parameter's gradient as complete when its part of the forward pass is done, so modules that
    a loss uses must be used inside of it.
    """
    inner = unwrap_model(model)
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


def encoder_like(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A new trunk of the model's own kind with this many layers and its scan, for `inputs_embeds`; it embeds no tokens."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    trunk = AutoModel.from_config(config)
    trunk.set_input_embeddings(torch.nn.Identity())
    if mamba_scan.uses_torch_scan(model):
        mamba_scan.use_scan(trunk, "torch")
    return trunk


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
