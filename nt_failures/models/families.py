"""Families of models, their sizes from scratch and their scans: `gpt2-12x384` is a GPT-2 of 12 layers and width 384."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _heads(width: int) -> int:
    """Heads of 64 dimensions, as GPT-2 has them; one where the width is no multiple of that."""
    return width // 64 if width % 64 == 0 else 1


def _gpt2(layers: int, width: int, positions: int) -> dict[str, Any]:
    return {
        "n_layer": layers,
        "n_embd": width,
        "n_head": _heads(width),
        "n_positions": positions,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "activation_function": "gelu_pytorch_tanh",  # GPT-2's own function in one kernel; the default takes eight
    }


def _transformer(layers: int, width: int, positions: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": _heads(width),
        "intermediate_size": 4 * width,
        "max_position_embeddings": positions,
    }


def _mamba(layers: int, width: int, positions: int) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "hidden_size": width}


def _mamba2(layers: int, width: int, positions: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "head_dim": 2 * width // 8,
        "num_heads": 8,
        "n_groups": 1,
        "chunk_size": min(256, positions),  # sequences are padded to whole chunks
    }


FAMILIES: dict[str, Callable[[int, int, int], dict[str, Any]]] = {
    "gpt2": _gpt2,
    "gpt_neox": _transformer,
    "llama": _transformer,
    "mamba": _mamba,
    "mamba2": _mamba2,
}
"""Model types of transformers and how layers, width and positions are called there."""

SIZE = re.compile(rf"({'|'.join(FAMILIES)})-([1-9]\d{{0,2}})x([1-9]\d{{0,4}})", re.ASCII)
"""Family, layers and width of a model from scratch."""


def from_scratch(name: str) -> bool:
    """Whether `name` is a family and size such as `gpt2-12x384` rather than a checkpoint.

    ValueError for a size of an unknown family, unless a folder of that name exists.
    """
    if SIZE.fullmatch(name):
        return True
    if len(name) < 100 and re.fullmatch(r"\w+-\d+x\d+", name) and not Path(name).exists():
        raise ValueError(
            f"model {name!r} is no size that can be built; write FAMILY-LAYERSxWIDTH with a family of "
            f"{', '.join(FAMILIES)} and numbers from 1, at most 999 layers and width 99999, such as gpt2-12x384."
        )
    return False


def from_folder(name: str | None) -> bool:
    """Whether `name`, of a model or tokenizer, is read from a folder of this machine."""
    return bool(name) and Path(name).is_dir() and not from_scratch(name)


SCANS = ("auto", "torch", "transformers")
"""`auto`: mamba-ssm's kernels if installed, else `torch`. `torch`: this library's scan. `transformers`: its own."""
