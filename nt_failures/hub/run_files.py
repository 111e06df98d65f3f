"""What is written down about a run beside its weights: objective and task, arguments, budget, curve, where it ran."""

import functools
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from nt_failures import registry
from nt_failures.hub import sums
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

RUN_FILE = "nt_failures.json"
"""Saved beside the weights: which objective and task the model was trained with."""

ARGUMENTS_FILE, RESULTS_FILE, RECIPE_FILE = "arguments.json", "results.json", "recipe.yaml"


def save_run(folder: Path, objective: Objective, task: Task | None) -> None:
    """Write objective and task beside the weights, and the sums of what stands there: the last file to be written."""
    described = {"objective": objective.to_dict()}
    if task is not None:
        described["task"] = {"task": registry.name_of(type(task)), **task.to_dict()}
    text = json.dumps(sums.sealed(described, folder), indent=2)
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
