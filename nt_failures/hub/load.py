"""Load a trained model with what it was trained for: `nt_failures.load(folder_or_repo)`."""

import contextlib
import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

# Private: what `try_to_load_from_cache` returns where the cache knows that a repository has no file of a name.
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.hub.integrity import check_readable, count_tensors, of_other_weights, read_run
from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import CONFIG, RESULTS_FILE, RUN_FILE
from nt_failures.hub.run_results import RunResults
from nt_failures.models import lora, mamba_scan
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_name, is_adapter
from nt_failures.objectives import Objective, auxiliary_modules, drafting, read_objective
from nt_failures.objectives.next_token import NextToken
from nt_failures.registry import NotImported, OtherDefinition, first_line
from nt_failures.tasks import Task, read_task

FETCHING = ("token", "cache_dir", "local_files_only", "force_download")
"""Options of `from_pretrained` that say how anything is fetched from the Hub."""
MARK = ".gitattributes"
"""Every repository has it, and none but who downloads all of a repository asks for it."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model and what it was trained for; no task where this library did not train it."""

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
            code of the model's own, a class that is not imported, or an objective that is defined otherwise by now.
        OSError: no such repository, or none that this token may read; or the Hub is out of reach and the cache does
            not say what the model was trained for.

    Example:
        >>> run = load("outputs/quickstart")  # doctest: +SKIP
        >>> run.objective.order, run.task  # doctest: +SKIP
        ('forward', PathStar(degree=2, path_length=5, num_nodes=50))
    """
    if refused := sorted({"trust_remote_code", "use_safetensors", "output_loading_info"} & {*kwargs}):
        raise ValueError(f"load(..., {refused[0]}=...) is refused: no code of a model runs, and no pickle is read.")
    check_name(name_or_path)
    if Path(name_or_path).is_dir():
        _check_folder(name_or_path)
    fetching = {"revision": revision, **{name: kwargs[name] for name in FETCHING if name in kwargs}}
    file_of = functools.partial(find_file, name_or_path, **fetching)
    file = file_of(RUN_FILE)
    with _damage_named(name_or_path, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **fetching)
    if not {*tokenizer.get_vocab()} - {*tokenizer.all_special_tokens}:  # transformers makes an empty one of nothing
        raise ValueError(f"{name_or_path} holds no tokenizer; save its own there: tokenizer.save_pretrained(...).")
    with _damage_named(name_or_path, RUN_FILE):
        described = {} if file is None else read_run(file, name_or_path)
        assumed = "objective" not in described
        objective = NextToken.from_tokenizer(tokenizer) if assumed else read_objective(described["objective"])
        task = read_task(described["task"]) if "task" in described else None
    with _damage_named(name_or_path, "config.json or the weights"):
        model = _model_or_adapter(name_or_path, file_of, len(tokenizer), {"revision": revision, **kwargs})
    mamba_scan.use_scan(model)
    objective.attach(model)
    if auxiliary_modules.in_own_file(model):
        modules = auxiliary_modules.MODULES_FILE
        auxiliary_modules.load(model, file_of(modules) or Path(name_or_path) / modules)
    elif auxiliary_modules.has_modules(model):
        with _damage_named(name_or_path, "what it drafts with"):
            model.config.name_or_path = str(file_of(CONFIG).parent)  # else `generate` takes the Hub's main branch
            drafting.load_layers(model)
    setattr(model, auxiliary_modules.OWNER, objective)
    return Loaded(model.eval(), tokenizer, objective, task, described=not assumed)


def find_file(name_or_path: str, file: str, revision: str | None = None, **options: Any) -> Path | None:
    """A file of a folder, or from the cache or the Hub; None where there is none of that name.

    Raises:
        OSError: nobody knows whether there is one: the Hub is out of reach, and the cache has not been told.
    """
    if Path(name_or_path).is_dir():
        return path if (path := Path(name_or_path) / file).exists() else None
    try:
        return Path(hf_hub_download(name_or_path, file, revision=revision, **options))
    except LocalEntryNotFoundError as error:
        where = {"cache_dir": options.get("cache_dir"), "revision": revision}
        whole = isinstance(try_to_load_from_cache(name_or_path, MARK, **where), str)
        if whole or try_to_load_from_cache(name_or_path, file, **where) is _CACHED_NO_EXIST:
            return None
        raise OSError(
            f"{name_or_path}: whether it holds {file} cannot be told, as the Hub is out of reach; download all of it "
            f"while it is in reach: hf download {name_or_path}"
        ) from error
    except EntryNotFoundError:
        return None


def read_results(name_or_path: str, way: str) -> RunResults | None:
    """results.json of a run's folder or repository; None where there is none.

    Raises:
        ValueError: a damaged file, or one about another model than that beside it; the error ends in `way`, what to do.
        OSError: no such repository, or the Hub is out of reach.
    """
    check_name(name_or_path)
    path, run_file = find_file(name_or_path, RESULTS_FILE), find_file(name_or_path, RUN_FILE)
    if path is None:
        return None
    try:
        results = RunResults.from_json(read_object(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {way}.") from error
    if run_file is not None and of_other_weights(results, run_file):
        raise ValueError(f"{path} is about another model; {way}.")
    return results


def _check_folder(name: str) -> None:
    """Refuse a folder without a model, with a damaged file, or with more layers in its config than weights."""
    folder = Path(name)
    adapter = is_adapter(folder)  # whose base model is looked at when it is loaded
    if not adapter and not (folder / CONFIG).exists():
        way = "give the folder of a run"
        if checkpoint := _newest_checkpoint(folder):
            way = f"its run was interrupted: finish it with --resume, or give its checkpoint {checkpoint}"
        raise ValueError(f"folder {name} holds no model: config.json is missing; {way}.")
    check_readable(folder)
    with _damage_named(name, CONFIG):
        config = None if adapter else AutoConfig.from_pretrained(folder, trust_remote_code=False)
        layers, tensors = getattr(config, "num_hidden_layers", 0), count_tensors(folder)
        if layers > tensors > 0:  # so many would be built before anybody misses their weights
            raise ValueError(f"it asks for {layers:,} layers, and the weights hold {tensors} tensors")


def _newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step with a model in it, of which `RUN_FILE` is written last."""
    found = {path.parent: re.fullmatch(r"checkpoint-(\d+)", path.parent.name) for path in folder.glob(f"*/{RUN_FILE}")}
    return max((path for path, match in found.items() if match), key=lambda path: int(found[path][1]), default=None)


@contextlib.contextmanager
def _damage_named(name_or_path: str, what: str) -> Iterator[None]:
    """Damaged files end in whatever the reader breaks on, Rust's bare Exception among it: one error for all of them."""
    try:
        yield
    except (OSError, MemoryError, NotImported):
        raise
    except OtherDefinition as error:
        raise OtherDefinition(f"{name_or_path}: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(name_or_path)):
            raise
        reason = first_line(error)[:300].rstrip(".")
        raise ValueError(f"{name_or_path}: {what} is damaged ({reason}); save the model again.") from error


def _model_or_adapter(
    name: str, file_of: Callable[[str], Path | None], tokens: int, options: Mapping[str, Any]
) -> PreTrainedModel:
    """A whole model; or an adapter in its base model, which grows to so many tokens."""
    folder = Path(name)
    config = None if folder.is_dir() and not is_adapter(folder) else file_of(ADAPTER_CONFIG)
    if config is None:
        return stock_model(name, options)
    saved, weights = read_object(config), file_of(ADAPTER_WEIGHTS)
    if weights is None:
        raise ValueError(f"{ADAPTER_WEIGHTS} is missing")
    base = str(saved.get("base_model_name_or_path"))
    try:  # with the dtype of the training, not that of the base on disk
        model = stock_model(base, {"dtype": torch.float32, **options, "revision": None})
    except OSError as error:
        raise ValueError(
            f"{name} holds an adapter, and its base model {base!r} is no folder and no Hub id within reach "
            f"({first_line(error)}); bring it back, or train with --merge_adapter true."
        ) from error
    lora.restore(model, tokens, saved, weights)
    return model


def stock_model(name: str, options: Mapping[str, Any]) -> PreTrainedModel:
    """A model of transformers, from a folder or the Hub, without the modules of an objective.

    Weights from safetensors alone, and no code: a pickle or a model's code runs whatever its author put there.

    Raises:
        ValueError: no safetensors, or other tensors in them than config.json asks for.
    """
    reports = logging.getLogger("transformers.modeling_utils")
    reports.addFilter(drafting.not_reported)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise ValueError(
            f"{name} has no safetensors weights, and pickled ones are not read; save it again with save_pretrained."
        ) from error
    finally:
        reports.removeFilter(drafting.not_reported)
    # transformers draws missing ones at random, and leaves out those of a layer that has no place.
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} tensors that config.json asks for are missing, such as {missing[0]}")
    layers = re.compile(rf"^(?!{auxiliary_modules.DRAFT_NAME}\.).*\.\d+\.")
    if extra := sorted(tensor for tensor in found["unexpected_keys"] if layers.search(tensor)):
        raise ValueError(f"config.json has no place for {len(extra)} tensors of the weights, such as {extra[0]}")
    return model
