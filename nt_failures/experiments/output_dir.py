"""The output folder of a run: who may write there, what may be replaced, and what a resumed run must keep."""

import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from nt_failures.experiments import earlier_run
from nt_failures.experiments.arguments import Arguments, DataArguments
from nt_failures.experiments.earlier_run import LOCK_FILE
from nt_failures.experiments.kept_arguments import BUDGET, kept
from nt_failures.hub.integrity import sum_of_file
from nt_failures.hub.json_files import read_object, write_json
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.models.families import from_folder
from nt_failures.registry import shorten
from nt_failures.tasks import TASKS, find_task
from nt_failures.training import checkpoint_files

logger = logging.getLogger(__name__)

PARTS = ("task", "data", "model", "objective")
PROCESSES = "processes"  # in arguments.json: how many there were
WITHOUT_END = ("constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau")
"""Schedules that depend on no budget."""
CONTENT = "content"  # and the sums of the files that are named, of whose paths only the last name stands there


def locked(folder: Path) -> contextlib.AbstractContextManager:
    """Make the folder and hold its lock, which goes with the process; ValueError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return filelock.FileLock(folder / LOCK_FILE, timeout=0).acquire()
    except filelock.Timeout:
        busy = f"another process is at work in output_dir {str(folder)!r}"
        raise ValueError(f"{busy}; wait until it ends, or give --output_dir with another folder.") from None


def check(args: Arguments) -> None:
    """Name the folder, if that is left open, and refuse one that must not be written; before the data are built.

    ValueError if another process is at work there, or the folder has content and is neither to be resumed as it began
    nor to be cleared. `--resume` begins anew where no whole checkpoint is, so one command serves a restarted job.
    """
    if "output_dir" not in args.given:
        args.training.output_dir = str(_default(args))
    _mend(args, _possible(args.training.output_dir))
    _checkpoint(args)
    folder = Path(args.training.output_dir)
    if args.training.process_index == 0 and (folder / LOCK_FILE).exists():
        with locked(folder):  # let go at once: another may still come first, which `claim` sees
            pass


def _mend(args: Arguments, folder: Path) -> None:
    """Bring back an earlier run that was set aside for one that was killed before it wrote anything."""
    if args.training.process_index == 0 and earlier_run.cut_short(folder):
        with locked(folder):
            earlier_run.mend(folder)


@contextlib.contextmanager
def claim(args: Arguments) -> Iterator[str | None]:
    """Hold the output folder for as long as the run lasts; yields the checkpoint to resume, if any. Raises as `check`.

    A twin may have begun, or ended, since the folder was checked: so it is locked and checked once more, an earlier run
    is set aside where it may be replaced, and the arguments are written, by the main process; others look when it is
    done.
    """
    folder, main = Path(args.training.output_dir), args.training.process_index == 0
    with contextlib.ExitStack() as until_the_end:
        with args.training.main_process_first(local=False, desc="output folder"):
            if main:
                until_the_end.enter_context(locked(folder))
            checkpoint = _checkpoint(args)
            if main and args.training.overwrite_output_dir:
                earlier_run.set_aside(folder)
                until_the_end.callback(earlier_run.bring_back, folder)
            if main:
                if checkpoint is not None:
                    _warn_of_another_schedule(args, folder)
                write_json(folder / ARGUMENTS_FILE, _as_written(args))
        yield checkpoint
        if main:
            earlier_run.forget(folder)


def _checkpoint(args: Arguments) -> str | None:
    """The checkpoint to resume, if any."""
    training = args.training
    folder = _possible(training.output_dir)
    if training.run_name is None:  # without one, trackio puts the final test into another run than the training
        training.run_name = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    # These two alone are left by a run that ended before anything was trained.
    left = {ARGUMENTS_FILE, LOCK_FILE}
    if not folder.exists() or all(path.name in left for path in folder.iterdir()):
        return None
    newest = checkpoint_files.newest_whole(folder, warn=training.resume)
    if not (training.overwrite_output_dir or training.resume):
        more = "--resume to go on with it, " if newest else ""
        raise _refusal(folder, "is not empty", f"add {more}--overwrite_output_dir to replace it, or ")
    if not (folder / ARGUMENTS_FILE).exists():
        raise _refusal(folder, f"holds no earlier run ({ARGUMENTS_FILE} is missing), so it is left alone")
    if training.resume:
        _check_same_run(args, folder)
        if newest is not None:
            _check_unfinished(args, folder, newest)
        elif (folder / RESULTS_FILE).exists():
            again = "--overwrite_output_dir trains it again, --save_strategy steps leaves checkpoints; or "
            raise _refusal(folder, "holds a run that has ended and left no checkpoint to go on from", again)
        return newest and str(newest)
    for source in filter(None, (args.model.model, args.model.tokenizer)):
        if Path(source).exists() and Path(source).resolve().is_relative_to(folder.resolve()):
            raise _refusal(folder, f"holds {source!r}, which --overwrite_output_dir would clear")
    return None


def _warn_of_another_schedule(args: Arguments, folder: Path) -> None:
    """Of a rate that depends on the budget, which was another before."""
    budgets = [_budget(written["training"]) for written in (_written(folder), _as_written(args))]
    kind, warm_up = args.training.lr_scheduler_type.value, args.training.warmup_steps
    if budgets[0] != budgets[1] and (kind not in WITHOUT_END or 0 < warm_up < 1):
        logger.warning(
            "%s began with %s=%s, over which lr_scheduler_type=%s spreads its rates: a run of this recipe from the "
            "start has other rates up to here. A run that begins with lr_scheduler_type=constant_with_warmup can be "
            "given more steps and repeated by its recipe.",
            *(folder, *budgets[0], kind),
        )


def _budget(training: Mapping[str, Any]) -> tuple[str, Any]:
    """What ends a run, of arguments that are written, where defaults are left out."""
    name = "max_steps" if training.get("max_steps", -1) > 0 else "num_train_epochs"
    return name, training.get(name, "its default")


def _default(args: Arguments) -> Path:
    """The folder of a run that was given none; a number behind its name tells it from runs with other arguments.

    It is the one that began with these arguments, if there is one. `--resume` also takes the first that began with
    another budget, and where there is none to go on with, the first of all, which says what differs.
    """
    kind, usual = type(args.task), find_task(DataArguments.task)
    own = [] if kind is usual else [next((name for name in TASKS if TASKS[name] is kind), kind.__name__)]
    form = (Path(args.model.model).name, args.objective.objective, args.objective.order, f"seed{args.training.seed}")
    first = _possible(str(Path("outputs") / "-".join([*own, args.task.config_name, *form])))
    alike = None
    for number in itertools.count(1):
        folder = first if number == 1 else _possible(f"{first}-{number}")
        _mend(args, folder)
        if not folder.exists() or {path.name for path in folder.iterdir()} <= {LOCK_FILE}:
            return (alike or first) if args.training.resume else folder
        if not (folder / ARGUMENTS_FILE).exists() or _difference(args, folder) is not None:
            continue
        if _same_budget(args, folder):
            return folder
        alike = alike or folder


def _possible(name: str) -> Path:
    """ValueError for a name that no folder can have: empty, with a null character, too long, a file's."""
    reason = "" if name.strip() else "it is empty"
    try:
        os.stat(name)
        reason = "" if os.path.isdir(name) else "it is a file"
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = error.args[-1]
    if reason:
        raise _refusal(name, f"can be no folder ({reason})")
    return Path(name)


def _refusal(folder: Path | str, why: str, way: str = "") -> ValueError:
    """The error of a folder that is not taken; `way` is what may be done about it beside giving another."""
    return ValueError(f"output_dir {shorten(str(folder))} {why}; {way}give --output_dir with another folder.")


def _check_same_run(args: Arguments, folder: Path) -> None:
    """ValueError unless the run in the folder began with these arguments.

    Its budget may differ, and what only says how things are watched and saved.
    """
    if found := _difference(args, folder):
        name, before, now = found
        other = f"the run in {str(folder)!r} began with {name}={before!r}, not {now!r}"
        way = "resume it with the arguments it began with, or give --output_dir with another folder"
        raise ValueError(f"{other}; {way}.")


def _difference(args: Arguments, folder: Path) -> tuple[str, Any, Any] | None:
    """What the run in the folder began with otherwise: its name, the value there, the value now."""
    began = _fixed(_written(folder))
    for name, value in _fixed(_as_written(args)).items():
        if began.get(name, value) != value:
            return name, began[name], value
    return None


def _same_budget(args: Arguments, folder: Path) -> bool:
    before, now = _written(folder)["training"], _as_written(args)["training"]
    return all(before.get(name) == now.get(name) for name in BUDGET)


def _fixed(written: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must keep of its arguments.json, by name."""
    free = ("num_validation", "num_test")
    fixed = {name: value for part in PARTS for name, value in written[part].items() if name not in free}
    fixed |= kept(written["training"])
    fixed |= {f"{CONTENT} of {name}": value for name, value in written.get(CONTENT, {}).items()}
    if PROCESSES in written:  # they share each step's rows
        fixed["num_processes"] = written[PROCESSES]
    if fixed.get("streaming"):  # workers divide a stream; a single one reads as the process itself does
        fixed["dataloader_num_workers"] = written["training"].get("dataloader_num_workers") or 1
    return fixed


def _as_written(args: Arguments) -> dict[str, Any]:
    """The arguments as arguments.json gives them back."""
    written = {**args.to_dict(), PROCESSES: args.training.world_size}
    if sums := _sums(args):
        written[CONTENT] = sums
    return json.loads(json.dumps(written, default=np.generic.item))


def _sums(args: Arguments) -> dict[str, str]:
    """SHA-256 of what a resumed run reads again, by argument: the files of rows, and the tokenizer of a folder."""
    named = {name: Path(getattr(args.data, name)) for name in args.data.files}
    folders = {name: getattr(args.model, name) for name in ("model", "tokenizer")}
    named |= {name: Path(folder) / "tokenizer.json" for name, folder in folders.items() if from_folder(folder)}
    return {name: sum_of_file(path) for name, path in named.items() if path.is_file()}


def _written(folder: Path) -> dict[str, Any]:
    """What an earlier run wrote of its arguments."""
    try:
        began = {"training": {}, **read_object(folder / ARGUMENTS_FILE)}
        if not all(isinstance(began.get(part), dict) for part in (*PARTS, "training")):
            raise ValueError(f"{ARGUMENTS_FILE} names no task, data, model and objective")
    except ValueError as error:
        unknown = f"output_dir {str(folder)!r}: {error}, so it cannot be told what the run began as"
        raise ValueError(f"{unknown}; put the file back, or give --output_dir with another folder.") from error
    return began


def _check_unfinished(args: Arguments, folder: Path, checkpoint: Path) -> None:
    """ValueError if nothing is left to do: a final test followed the checkpoint, or the budget was another one.

    A budget that training never had would stand in the recipe. The test of an earlier run, gone on from since, does not
    count.
    """
    training, state = args.training, read_object(checkpoint / checkpoint_files.STATE_FILE)
    name, done = ("max_steps", "global_step") if training.max_steps > 0 else ("num_train_epochs", "epoch")
    asked, same, step = getattr(training, name), _same_budget(args, folder), state["global_step"]
    results = folder / RESULTS_FILE
    if results.exists() and results.stat().st_mtime >= checkpoint_files.written(checkpoint):
        if same or asked <= state[done]:
            more = "a larger --max_steps or --num_train_epochs, or by another --stop_when_solved"
            ended = f"the run in {str(folder)!r} ended at step {step} and was tested"
            raise ValueError(f"{ended}; give it more to do by {more}.")
    elif not same and asked <= state[done]:
        trained = f"the run in {str(folder)!r} is at step {step}, so {name}={asked:.12g} leaves nothing to train"
        raise ValueError(f"{trained}; give a larger one, or the budget it had.")
