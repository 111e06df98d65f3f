"""Load a trained model with what it was trained for: `nt_failures.load(folder_or_repo)`."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.hub.description import read_run
from nt_failures.hub.download import Source
from nt_failures.hub.integrity import check_readable, count_tensors
from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import CONFIG, RUN_FILE
from nt_failures.models import lora, mamba_scan
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_name, is_adapter
from nt_failures.objectives import Objective, auxiliary_modules, read_objective
from nt_failures.objectives.next_token import NextToken
from nt_failures.registry import NotImported, first_line
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

    A stock model that says nothing about an objective loads as next-token in forward order. An objective or task of
    your own must be imported before: no file of a model runs a module of yours, or any code at all. A Mamba-1 gets the
    scan that `mamba_scan.use_scan(model)` chooses.

    Args:
        revision: branch, tag or commit of a Hub repository; its main branch if not given.
        kwargs: passed to `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, ...); `token`, `cache_dir`,
            `local_files_only` and `force_download` also to what fetches the other files.

    Raises:
        ValueError: no folder and no name of a repository, a folder without a model, pickled weights, a damaged file,
            code of the model's own, or a class that is not imported.
        OSError: no such repository, or none that this token may read; or the Hub is out of reach and the cache does
            not say what the model was trained for.

    Example:
        >>> run = load("outputs/quickstart")  # doctest: +SKIP
        >>> run.objective.order, run.task  # doctest: +SKIP
        ('forward', PathStar(degree=2, path_length=5, num_nodes=50))
    """
    _check_options(kwargs)
    check_name(name_or_path)
    if Path(name_or_path).is_dir():
        _check_folder(name_or_path)
    source = Source(name_or_path, revision, kwargs)
    file = source.file(RUN_FILE)
    described = {} if file is None else read_run(file, name_or_path)
    tokenizer = _tokenizer(source)
    with _damage_named(name_or_path, RUN_FILE):
        assumed = "objective" not in described
        objective = NextToken.from_tokenizer(tokenizer) if assumed else read_objective(described["objective"])
        task = read_task(described["task"]) if "task" in described else None
    with _damage_named(name_or_path, "config.json or the weights"):
        model = _model_or_adapter(source, len(tokenizer), kwargs)
    mamba_scan.use_scan(model)
    objective.attach(model)
    if auxiliary_modules.has_modules(model):
        modules = source.file(auxiliary_modules.MODULES_FILE)
        auxiliary_modules.load(model, modules or Path(name_or_path) / auxiliary_modules.MODULES_FILE)
    return Loaded(model.eval(), tokenizer, objective, task, described=not assumed)


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `load` decides itself."""
    for name in ("trust_remote_code", "use_safetensors", "output_loading_info"):
        if name in options:
            raise ValueError(
                f"load(..., {name}={options[name]!r}) is refused: no code of a model's author runs, and weights come "
                "from safetensors alone; leave it out. A model that needs code of its own is loaded with transformers "
                "where you trust it, and given to ModelPredictor."
            )


def _check_folder(name: str) -> None:
    """Refuse a folder without a model, with a damaged file, or with more layers in its config than weights."""
    folder = Path(name)
    if is_adapter(folder):  # its base model is looked at when it is loaded
        return check_readable(folder)
    if not (folder / CONFIG).exists():
        raise ValueError(f"folder {name} holds no model: config.json is missing; give the folder of a run.")
    check_readable(folder)
    with _damage_named(name, CONFIG):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        layers, tensors = getattr(config, LAYERS, 0), count_tensors(folder)
        if layers > tensors > 0:  # so many would be built before anybody misses their weights
            raise ValueError(
                f"{name} is damaged: config.json asks for {layers:,} layers, and the weights hold {tensors} tensors; "
                "save the model again."
            )


@contextlib.contextmanager
def _damage_named(name_or_path: str, what: str) -> Iterator[None]:
    """Damaged files end in whatever the reader breaks on, Rust's bare Exception among it: one error for all of them."""
    try:
        yield
    except (OSError, MemoryError, NotImported):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(name_or_path):
            raise
        reason = first_line(error)[:300].rstrip(".")
        raise ValueError(f"{name_or_path}: {what} is damaged ({reason}); save the model again.") from error


def _tokenizer(source: Source) -> PreTrainedTokenizerBase:
    options = {"revision": source.revision, **source.options}
    try:
        return AutoTokenizer.from_pretrained(source.name, trust_remote_code=False, **options)
    except OSError:
        raise
    except Exception as error:  # KeyError, TypeError, bare Exception: whatever the readers of tokenizers stumble over
        gone = Path(source.name).is_dir() and source.file("tokenizer.json") is None
        what = "tokenizer.json is missing" if gone else f"the tokenizer is damaged ({first_line(error)[:300]})"
        raise ValueError(f"{source.name}: {what}; write it again with tokenizer.save_pretrained(folder).") from error


def _model_or_adapter(source: Source, tokens: int, options: Mapping[str, Any]) -> PreTrainedModel:
    """A whole model; or an adapter in its base model, which grows to so many tokens."""
    folder = Path(source.name)
    config = None if folder.is_dir() and not is_adapter(folder) else source.file(ADAPTER_CONFIG)
    if config is None:
        return _model(source.name, source.revision, options)
    saved, weights = read_object(config), source.file(ADAPTER_WEIGHTS)
    if weights is None:
        raise ValueError(f"{source.name} holds {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}; save or push the run again.")
    base = base_of(saved, source.name)
    try:
        model = _model(base, None, {"dtype": torch.float32, **options})  # as it was trained, not as the base is on disk
    except OSError as error:
        raise ValueError(
            f"{source.name} holds an adapter, and its base model {base!r} is no folder here and no Hub id within reach "
            f"({first_line(error)}); bring it back, or train with --merge_adapter true to get a whole model."
        ) from error
    lora.restore(model, tokens, saved, weights)
    return model


def base_of(saved: Mapping[str, Any], name_or_path: str) -> str:
    """Folder or Hub id of the base model that an adapter's config names; ValueError if that is nowhere as it was."""
    base = str(saved.get("base_model_name_or_path"))
    if base.endswith(lora.CHANGED):
        raise ValueError(
            f"{name_or_path} holds an adapter of {base}, which nothing but the end of its run saves; finish that with "
            "--resume, and take its whole, merged model."
        )
    return base


def _model(name: str, revision: str | None, options: Mapping[str, Any]) -> PreTrainedModel:
    """Weights from safetensors alone, and no code: a pickle or a model's code runs whatever its author put there."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise ValueError(
            f"{name} has no safetensors weights, and pickled ones are not read; load them where you trust them "
            "and save them again with model.save_pretrained(folder)."
        ) from error
    fault, tensors = "its weights lack {} tensors that config.json asks for", sorted(found["missing_keys"])
    if not tensors:  # transformers draws missing ones at random, and leaves out those of a layer that has no place
        fault = "config.json has no place for {} tensors of its weights"
        tensors = sorted(tensor for tensor in found["unexpected_keys"] if re.search(r"\.\d+\.", tensor))
    if tensors:
        raise ValueError(
            f"{name} is damaged: {fault.format(len(tensors))}, such as {tensors[0]}; save the model again."
        )
    return model
