"""LoRA through peft: small matrices beside a checkpoint's frozen weights, trained and saved in their place.

transformers puts an adapter's layers into the model itself, so objectives, decoding and Trainer need not know. What is
saved is an adapter as peft reads it; `merge` makes a stock checkpoint of it.
"""

import copy
import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nt_failures.models.compat import merge_adapter_layers
from nt_failures.models.families import from_scratch
from nt_failures.models.load import ADAPTER_WEIGHTS
from nt_failures.registry import check_names

if TYPE_CHECKING:
    from peft import LoraConfig

NAME, PREFIX = "default", "base_model.model."
"""peft's name of the adapter in a model, and its prefix of each tensor's name in a file."""
OURS = ("task_type", "peft_type", "base_model_name_or_path", "revision", "inference_mode", "trainable_token_indices")
"""Fields of peft's LoraConfig that are set here."""
INITS = (True, False, "gaussian")
"""Initialisations that leave the base model as it is on disk; pissa, olora and others change it."""
DROPOUT = ("dropout", "pdrop", "layerdrop")
"""Parts of the names of config fields that matter in training only."""
CHANGED = " as config_overrides changed it"
"""Suffix of the base model's name if the adapter must not be loaded onto the model of that name; no path or Hub id."""


def configuration(options: Mapping[str, Any]) -> "LoraConfig":
    """peft's LoraConfig of these fields (`r`, `lora_alpha`, `target_modules`, ...); ValueError for what cannot be."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError("LoRA needs the package peft: pip install 'nt_failures[peft]'")
    from peft import LoraConfig

    known = sorted({field.name for field in dataclasses.fields(LoraConfig)} - {*OURS})
    check_names("lora: peft's LoraConfig has no field that can be given as", options, known)
    init = options.get("init_lora_weights", True)
    if init not in INITS:
        raise ValueError(
            f"lora: init_lora_weights={init!r} changes the base model's weights, which an adapter alone would not "
            f"bring back; give one of {', '.join(map(repr, INITS))}."
        )
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **options})
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: {error}") from error


def check(options: Mapping[str, Any] | None, model: str, overrides: Mapping[str, Any], merge: bool) -> None:
    """Raise ValueError, before anything is loaded, for LoRA that cannot work.

    An adapter only names its base model, which is loaded as it is on disk: only a merged model keeps `overrides`.
    """
    if options is None:
        return
    configuration(options)
    if from_scratch(model):
        raise ValueError(
            f"lora trains beside the weights of a checkpoint, and {model!r} has none; give --model a folder or Hub id, "
            "or leave lora out."
        )
    if (changed := _changed(overrides)) and not merge:
        raise ValueError(
            f"config_overrides: {', '.join(changed)} would make another model of {model!r} than an adapter is loaded "
            "onto later, so only dropout may be changed beside lora; add --merge_adapter true, which saves a whole "
            "model with its config, or leave them out."
        )


def _changed(overrides: Mapping[str, Any]) -> list[str]:
    """Names of the overrides that change a model's answers."""
    return sorted(name for name in overrides if not any(word in name for word in DROPOUT))


def add(
    model: PreTrainedModel,
    options: Mapping[str, Any],
    tokens: Iterable[int] = (),
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Freeze a checkpoint's weights and put a new adapter into the model.

    Args:
        model: as `load_model` loaded it, without an objective's modules.
        options: fields of peft's LoraConfig. Without `target_modules` peft chooses them for gpt2, gpt_neox and llama.
        tokens: ids whose rows of the embedding and unembedding are trained, too, such as the dummy's. Rows that are new
            to the checkpoint always are, and are saved: they would come back as other random numbers.
        overrides: the `config_overrides` that it was loaded with. If they change more than dropout, a saved adapter
            names no model that exists, so that nobody loads it onto the unchanged one.

    Raises:
        ValueError: peft is missing, no layer has a name of `target_modules`, or one of them is tied to another.
    """
    config, tied = configuration(options), model.get_output_embeddings().weight is model.get_input_embeddings().weight
    on_disk = AutoConfig.from_pretrained(model.name_or_path, trust_remote_code=False).vocab_size
    trained = sorted({*tokens, *range(on_disk, model.config.vocab_size)})
    if trained:
        config.trainable_token_indices = dict.fromkeys(_vocabulary_layers(model), trained)
    try:
        with warnings.catch_warnings():  # peft sees by itself that GPT-2's layers keep their weights transposed
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
            model.add_adapter(config)
    except (TypeError, ValueError) as error:  # the former where rows of a layer are trained that has an adapter, too
        kinds, head = (torch.nn.Linear, Conv1D), model.get_output_embeddings()
        inside = {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, kinds) and m is not head}
        layers = json.dumps({"target_modules": sorted(inside)})
        raise ValueError(f"lora: {error} For {type(model).__name__} name layers such as {layers}.") from error
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if tied and any("lora_" in name for layer in ends for name, _ in layer.named_parameters()):
        raise ValueError(
            f"lora: embedding and unembedding of {type(model).__name__} are one tied weight, and an adapter of one of "
            "them cannot be merged without changing the other; leave both out of target_modules."
        )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # bfloat16, as the base may be, would lose small steps
    folder = Path(model.name_or_path)
    base = str(folder.resolve()) if folder.is_dir() else model.name_or_path
    config.base_model_name_or_path = f"{base}{CHANGED}" if _changed(overrides or {}) else base


def _vocabulary_layers(model: PreTrainedModel) -> list[str]:
    """Names of the embedding, and of the unembedding where it has weights of its own."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.bias is not None:
        raise ValueError(
            f"lora: the unembedding of {type(model).__name__} has a bias, which peft drops where single rows are "
            "trained; train all weights, or take an objective and tokenizer that add no token."
        )
    layers = [embedding] if head.weight is embedding.weight else [embedding, head]
    return [name for name, module in model.named_modules() if any(module is layer for layer in layers)]


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether an adapter is in the model."""
    return getattr(model, "peft_config", None) is not None


def save(model: PreTrainedModel, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write the adapter's part of the model's state as peft reads it, and the generation settings."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    # Not the whole embedding, as peft and transformers would: its new rows are in the adapter, one by one.
    kept = get_peft_model_state_dict(model, dict(state), NAME, save_embedding_layers=False)
    tensors = {f"{PREFIX}{name}": tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = copy.copy(model.peft_config[NAME])
    config.inference_mode = True  # of who loads it
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def load_weights(model: PreTrainedModel, file: Path) -> None:
    """Bring saved weights into the adapter of a model; ValueError if they are another adapter's."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(file).items()}
    wanted = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
    if odd := sorted({*state} ^ {*wanted}):
        raise ValueError(f"{file} does not fit the adapter: {odd[0]} is not in both.")
    try:
        set_peft_model_state_dict(model, state, NAME)
    except RuntimeError as error:  # of another rank
        raise ValueError(f"{file} does not fit the adapter: {error}") from error


def restore(model: PreTrainedModel, tokens: int, saved: Mapping[str, Any], file: Path) -> None:
    """Put a saved adapter into its base model, which grows to the tokenizer's size if it is smaller."""
    if tokens > len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(tokens, mean_resizing=False)
    if saved.get("peft_type") != "LORA":
        raise ValueError(f"{file.parent}: an adapter of the kind {saved.get('peft_type')!r} is not read, only LORA is.")
    config = configuration({name: value for name, value in saved.items() if name not in (*OURS, "auto_mapping")})
    config.trainable_token_indices = saved.get("trainable_token_indices")
    model.add_adapter(config)
    load_weights(model, file)
    model.requires_grad_(False)


def merge(model: PreTrainedModel) -> None:
    """Add the adapter into the weights and take its layers out, in place: what is left is a stock model."""
    merge_adapter_layers(model)
