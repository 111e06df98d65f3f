"""One run on disk: its output folder, and the results.json that says what was measured, how and with what."""

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from nt_failures import checkpoints, claims, report
from nt_failures.arguments import Arguments
from nt_failures.diagnosis import Budget, Evidence, diagnose, verdict
from nt_failures.families import from_folder
from nt_failures.finder import shown
from nt_failures.models import parameter_count
from nt_failures.predictor import ModelPredictor
from nt_failures.records import (
    ARGUMENTS_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    budget_of,
    hardware,
    learning_curve,
    plain,
    recipe_text,
    seen_all,
    versions,
    write_json,
)
from nt_failures.tasks.base import Task
from nt_failures.trainer import ObjectiveTrainer
from nt_failures.whole import read_object

DIAGNOSIS_ROWS = 2000
"""Instances of each split that a run's diagnosis looks at."""


def check_output_dir(args: Arguments) -> str | None:
    """Refuse an output folder that must not be written, changing nothing; returns the checkpoint to resume, if any.

    Without `--output_dir` the folder is named after the run. A folder with content is refused unless the run resumes
    (`--resume`, `--resume_from_checkpoint last`, or a checkpoint's path) or may replace it (`--overwrite_output_dir`); even
    then only a folder that an earlier run of this script wrote may be cleared. A run resumes only as what it began.
    `--resume` begins anew where no whole checkpoint is, so one command serves a job that a cluster starts again.
    """
    training = args.training
    if "output_dir" not in args.given:
        size = Path(args.model.model).name
        names = (args.task.config_name, size, args.objective.objective, args.objective.order, f"seed{training.seed}")
        training.output_dir = str(Path("outputs") / "-".join(names))
    folder = _possible(training.output_dir)
    if training.run_name is None:  # without one, trackio puts the final test into another run than the training
        training.run_name = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {str(folder)!r} is a file; give --output_dir with a folder.")
    if training.resume_from_checkpoint is not None:
        _check_same_run(args, folder)
        return _checkpoint(training.resume_from_checkpoint, folder, training.max_steps)
    # These two alone are left by a run that ended before anything was trained.
    left = {ARGUMENTS_FILE, claims.LOCK_FILE}
    if folder.exists() and any(path.name not in left for path in folder.iterdir()):
        if training.resume and (folder / ARGUMENTS_FILE).exists():
            _check_same_run(args, folder)
            newest = checkpoints.newest_whole(folder)
            return None if newest is None else _checkpoint(str(newest), folder, training.max_steps)
        if not (training.overwrite_output_dir or training.resume):
            raise ValueError(
                f"output_dir {str(folder)!r} is not empty; add --resume to go on with it, "
                "--overwrite_output_dir to replace it, or --output_dir with another folder."
            )
        if not (folder / ARGUMENTS_FILE).exists():
            raise ValueError(
                f"output_dir {str(folder)!r} holds no earlier run ({ARGUMENTS_FILE} is missing), so it is left alone; "
                "give --output_dir with another folder."
            )
        for source in filter(None, (args.model.model, args.model.tokenizer)):
            if Path(source).exists() and Path(source).resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"{source!r} lies in output_dir {str(folder)!r}, which --overwrite_output_dir would clear; give "
                    "--output_dir with another folder."
                )
    return None


def _possible(name: str) -> Path:
    """ValueError for a name that no folder can have: empty, with a null character, or longer than the system takes."""
    try:
        if not name.strip():
            raise ValueError("it is empty")
        if "\0" in name:
            raise ValueError("it holds a null character")
        Path(name).exists()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"output_dir {shown(name)} can be no folder ({reason}); give --output_dir with another name."
        ) from error
    return Path(name)


@contextlib.contextmanager
def claim_output_dir(args: Arguments) -> Iterator[str | None]:
    """Hold the output folder for as long as the run lasts; yields the checkpoint to resume, if any. The step before training.

    A twin may have begun, or ended, since the folder was checked: so it is locked, checked once more, cleared where
    `check_output_dir` allows that, and the arguments are written. Of several processes the main one does so; the others look
    when it is done.

    Raises:
        ValueError: another process is at work there, or what `check_output_dir` says.
    """
    folder = Path(args.training.output_dir)
    with contextlib.ExitStack() as until_the_end:
        with args.training.main_process_first(local=False, desc="output folder"):
            main = args.training.process_index == 0
            if main:
                until_the_end.enter_context(claims.held(folder))
            checkpoint = check_output_dir(args)
            if main:
                if args.training.overwrite_output_dir:
                    _clear(folder)
                write_json(folder / ARGUMENTS_FILE, args.to_dict())
        yield checkpoint


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != claims.LOCK_FILE:
            path.unlink()


RESTORED = ("optimizer", "optim", "learning_rate", "muon_learning_rate", "weight_decay", "adam_beta1", "adam_beta2")
RESTORED += ("adam_epsilon",)
"""Training arguments that a checkpoint brings back with the optimizer, whatever is given."""


def _check_same_run(args: Arguments, folder: Path) -> None:
    """A checkpoint of another task, model or objective would train on silently as something it is not."""
    path = folder / ARGUMENTS_FILE
    if not path.exists():
        return
    earlier, now = _arguments(path), json.loads(json.dumps(args.to_dict(), default=plain))
    for part in ("task", "data", "model", "objective"):
        for name, value in now[part].items():
            if earlier[part].get(name, value) != value and name not in ("num_validation", "num_test"):
                raise ValueError(
                    f"the run in {str(folder)!r} has {name}={earlier[part].get(name)!r}, not {value!r}; resume it with the "
                    "arguments it began with, or give --output_dir with another folder."
                )
    before, after = earlier.get("training", {}), now["training"]
    for name in RESTORED:
        if before.get(name) != after.get(name):
            given, began = (values.get(name, "its default") for values in (after, before))
            raise ValueError(
                f"the run in {str(folder)!r} began with {name}={began}, which its checkpoints bring back, so {given} would "
                "not be used; resume it with the arguments it began with, or give --output_dir with another folder."
            )


def _arguments(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run wrote of its arguments."""
    try:
        earlier = read_object(path)
        if not all(isinstance(earlier.get(part), dict) for part in ("task", "data", "model", "objective")):
            raise ValueError(f"{path.name} names no task, data, model and objective")
    except ValueError as error:
        raise ValueError(
            f"output_dir {str(path.parent)!r}: {error}, so it cannot be told what the run began as; put the file back, or "
            "give --output_dir with another folder."
        ) from error
    return earlier


def _checkpoint(asked: str | bool, folder: Path, max_steps: int) -> str:
    checkpoint = Path(str(asked))
    if str(asked).lower() in ("last", "true"):
        checkpoint = checkpoints.newest_whole(folder)
        if checkpoint is None:
            raise ValueError(
                f"output_dir {str(folder)!r} holds no whole checkpoint to resume; train with --save_strategy steps."
            )
    state = checkpoint / checkpoints.STATE_FILE
    if not state.exists():
        raise ValueError(f"{str(checkpoint)!r} is no checkpoint of a Trainer ({state.name} is missing).")
    damage = checkpoints.damage(checkpoint)
    if damage is not None:
        raise ValueError(f"{str(checkpoint)!r} is half-written ({damage}); --resume takes the newest whole one.")
    step = json.loads(state.read_text(encoding="utf-8"))["global_step"]
    if 0 < max_steps <= step and _tested_after(folder, step):
        raise ValueError(
            f"{str(checkpoint)!r} is at step {step} of {max_steps} already; give a larger --max_steps to go on."
        )
    return str(checkpoint)


def _tested_after(folder: Path, step: int) -> bool:
    """Whether the final test of a run of that many steps is done; a run that was stopped before it goes on to it."""
    path = folder / RESULTS_FILE
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["steps"] >= step


def longest_sequence(rows: datasets.Dataset) -> int:
    """Tokens of the longest row, prefix and target together, with room for rows of other splits."""
    lengths = [len(p) + len(t) for p, t in zip(rows["prefix_ids"], rows["target_ids"], strict=True)]
    # Rows of equal length stay so in every split; where a tokenizer makes them vary, other rows may be longer.
    return max(lengths) if min(lengths) == max(lengths) else max(lengths) + max(lengths) - min(lengths)


def headline(args: Arguments, model: PreTrainedModel) -> str:
    """What is about to run, in two lines."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = f"{parameter_count(model):,} parameters" + (
        "" if args.model.lora is None else f", {trained:,} of them trained"
    )
    return (
        f"{args.task}: {args.objective.objective}, {args.objective.order} order, seed {args.training.seed}\n"
        f"{args.model.model}: {type(model).__name__}, {size} -> {args.training.output_dir}"
    )


def results(
    trainer: ObjectiveTrainer, args: Arguments, metrics: dict[str, float], n: int, train_seconds: float
) -> dict[str, Any]:
    """Everything a later table needs, JSON-ready: metrics, diagnosis, budget, arguments, versions, learning curve.

    Args:
        metrics: of the test split, with the prefix `test_` and the full decode.
        n: rows of the test split.
    """
    plain = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    budget = budget_of(trainer)
    curve = learning_curve(trainer.state)
    return {
        "metrics": plain,
        "n": n,
        "chance": args.task.chance,
        "decision_position": args.task.decision_position(args.objective.order),
        "trained_positions": trainer.objective.trained_positions,
        "diagnosis": diagnosis_of(trainer, args, plain, n, curve, budget),
        "steps": budget.steps,
        "examples": budget.examples,
        "flops": budget.flops,
        "train_seconds": round(train_seconds, 1),
        "resumed_at": trainer.resumed_at,
        "throughput": None if trainer.throughput is None else trainer.throughput.to_dict(),
        "parameters": parameter_count(trainer.model),
        "learning_curve": curve,
        "arguments": args.to_dict(),
        "local": [name for name in ("model", "tokenizer") if from_folder(dataclasses.asdict(args.model)[name])],
        "versions": versions(),
        "hardware": hardware(),
    }


def diagnosis_of(
    trainer: ObjectiveTrainer,
    args: Arguments,
    metrics: dict[str, float],
    n: int,
    curve: list[dict[str, float]],
    budget: Budget,
) -> dict[str, Any]:
    """The diagnosis on the first rows of test, and of train if all were seen; the verdict rests on the whole test split."""
    task, data, objective = args.task, args.data, trainer.objective
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    predictor = ModelPredictor(
        model, trainer.processing_class, objective, task, args.training.per_device_eval_batch_size
    )
    stream = (data.dataset_seed, data.overlap)
    held_out = first_rows(task, "test", min(data.num_test, DIAGNOSIS_ROWS), *stream)
    train = None
    if seen_all(budget.examples, data.num_train):
        train = first_rows(task, "train", min(data.num_train, DIAGNOSIS_ROWS), *stream)
    found = diagnose(predictor, task, held_out, train, curve, budget)
    evidence = Evidence(
        n=n,
        exact=metrics["free/exact"],
        chance=task.chance,
        decision=task.decision_position(objective.order),
        forced=report.positions(metrics, "forced"),
        free=report.positions(metrics, "free"),
        autoregressive=predictor.autoregressive,
        order=predictor.order,
        train_decision=found["decision_token"].get("train_accuracy"),
        follow_rate=None if found["clever_hans"] is None else found["clever_hans"]["follow_rate"],
        trained=predictor.trained_positions,
    )
    return found | {"verdict": verdict(evidence, budget).to_dict()}


def first_rows(task: Task, split: str, count: int, seed: int, overlap: str) -> dict[str, np.ndarray]:
    """The first `count` rows of a split as columns, at most one block."""
    return {name: column[:count] for name, column in task.block(seed, split, 0, overlap).items()}


def write(results_: dict[str, Any], args: Arguments) -> None:
    """Write results.json and recipe.yaml, which repeats the run unless it began from a local folder, into the output folder."""
    folder = Path(args.training.output_dir)
    write_json(folder / RESULTS_FILE, results_)
    (folder / RECIPE_FILE).write_text(recipe_text(args.to_dict(), results_["local"]), encoding="utf-8")
