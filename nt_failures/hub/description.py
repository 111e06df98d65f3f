"""nt_failures.json: which objective and task a model was trained with, and SHA-256 sums of the files beside it.

The sums notice a flipped bit, which no reader of weights sees, and files that were mixed up. They are no signature: who
may write the files may write the sums.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nt_failures import registry
from nt_failures.hub.json_files import read_object, write_json
from nt_failures.hub.run_files import RUN_FILE, SUMMED
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

SUMS = "sha256"
"""The entry of nt_failures.json that holds the sums."""
_DESCRIPTION = "description"
"""The name under which the sum of that file's other entries stands."""


def save_run(folder: Path, objective: Objective, task: Task | None, hashes: bool = True) -> None:
    """Write objective and task beside the weights, with the sums of what stands there: the last file to be written.

    Args:
        hashes: whether to write sums, for which all weights are read again.
    """
    described = {"objective": objective.to_dict()}
    if task is not None:
        described["task"] = {"task": registry.name_of(type(task)), **task.to_dict()}
    if hashes:
        files = sorted({path for pattern in SUMMED for path in folder.glob(pattern)})
        sums = {path.name: _sum_of_file(path) for path in files}
        described = {**described, SUMS: {**sums, _DESCRIPTION: _sum_of_entries(described)}}
    write_json(folder / RUN_FILE, described)


def read_run(file: Path, name_or_path: str) -> dict[str, Any]:
    """The entries `objective` and `task` of a file of the folder or repository `name_or_path`.

    ValueError for a damaged file, and in a folder for other files than those it was saved with.
    """
    try:
        described = read_object(file)
    except ValueError as error:
        raise ValueError(f"{name_or_path}: {error}; save the model again.") from error
    if unknown := sorted(set(described) - {"objective", "task", SUMS}):
        raise ValueError(f"{name_or_path}: {RUN_FILE} has an unknown entry {unknown[0][:80]!r}; save the model again.")
    if SUMS in described and Path(name_or_path).is_dir():
        _check_sums(described, Path(name_or_path))
    return described


def _check_sums(described: Mapping[str, Any], folder: Path) -> None:
    sums = described[SUMS]
    if not isinstance(sums, dict) or _DESCRIPTION not in sums:
        raise ValueError(f"{folder}: {RUN_FILE} is damaged: its {SUMS} are no sums of files; save the model again.")
    entries = {name: value for name, value in described.items() if name != SUMS}
    bad = [RUN_FILE] if sums[_DESCRIPTION] != _sum_of_entries(entries) else []
    files = {folder / name: wanted for name, wanted in sums.items() if name != _DESCRIPTION}
    for path, wanted in files.items():
        if path.parent != folder:
            continue
        if path.is_file() and _sum_of_file(path) != wanted:
            bad.append(path.name)
        elif not path.is_file() and path.suffix == ".json":  # whoever loads weights sees that they are missing
            bad.append(f"{path.name} (missing)")
    if bad:
        raise ValueError(
            f"{folder}: {', '.join(bad)}: not as saved with {RUN_FILE}, so damaged or mixed up with another model's; "
            f"copy the files from where they are whole, or, if you changed them on purpose, remove {SUMS!r} from "
            f"{RUN_FILE}."
        )


def _sum_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_entries(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
