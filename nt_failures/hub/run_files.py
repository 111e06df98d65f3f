"""What is written down about a run beside its weights: objective and task, arguments, budget, curve, where it ran."""

import functools
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nt_failures import registry
from nt_failures.hub import sums
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

RUN_FILE = "nt_failures.json"
"""Saved beside the weights: which objective and task the model was trained with."""

ARGUMENTS_FILE, RESULTS_FILE, RECIPE_FILE = "arguments.json", "results.json", "recipe.yaml"


def save_run(folder: Path, objective: Objective, task: Task | None, hashes: bool = True) -> None:
    """Write objective and task beside the weights, with the hashes of what stands there: the last file to be written."""
    described = {"objective": objective.to_dict()}
    if task is not None:
        described["task"] = {"task": registry.name_of(type(task)), **task.to_dict()}
    text = json.dumps(sums.sealed(described, folder) if hashes else described, indent=2)
    (folder / RUN_FILE).write_text(text + "\n", encoding="utf-8")


def recipe(run: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The recipe that repeats a run, from its `Arguments.to_dict()`: flat, without how it was resumed or published."""
    once = (
        "resume",
        "resume_from_checkpoint",
        "overwrite_output_dir",
        "push_to_hub",
        "disable_tqdm",
        "run_name",
        "project",
    )
    flat = {
        name: value for part in ("data", "task", "model", "objective", "training") for name, value in run[part].items()
    }
    return {k: v for k, v in flat.items() if v is not None and k not in once and not k.startswith("hub_")}


def recipe_text(run: Mapping[str, Mapping[str, Any]], local: Sequence[str] = ()) -> str:
    """`recipe` as YAML; a comment stands above each name of `local`, whose value was a folder and is no Hub id."""
    lines = []
    for name, value in recipe(run).items():
        if name in local:
            lines.append(
                f"# {name}: a folder on the machine of the run, not published and no Hub id; name your own copy.\n"
            )
        lines.append(yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True))
    return "".join(lines)


def portable(value: Any) -> Any:
    """The same value with absolute paths, which mean something on one machine only, shortened to their last name."""
    if isinstance(value, Mapping):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all: a reader never sees half a file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2, default=plain) + "\n", encoding="utf-8")
    part.replace(path)


def plain(value: Any) -> Any:
    """For `json.dumps(default=...)`: NumPy numbers as Python's."""
    if isinstance(value, (np.integer, np.floating)):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a results file")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("nt_failures", "torch", "transformers", "datasets", "accelerate", "numpy")
    found = {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
    return found | ({} if commit() is None else {"commit": commit()})


@functools.cache
def commit() -> str | None:
    """Git commit of this package where it runs from a checkout, with a word where files were changed since."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed: a repository further up is not ours
        return None
    git = ["git", "-C", str(checkout)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of another user
        return None
    return head + (" and uncommitted changes" if changed.stdout.strip() else "")


def hardware() -> dict[str, Any]:
    """What it ran on."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return {"device": device, "machine": platform.machine(), "threads": torch.get_num_threads()}


def not_finite(value: Any) -> list[str]:
    """Where in a nested value of JSON a number is NaN or infinite, each place written with dots; however deep."""
    found, left = [], [("", value)]
    while left:
        where, one = left.pop(0)
        inner = one.items() if isinstance(one, Mapping) else enumerate(one) if isinstance(one, (list, tuple)) else ()
        left += [(f"{where}.{name}".lstrip("."), part) for name, part in inner]
        if isinstance(one, float) and not math.isfinite(one):
            found.append(where)
    return found


def check_finite(name: str, value: Any) -> None:
    """ValueError if a nested value of JSON holds a number that is not finite; it names the first."""
    if bad := not_finite(value):
        raise ValueError(f"{name}: {bad[0]} is no finite number; give one, or leave it out.")


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; ValueError that names the file if it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested beyond reason
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value
