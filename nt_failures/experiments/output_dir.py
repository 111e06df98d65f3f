"""The output folder of a run: its name, who may write there, and what may be replaced or gone on with."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from nt_failures.experiments import earlier_run, resuming
from nt_failures.experiments.arguments import Arguments, DataArguments
from nt_failures.experiments.earlier_run import LOCK_FILE
from nt_failures.hub.json_files import write_json
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.registry import shorten
from nt_failures.tasks import TASKS, find_task
from nt_failures.training import checkpoint_files


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
                    resuming.warn_of_another_schedule(args, folder)
                write_json(folder / ARGUMENTS_FILE, resuming.as_written(args))
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
        resuming.check_same_run(args, folder)
        if newest is not None:
            resuming.check_unfinished(args, folder, newest)
        elif (folder / RESULTS_FILE).exists():
            again = "--overwrite_output_dir trains it again, --save_strategy steps leaves checkpoints; or "
            raise _refusal(folder, "holds a run that has ended and left no checkpoint to go on from", again)
        return newest and str(newest)
    for source in filter(None, (args.model.model, args.model.tokenizer)):
        if Path(source).exists() and Path(source).resolve().is_relative_to(folder.resolve()):
            raise _refusal(folder, f"holds {source!r}, which --overwrite_output_dir would clear")
    return None


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
        if not (folder / ARGUMENTS_FILE).exists() or resuming.difference(args, folder) is not None:
            continue
        if resuming.same_budget(args, folder):
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
