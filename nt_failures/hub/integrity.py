"""Whether a run's folder is whole; nt_failures.json: objective, task and SHA-256 sums of the files beside it.

The sums notice a flipped bit, which no reader of weights sees, and files that were mixed up. They are no signature: who
may write the files may write the sums.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nt_failures import registry
from nt_failures.hub.json_files import portable, read_object, write_json
from nt_failures.hub.run_files import (
    CARD,
    CHECKED,
    CONFIG,
    FIGURES,
    INDEX,
    NEEDED,
    READ,
    REPORTS,
    RESULTS_FILE,
    RUN_FILE,
    SUMMED,
    WEIGHTS,
)
from nt_failures.hub.run_results import RunResults
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

SUMS = "sha256"
"""The entry of nt_failures.json that holds the sums."""
_DESCRIPTION = "description"
"""The name under which the sum of that file's other entries stands."""
_BASE = "base/"
"""What the names of an adapter's base model's weights begin with."""


def description(objective: Objective, task: Task | None) -> dict[str, Any]:
    """The entries `objective` and, where it is known, `task` of a run's description, JSON-ready."""
    described = {"objective": portable(objective.to_dict())}
    if task is not None:
        described["task"] = {"task": registry.name_of(type(task)), **task.to_dict()}
    return json.loads(json.dumps(described))


def save_run(folder: Path, objective: Objective, task: Task | None, hashes: bool = True) -> None:
    """Write objective and task beside the weights, with the sums of what stands there: the last file to be written.

    Args:
        hashes: whether to write sums, for which all weights are read again.
    """
    described = description(objective, task)
    if hashes:
        files = sorted({path for pattern in SUMMED for path in folder.glob(pattern)})
        sums = {path.name: sum_of_file(path) for path in files}
        if base := _base_folder(folder):  # an adapter only names it, and other weights may stand there some day
            sums |= {f"{_BASE}{path.name}": sum_of_file(path) for path in sorted(base.glob("*.safetensors"))}
        described = {**described, SUMS: {**sums, _DESCRIPTION: _sum_of_entries(described)}}
    write_json(folder / RUN_FILE, described)


def read_run(file: Path, name_or_path: str) -> dict[str, Any]:
    """The entries `objective` and `task` of a file of the folder or repository `name_or_path`.

    ValueError for a damaged file, and in a folder for other files than those it was saved with.
    """
    described = read_object(file)
    if unknown := sorted(set(described) - {"objective", "task", SUMS}):
        raise ValueError(f"it has an unknown entry {unknown[0][:80]!r}")
    folder = Path(name_or_path)
    if SUMS in described and folder.is_dir() and (changed := _changed(described, folder)):
        raise ValueError(
            f"{name_or_path}: {', '.join(changed)}: not as saved with {RUN_FILE}, so damaged or another model's; copy "
            f"the files again, or, if you changed them on purpose, remove {SUMS!r} from {RUN_FILE}."
        )
    return described


def sum_of_weights(run_file: Path) -> str | None:
    """One sum of weights, objective and task, made of those in a `nt_failures.json`; None where that has none."""
    sums = read_object(run_file).get(SUMS) if run_file.is_file() else None
    if not isinstance(sums, dict):
        return None
    return _sum_of_entries({n: value for n, value in sums.items() if n == _DESCRIPTION or n.endswith(".safetensors")})


def of_other_weights(results: RunResults, run_file: Path) -> bool:
    """Whether results are known to be those of another model than the one that `run_file` stands beside."""
    known = (results.weights, sum_of_weights(run_file))
    return None not in known and known[0] != known[1]


def _changed(described: Mapping[str, Any], folder: Path) -> list[str]:
    """Names of the files that are other than their sums say."""
    sums = described[SUMS]
    if not isinstance(sums, dict) or _DESCRIPTION not in sums:
        raise ValueError(f"its {SUMS} are no sums of files")
    entries = {name: value for name, value in described.items() if name != SUMS}
    bad = [RUN_FILE] if sums[_DESCRIPTION] != _sum_of_entries(entries) else []
    if base := _base_folder(folder):
        of_base = {base / name.removeprefix(_BASE): wanted for name, wanted in sums.items() if name.startswith(_BASE)}
        found = {path: wanted for path, wanted in of_base.items() if path.parent == base and path.is_file()}
        bad += [str(path) for path, wanted in found.items() if sum_of_file(path) != wanted]
    for path, wanted in ((folder / name, wanted) for name, wanted in sums.items() if name != _DESCRIPTION):
        if path.parent != folder:
            continue
        if path.is_file() and sum_of_file(path) != wanted:
            bad.append(path.name)
        elif not path.is_file() and path.suffix != ".safetensors":  # whoever loads weights sees that they are missing
            bad.append(f"{path.name} (missing)")
    return bad


def _base_folder(folder: Path) -> Path | None:
    """The folder of an adapter's base model; None where that is on the Hub or gone, and for a whole model."""
    if not is_adapter(folder):
        return None
    base = Path(str(read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")))
    return base if base.is_dir() else None


def sum_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_entries(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def check_whole(folder: Path) -> None:
    """Raise ValueError unless the folder holds a run with its weights, config, tokenizer and description, all whole."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the output folder of a run.")
    model = _model_files(folder)
    missing = [f"{name} missing" for name in (*NEEDED, *model) if not (folder / name).exists()]
    if found := [*missing, *_faults(folder, (*model, *CHECKED))]:
        raise ValueError(
            f"{str(folder)!r} holds no whole run: {', '.join(found)}; finish it with --resume, or train again."
        )
    read_run(folder / RUN_FILE, str(folder))
    if of_other_weights(RunResults.read(folder), folder / RUN_FILE):
        stale = ", ".join(name for name in (*REPORTS, *FIGURES, CARD) if (folder / name).exists())
        raise ValueError(
            f"{str(folder)!r} holds another model than the one that its {RESULTS_FILE} is about; remove {stale}, or "
            "finish the run with --resume."
        )


def check_readable(folder: Path) -> None:
    """Raise ValueError if a file that loading a model reads is there and damaged."""
    if found := _faults(folder, (*READ, *_model_files(folder))):
        raise ValueError(f"{folder}: {', '.join(found)}; save the model again.")


def count_tensors(folder: Path) -> int:
    """How many tensors the folder's weights hold."""
    return sum(len(safe_open(folder / name, "pt").keys()) for name in _weights(folder) if (folder / name).exists())


def _model_files(folder: Path) -> list[str]:
    return [ADAPTER_CONFIG, ADAPTER_WEIGHTS] if is_adapter(folder) else [CONFIG, *_weights(folder)]


def _weights(folder: Path) -> list[str]:
    """Names of the weight files, as their index lists them where there is one."""
    if not (folder / INDEX).exists():
        return [WEIGHTS]
    return [] if _fault(folder / INDEX) else sorted(set(read_object(folder / INDEX)["weight_map"].values()))


def _faults(folder: Path, names: Iterable[str]) -> list[str]:
    found = [_fault(folder / name) for name in dict.fromkeys(names) if (folder / name).exists()]
    return [fault for fault in found if fault]


def _fault(path: Path) -> str | None:
    """What is wrong with a file, None if nothing is."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):  # reads the header and compares it with the file's length
                return None
        if path.suffix == ".jinja":
            return None
        values = read_object(path)
        if path.name == RESULTS_FILE:
            RunResults.from_json(values)
    except SafetensorError as error:
        return f"{path.name} is cut off or damaged ({error}; {path.stat().st_size:,} bytes)"
    except ValueError as error:
        return str(error)
    if path.name == INDEX:
        files = values.get("weight_map")
        if not (isinstance(files, dict) and all(isinstance(name, str) for name in files.values())):
            return f"{path.name} names no weights"
    return f"{path.name} names no objective" if path.name == RUN_FILE and "objective" not in values else None
