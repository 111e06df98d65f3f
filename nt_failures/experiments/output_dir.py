"""The output folder of a run: what may be written there, what is gone on with, and that no other process writes there too."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from nt_failures.experiments import claims, resuming
from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.registry import shorten
from nt_failures.training import checkpoint_files


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
        asked = Path(str(training.resume_from_checkpoint))
        for run in {folder, asked.parent} if asked.is_dir() else {folder}:
            resuming.check_same_run(args, run)
        return resuming.checkpoint_of(training.resume_from_checkpoint, folder, args)
    # These two alone are left by a run that ended before anything was trained.
    left = {ARGUMENTS_FILE, claims.LOCK_FILE}
    if folder.exists() and any(path.name not in left for path in folder.iterdir()):
        if training.resume and (folder / ARGUMENTS_FILE).exists():
            resuming.check_same_run(args, folder)
            newest = checkpoint_files.newest_whole(folder)
            if newest is None and (folder / RESULTS_FILE).exists():
                raise ValueError(
                    f"the run in {str(folder)!r} has ended and left no checkpoint to go on from; --overwrite_output_dir trains "
                    "it again from the first step, with --save_strategy steps to go on from it later."
                )
            return None if newest is None else resuming.checkpoint_of(str(newest), folder, args)
        if not (training.overwrite_output_dir or training.resume):
            more = "" if checkpoint_files.newest_whole(folder, warn=False) is None else "--resume to go on with it, "
            raise ValueError(
                f"output_dir {str(folder)!r} is not empty; add {more}--overwrite_output_dir to replace it, or --output_dir with "
                "another folder."
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
            f"output_dir {shorten(name)} can be no folder ({reason}); give --output_dir with another name."
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
                resuming.write_arguments(args, folder)
        yield checkpoint


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != claims.LOCK_FILE:
            path.unlink()
