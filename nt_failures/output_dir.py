"""The output folder of a run: what may be written there, what is gone on with, and that no other process writes there too."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nt_failures import checkpoints, claims
from nt_failures.arguments import Arguments
from nt_failures.finder import shown
from nt_failures.records import ARGUMENTS_FILE, RESULTS_FILE, plain, write_json
from nt_failures.whole import read_object

RESTORED = ("optimizer", "optim", "learning_rate", "muon_learning_rate", "weight_decay", "adam_beta1", "adam_beta2")
RESTORED += ("adam_epsilon",)
"""Training arguments that a checkpoint brings back with the optimizer, whatever is given."""
ORDERED = ("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps")
"""Training arguments that say which rows the steps after the checkpoint see."""
BUDGET = ("max_steps", "num_train_epochs", "stop_when_solved")


def check(args: Arguments) -> str | None:
    """Refuse an output folder that must not be written, before anything is built; returns the checkpoint to resume, if any.

    Without `--output_dir` the folder is named after the run. A folder with content is refused unless the run resumes
    (`--resume`, `--resume_from_checkpoint last`, or a checkpoint's path) or may replace it (`--overwrite_output_dir`); even
    then only a folder that an earlier run of this script wrote may be cleared. A run resumes only as what it began.
    `--resume` begins anew where no whole checkpoint is, so one command serves a job that a cluster starts again.

    Raises:
        ValueError: one of these rules is broken, or another process is at work there.
    """
    checkpoint = _checked(args)
    folder = Path(args.training.output_dir)
    if args.training.process_index == 0 and (folder / claims.LOCK_FILE).exists():
        with claims.held(folder):  # let go at once: another may still come first, which `claim` sees
            pass
    return checkpoint


def _checked(args: Arguments) -> str | None:
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
        return _checkpoint(training.resume_from_checkpoint, folder, args)
    # These two alone are left by a run that ended before anything was trained.
    left = {ARGUMENTS_FILE, claims.LOCK_FILE}
    if folder.exists() and any(path.name not in left for path in folder.iterdir()):
        if training.resume and (folder / ARGUMENTS_FILE).exists():
            _check_same_run(args, folder)
            newest = checkpoints.newest_whole(folder)
            return None if newest is None else _checkpoint(str(newest), folder, args)
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
def claim(args: Arguments) -> Iterator[str | None]:
    """Hold the output folder for as long as the run lasts; yields the checkpoint to resume, if any. The step before training.

    A twin may have begun, or ended, since the folder was checked: so it is locked, checked once more, cleared where
    `check` allows that, and the arguments are written. Of several processes the main one does so; the others look
    when it is done.

    Raises:
        ValueError: another process is at work there, or what `check` says.
    """
    folder = Path(args.training.output_dir)
    with contextlib.ExitStack() as until_the_end:
        with args.training.main_process_first(local=False, desc="output folder"):
            main = args.training.process_index == 0
            if main:
                until_the_end.enter_context(claims.held(folder))
            checkpoint = _checked(args)
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
    for name in RESTORED + ORDERED:
        if before.get(name) != after.get(name):
            given, began = (values.get(name, "its default") for values in (after, before))
            so = f"which its checkpoints bring back, so {given} would not be used"
            if name in ORDERED:
                so = f"so with {given} it would go on with other rows than the rest of what it began"
            raise ValueError(
                f"the run in {str(folder)!r} began with {name}={began}, {so}; resume it with the arguments it began with, or "
                "give --output_dir with another folder."
            )
    if args.data.streaming:
        _check_same_workers(before, after, folder)


def _check_same_workers(before: dict[str, Any], after: dict[str, Any], folder: Path) -> None:
    """A stream is divided among workers, which all skip to the checkpoint's step: of another number, to other rows."""
    began, given = (values.get("dataloader_num_workers", 0) for values in (before, after))
    if (began or 1) != (given or 1):  # a single worker reads as the process itself does
        raise ValueError(
            f"the run in {str(folder)!r} began with dataloader_num_workers={began}, and workers divide a stream, so with "
            f"{given} it would go on with other rows, some of them seen already; resume it with --dataloader_num_workers "
            f"{began}, or give --output_dir with another folder."
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


def _checkpoint(asked: str | bool, folder: Path, args: Arguments) -> str:
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
    if _tested_after(folder, step):
        if 0 < args.training.max_steps <= step:
            raise ValueError(
                f"{str(checkpoint)!r} is at step {step} of {args.training.max_steps} already; give a larger --max_steps to go "
                "on."
            )
        if _same_budget(args, folder):
            raise ValueError(
                f"the run in {str(folder)!r} ended at step {step} and was tested; give it more to do by --max_steps or "
                "--num_train_epochs, or by another --stop_when_solved."
            )
    return str(checkpoint)


def _same_budget(args: Arguments, folder: Path) -> bool:
    """Whether nothing is asked for that the run in the folder was not asked for."""
    path = folder / ARGUMENTS_FILE
    if not path.exists():
        return False
    before, now = (
        _arguments(path).get("training", {}),
        json.loads(json.dumps(args.to_dict(), default=plain))["training"],
    )
    return all(before.get(name) == now.get(name) for name in BUDGET)


def _tested_after(folder: Path, step: int) -> bool:
    """Whether the final test of a run of that many steps is done; a run that was stopped before it goes on to it."""
    path = folder / RESULTS_FILE
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["steps"] >= step
