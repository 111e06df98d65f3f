"""Load a model or tokenizer: a new model of a family and size (families.py), or a checkpoint."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nt_failures.models import mamba_scan
from nt_failures.models.families import FAMILIES, SIZE
from nt_failures.registry import check_names, first_line, shorten

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files of peft (lora.py), where a checkpoint has config.json and model.safetensors."""


def check_name(name_or_path: str) -> None:
    """ValueError for a file, and for what is neither a folder nor has the form of a repository's name."""
    if os.path.isdir(name_or_path):  # not Path's, which raises for a name longer than a path can be
        return
    if os.path.isfile(name_or_path):
        raise ValueError(f"{shorten(name_or_path)} is a file; give the folder it lies in.")
    try:
        validate_repo_id(name_or_path)
    except HFValidationError as error:
        raise ValueError(
            f"{shorten(name_or_path)} is no folder, and no repository can have that name; give the folder of a run, or "
            "NAMESPACE/NAME of one on the Hub."
        ) from error


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in the place of a whole model."""
    return (folder / ADAPTER_CONFIG).exists() and not (folder / "config.json").exists()


def load_model(
    name_or_path: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    config_overrides: Mapping[str, Any] | None = None,
    scan: str = "auto",
    **kwargs: Any,
) -> PreTrainedModel:
    """A causal LM that fits the tokenizer.

    Args:
        name_or_path: `family-LAYERSxWIDTH` (family: gpt2, gpt_neox, llama, mamba or mamba2) for random weights from
            torch's global generator, such as `gpt2-12x384`, the paper's GPT-Mini; else a folder or Hub id.
        tokenizer: its size sets the vocabulary of a new model; a checkpoint's embedding only ever grows.
        max_length: longest sequence, in tokens, that the model must take.
        config_overrides: fields of the model's own config class, for example `{"n_head": 2}`.
        scan: what a Mamba-1 runs, one of `families.SCANS`.
        kwargs: for `AutoModelForCausalLM.from_pretrained` (`dtype`, `attn_implementation`, ...). The default `dtype` is
            float32, whatever the checkpoint's is: bfloat16 would swallow the small steps of fine-tuning.

    Raises:
        ValueError: neither a folder nor the name of a repository, an unknown config field or scan, a checkpoint with
            fewer positions than `max_length`, or a folder without a model.
        OSError: no such checkpoint on the Hub, or no way to it.

    Example:
        >>> from nt_failures import PathStar, load_model, word_level_tokenizer
        >>> tokenizer = word_level_tokenizer(PathStar(degree=2, path_length=3, num_nodes=10))
        >>> model = load_model("gpt2-1x16", tokenizer, max_length=32)
        >>> model.config.n_layer, model.config.n_embd, model.config.n_positions, model.config.vocab_size
        (1, 16, 32, 15)
    """
    overrides = dict(config_overrides or {})
    if size := SIZE.fullmatch(name_or_path):
        config = _new_config(size, tokenizer, max_length, overrides)
        model = AutoModelForCausalLM.from_config(config, **kwargs)
    else:
        model = _checkpoint(name_or_path, overrides, **kwargs)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    mamba_scan.use_scan(model, scan)
    check_length(model, max_length)
    return model


def _new_config(
    size: re.Match, tokenizer: PreTrainedTokenizerBase, max_length: int, overrides: Mapping[str, Any]
) -> PretrainedConfig:
    family, layers, width = size[1], int(size[2]), int(size[3])
    check_size(size[0], overrides)
    tokens = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    fields = {**FAMILIES[family](layers, width, max_length), "vocab_size": len(tokenizer), **tokens, **overrides}
    return AutoConfig.for_model(family, **fields)


def _checkpoint(name_or_path: str, overrides: Mapping[str, Any], **kwargs: Any) -> PreTrainedModel:
    check_name(name_or_path)
    with reading(name_or_path, "model"):
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    _check_fields(config, overrides)
    config.update(overrides)
    options = {"dtype": torch.float32, **kwargs}
    with reading(name_or_path, "model"):
        return AutoModelForCausalLM.from_pretrained(name_or_path, config=config, trust_remote_code=False, **options)


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub id. Errors: as those of `load_model`."""
    check_name(name_or_path)
    with reading(name_or_path, "tokenizer"):
        return AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)


@contextlib.contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Turn the errors of transformers for a `name` that it cannot read into one line that says what to type."""
    if what == "model" and is_adapter(Path(name)):
        raise ValueError(
            f"folder {name} holds an adapter and not a whole model; train on from its base model, or from a run that "
            "was made with --merge_adapter true."
        )
    try:
        yield
    except (OSError, ValueError) as error:
        reason = first_line(error)
        if Path(name).is_dir():
            raise ValueError(f"folder {name} holds no {what} that can be read: {reason}") from error
        way = "check its spelling and the network, or give a folder with a copy of it (`hf download` makes one)"
        if constants.HF_HUB_OFFLINE:
            way = "HF_HUB_OFFLINE is set: unset it, or give a folder with a copy of it"
        raise OSError(
            f"{what} {name!r} is no folder here, and could not be read as an id of the Hub; {way}. ({reason})"
        ) from error


def check_size(name: str, overrides: Mapping[str, Any]) -> None:
    """ValueError for overrides that the config of a new model has no field for; a checkpoint is not looked at."""
    if size := SIZE.fullmatch(name):
        _check_fields(AutoConfig.for_model(size[1]), overrides)


def _check_fields(config: PretrainedConfig, overrides: Mapping[str, Any]) -> None:
    known = sorted({*config.to_dict(), *config.attribute_map})
    check_names(f"config_overrides: {type(config).__name__} has no field", overrides, known)


def check_length(model: PreTrainedModel, max_length: int) -> None:
    """Raise ValueError if the model's position table is shorter than `max_length` tokens. Mambas have none."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions < max_length:
        field = model.config.attribute_map.get("max_position_embeddings", "max_position_embeddings")
        new = f"(from scratch: --config_overrides '{{\"{field}\": {max_length}}}')"
        raise ValueError(
            f"{type(model).__name__} takes sequences of up to {positions} tokens and these need {max_length}; take a "
            f"model with more positions {new}, or smaller graphs, or a tokenizer that writes them in fewer tokens."
        )


def set_answer_length(model: PreTrainedModel, tokens: int, pad_token_id: int, eos_token_id: int | None = None) -> None:
    """Make `generate` and pipelines answer greedily with this many tokens, also after saving and loading.

    Whoever gives a `max_new_tokens` of their own gets it. There is no least number, which nobody would think of taking
    back: it would keep others, such as TRL's GRPOTrainer, from ever seeing an answer that ends by itself. The Trainer
    expects to find the tokenizer's own end token here.
    """
    model.generation_config = GenerationConfig(
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=pad_token_id,
        eos_token_id=eos_token_id,
    )
