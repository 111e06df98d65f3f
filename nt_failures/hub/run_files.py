"""What is written down about a run beside its weights: objective and task, arguments, budget, curve, where it ran."""

import dataclasses
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
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from nt_failures import registry
from nt_failures.diagnosis import Budget
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


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from their defaults, JSON-ready.

    Where the run is written to and with which token is no part of them.
    """
    default = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(args)
    }
    private = ("output_dir", "run_name", "logging_dir", "hub_token", "accelerator_config")
    changed = {name: value for name, value in args.to_dict().items() if value not in (default.get(name), [])}
    return portable({name: value for name, value in changed.items() if name not in private})


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


def budget_of(trainer: Trainer) -> Budget:
    """What the model that is judged has cost: all training, or up to the best checkpoint where that was loaded."""
    args, state = trainer.args, trainer.state
    best = args.load_best_model_at_end and state.best_model_checkpoint is not None
    steps = state.best_global_step if best else state.global_step
    flops = state.total_flos * steps / max(state.global_step, 1)
    return Budget(steps, _examples(trainer, steps), flops or None)


def _examples(trainer: Trainer, steps: int) -> int:
    """Rows that so many steps were trained on. The last batch of an epoch may be short, or dropped."""
    args = trainer.args
    batch = args.train_batch_size * args.world_size
    per_step = batch * args.gradient_accumulation_steps
    if not has_length(trainer.train_dataset):
        return steps * per_step
    rows = len(trainer.train_dataset)
    if args.dataloader_drop_last:
        rows = rows // batch * batch
    elif args.world_size > 1:  # every process gets a full batch, filled up with the epoch's first rows
        rows = math.ceil(rows / batch) * batch
    epochs, rest = divmod(steps, max(math.ceil(rows / per_step), 1))
    return epochs * rows + min(rest * per_step, rows)


def seen_all(examples: int, num_train: int | None, drop_last: bool = False) -> bool:
    """Whether training saw each of its instances; only then are they what a model could have memorised.

    With `dataloader_drop_last` nobody knows which rows were dropped from every epoch, so the answer is no.
    """
    return num_train is not None and examples >= num_train and not drop_last


def learning_curve(state: TrainerState) -> list[dict[str, float]]:
    """The evaluations during training: `step` and every `eval_` metric without its prefix."""
    entries = [entry for entry in state.log_history if "eval_free/exact" in entry]
    skip = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
    return [
        {"step": e["step"]}
        | {k.removeprefix("eval_"): v for k, v in e.items() if k.startswith("eval_") and k not in skip}
        for e in entries
    ]


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
