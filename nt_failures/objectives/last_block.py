"""The last block of a model's trunk and what stands around it: blocks beside it, what it is given, the final norm.

A trunk is taken to be embeddings, then `num_hidden_layers` blocks in one `ModuleList`, then one norm, as in GPT-2,
GPT-NeoX, Llama, Mamba and most causal LMs of transformers.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.models import mamba_scan
from nt_failures.objectives.auxiliary_modules import unwrap_model

Call = tuple[tuple, dict[str, Any]]
"""Positional and named arguments of a block: the states it reads, masks, positions."""


def parts(model: torch.nn.Module) -> tuple[torch.nn.ModuleList, torch.nn.Module]:
    """The blocks of the trunk and its final norm; ValueError for a model that is not built so."""
    inner = unwrap_model(model)
    layers = inner.config.num_hidden_layers
    for holder in inner.base_model.modules():
        for blocks in holder.children():
            if isinstance(blocks, torch.nn.ModuleList) and len(blocks) == layers:
                norms = [m for m in holder.children() if _only_vectors(m)]
                if norms:
                    return blocks, norms[-1]  # some have a norm behind the embedding, too
    others = "take one of transformers that is (GPT-2, GPT-NeoX, Llama, Mamba, ...)"
    raise ValueError(f"{type(inner).__name__} is not built as a list of {layers} blocks and one norm; {others}.")


def _only_vectors(module: torch.nn.Module) -> bool:
    shapes = [parameter.ndim for parameter in module.parameters()]
    return bool(shapes) and max(shapes) == 1


def new_block(model: PreTrainedModel) -> torch.nn.Module:
    """Another last block: of the same class and config, without its weights, with the model's scan."""
    blocks, _ = parts(model)
    block = type(blocks[-1])(model.config, len(blocks) - 1)
    if mamba_scan.uses_torch_scan(model):
        mamba_scan.use_scan(block, "torch")
    return block


@contextlib.contextmanager
def calls_of(module: torch.nn.Module) -> Iterator[list[Call]]:
    """While it lasts, every forward pass adds what a module, such as the last block, is given to the list.

    Hidden states would not do: where a pass returns them, some models (Mamba) count them from another place, and a
    block wants masks and positions as its trunk makes them, too.
    """
    calls: list[Call] = []
    hook = module.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def states_of(block: torch.nn.Module, call: Call) -> Tensor:
    """States (B, S, D) of a block on what another was given."""
    args, kwargs = call
    found = block(*args, **kwargs)
    return found[0] if isinstance(found, tuple) else found
