"""nt_failures.json: which objective and task a model was trained with."""

from pathlib import Path
from typing import Any

from nt_failures import registry
from nt_failures.hub.integrity import SUMS, check_sums, with_sums
from nt_failures.hub.json_files import read_object, write_json
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


def save_run(folder: Path, objective: Objective, task: Task | None, hashes: bool = True) -> None:
    """Write objective and task beside the weights, with the sums of what stands there: the last file to be written.

    Args:
        hashes: whether to write sums, for which all weights are read again.
    """
    described = {"objective": objective.to_dict()}
    if task is not None:
        described["task"] = {"task": registry.name_of(type(task)), **task.to_dict()}
    write_json(folder / RUN_FILE, with_sums(described, folder) if hashes else described)


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
    if Path(name_or_path).is_dir():
        check_sums(described, Path(name_or_path))
    return described
