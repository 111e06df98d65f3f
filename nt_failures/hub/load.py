"""Load a trained model with what it was trained for: `nt_failures.load(folder_or_repo)`."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nt_failures import registry
from nt_failures.hub import download, integrity, sums
from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.models import lora, mamba_scan
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_name, is_adapter
from nt_failures.models.lora import CHANGED
from nt_failures.objectives import Objective, auxiliary_modules, read_objective
from nt_failures.objectives.next_token import NextToken
from nt_failures.tasks import Task, read_task

LAYERS = "num_hidden_layers"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model and what it was trained for. `task` is None for a model that this library did not train."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    task: Task | None
    described: bool
    """whether the folder says which objective the model was trained under; if not, next-token is assumed"""


def load(name_or_path: str, revision: str | None = None, **kwargs: Any) -> Loaded:
    """Load model, tokenizer, objective and task from a folder or Hub repository.

    A stock model that says nothing about an objective loads as next-token in forward order. An objective or task of your
    own must be imported before: no file of a model runs a module of yours, or any code at all. A Mamba-1 gets the scan that
    `mamba_scan.use_scan(model)` chooses.

    Args:
        revision: branch, tag or commit of a Hub repository; its main branch if not given.
        kwargs: passed to `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, ...); `token`, `cache_dir`,
            `local_files_only` and `force_download` also to what fetches the other files.

    Raises:
        ValueError: no folder and no name of a repository, a folder without a model, pickled weights, a damaged file, code of the
            model's own, or a class that is not imported.
        OSError: no such repository, or none that this token may read; or the Hub is out of reach and the cache does not say
            what the model was trained for.
    """
    _check_options(kwargs)
    _check_name(name_or_path)
    with _damage_named(name_or_path, "config.json"):
        _check_layers(Path(name_or_path))
    hub = download.options_of(kwargs)
    described = _described(name_or_path, revision, hub)
    tokenizer = _tokenizer(name_or_path, revision, hub)
    with _damage_named(name_or_path, RUN_FILE):
        objective = (
            read_objective(described["objective"]) if "objective" in described else NextToken.from_tokenizer(tokenizer)
        )
        task = read_task(described["task"]) if "task" in described else None
    with _damage_named(name_or_path, "config.json or the weights"):
        model = _model_or_adapter(name_or_path, revision, tokenizer, kwargs)
    mamba_scan.use_scan(model)
    objective.attach(model)
    if auxiliary_modules.has_modules(model):
        auxiliary_modules.load(model, _modules_file(name_or_path, revision, hub))
    return Loaded(model.eval(), tokenizer, objective, task, "objective" in described)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what `load` decides itself."""
    for name in ("trust_remote_code", "use_safetensors", "output_loading_info"):
        if name in options:
            raise ValueError(
                f"load(..., {name}={options[name]!r}) is refused: no code of a model's author runs, and weights come from "
                "safetensors alone; leave it out. A model that needs code of its own is loaded with transformers where you "
                "trust it, and given to ModelPredictor."
            )


def _check_name(name_or_path: str) -> None:
    """Refuse a folder without a whole model, and what is neither a folder nor the form of a repository's name."""
    check_name(name_or_path)
    folder = Path(name_or_path)
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists() and not is_adapter(folder):
        raise ValueError(f"folder {name_or_path} holds no model: config.json is missing; give the folder of a run.")
    integrity.check_readable(folder)


def _tokenizer(name_or_path: str, revision: str | None, hub: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(name_or_path, revision=revision, trust_remote_code=False, **hub)
    except OSError:
        raise
    except Exception as error:  # KeyError, TypeError, bare Exception: whatever the readers of tokenizers stumble over
        file = Path(name_or_path) / "tokenizer.json"
        gone = file.parent.is_dir() and not file.exists()
        what = f"{file.name} is missing" if gone else f"the tokenizer is damaged ({_first_line(error)[:300]})"
        raise ValueError(f"{name_or_path}: {what}; write it again with tokenizer.save_pretrained(folder).") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _damage_named(name_or_path: str, what: str) -> Iterator[None]:
    """Damaged files end in whatever the reader breaks on, Rust's bare Exception among it: one error for all of them."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, registry.NotImported) or (
            isinstance(error, ValueError) and str(error).startswith(name_or_path)
        ):
            raise
        reason = _first_line(error)[:300].rstrip(".")
        raise ValueError(f"{name_or_path}: {what} is damaged ({reason}); save the model again.") from error


def _model_or_adapter(
    name_or_path: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]
) -> PreTrainedModel:
    adapter = files_of(name_or_path, revision, **download.options_of(options))
    if adapter is None:
        return _model(name_or_path, revision, options)
    saved, file = adapter
    base = base_of(saved, name_or_path)
    try:
        model = _model(base, None, {"dtype": torch.float32, **options})  # as it was trained, not as the base is on disk
    except OSError as error:
        raise ValueError(
            f"{name_or_path} holds an adapter, and its base model {base!r} is no folder here and no Hub id within reach "
            f"({_first_line(error)}); bring it back, or train with --merge_adapter true to get a whole model."
        ) from error
    lora.restore(model, len(tokenizer), saved, file)
    return model


def _model(name_or_path: str, revision: str | None, options: dict[str, Any]) -> PreTrainedModel:
    """Weights from safetensors alone, and no code: a pickle, or a model's own code, runs whatever its author put there."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except SafetensorError as error:
        raise ValueError(
            f"{name_or_path}: the weights are cut off or damaged ({error}); push or save the model again."
        ) from error
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise ValueError(
            f"{name_or_path} has no safetensors weights, and pickled ones are not read; load them where you trust them "
            "and save them again with model.save_pretrained(folder)."
        ) from error
    if missing := sorted(found["missing_keys"]):  # transformers draws them at random
        raise ValueError(
            f"{name_or_path} is damaged: its weights lack {len(missing)} tensors that config.json asks for, such as "
            f"{missing[0]}; save the model again."
        )
    if left := sorted(name for name in found["unexpected_keys"] if re.search(r"\.\d+\.", name)):  # of a layer
        raise ValueError(
            f"{name_or_path} is damaged: config.json has no place for {len(left)} tensors of its weights, such as {left[0]}; "
            "save the model again."
        )
    return model


def _check_layers(folder: Path) -> None:
    """Refuse a number of layers that the weights cannot fill, before so many are built."""
    if not folder.is_dir() or is_adapter(folder):  # an adapter's base model is looked at when it is loaded
        return
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    layers, tensors = config.to_dict().get(config.attribute_map.get(LAYERS, LAYERS), 0), integrity.tensors(folder)
    if layers > tensors > 0:
        raise ValueError(
            f"{folder} is damaged: config.json asks for {layers:,} layers, and the weights hold {tensors} tensors; save the "
            "model again."
        )


def _modules_file(name_or_path: str, revision: str | None, hub: dict[str, Any]) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path) / auxiliary_modules.MODULES_FILE
    path = download.file_of(name_or_path, auxiliary_modules.MODULES_FILE, revision, **hub)
    if path is None:
        raise ValueError(
            f"{name_or_path}: {auxiliary_modules.MODULES_FILE} is missing, the objective's modules were not pushed; push the run again."
        )
    return path


def _described(name_or_path: str, revision: str | None, hub: dict[str, Any]) -> dict[str, Any]:
    if Path(name_or_path).is_dir():
        path = Path(name_or_path) / RUN_FILE
        if not path.exists():
            return {}
    else:
        path = download.file_of(name_or_path, RUN_FILE, revision, **hub)
        if path is None:
            return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested beyond reason
        raise ValueError(f"{name_or_path}: {RUN_FILE} is not JSON ({error}); save the model again.") from error
    if not isinstance(described, dict):
        raise ValueError(f"{name_or_path}: {RUN_FILE} is no JSON object; save the model again.")
    if unknown := sorted(set(described) - {"objective", "task", sums.FIELD}):
        raise ValueError(f"{name_or_path}: {RUN_FILE} has an unknown entry {unknown[0][:80]!r}; save the model again.")
    if Path(name_or_path).is_dir():
        sums.check(described, Path(name_or_path), RUN_FILE)
    return described


def check_published(folder: Path) -> None:
    """Raise ValueError for an adapter of a local folder, which nobody else has, and for one of a base model that was changed."""
    if not is_adapter(folder):
        return
    base = base_of(read_object(folder / ADAPTER_CONFIG), str(folder))
    if Path(base).is_dir():
        raise ValueError(
            f"{str(folder)!r} holds an adapter of the folder {base!r}, of no use on the Hub, where that is missing; train with "
            "--merge_adapter true, which saves a whole model."
        )


def base_of(saved: Mapping[str, Any], name_or_path: str) -> str:
    """Folder or Hub id of the base model of a saved adapter; ValueError if that is nowhere as it was."""
    base = str(saved.get("base_model_name_or_path"))
    if base.endswith(CHANGED):
        raise ValueError(
            f"{name_or_path} holds an adapter of {base}, which nothing but the end of its run saves; finish that with --resume, "
            "and take its whole, merged model."
        )
    return base


def files_of(name_or_path: str, revision: str | None = None, **options: Any) -> tuple[dict[str, Any], Path] | None:
    """Config and weights of the adapter that a folder or Hub repository holds; None if it holds none, or a whole model."""
    folder = Path(name_or_path)
    if folder.is_dir():
        return (read_object(folder / ADAPTER_CONFIG), folder / ADAPTER_WEIGHTS) if is_adapter(folder) else None
    config = download.file_of(name_or_path, ADAPTER_CONFIG, revision, **options)
    if config is None:
        return None
    weights = download.file_of(name_or_path, ADAPTER_WEIGHTS, revision, **options)
    if weights is None:
        raise ValueError(f"{name_or_path} holds {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}; push the run again.")
    return read_object(config), weights
