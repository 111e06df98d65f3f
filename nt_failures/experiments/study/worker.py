"""What a study does in a process of its own, on whatever machine: train a job, and tell how it ended."""

import contextlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from nt_failures.experiments.study import storage
from nt_failures.experiments.study.job import Ended, Job
from nt_failures.hub.json_files import read_object

LONGEST_LOG = 100_000
"""Characters of a failed run's output that are told; the last ones."""


def train(job: Job, scratch: str | None = None, keep: str | None = None) -> Ended:
    """Train a job in this process, which was made for it.

    Args:
        scratch: folder in which the run's folder is made, and removed at the end; None: the system's.
        keep: folder, or a path of fsspec, into which the whole folder is copied before the job is told of.
    """
    folder = Path(tempfile.mkdtemp(prefix="nt_failures-", dir=scratch))
    log = folder / "log.txt"
    try:
        with _printing_to(log):
            try:
                return _outcome(job, folder, keep)
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                sys.stderr.flush()
                text = log.read_text(encoding="utf-8", errors="replace")[-LONGEST_LOG:]
                return Ended(job, failed=" ".join(f"{type(error).__name__}: {error}".split()), log=text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(job: Job, folder: Path, keep: str | None) -> Ended:
    """How the job's run ended, which is copied to `keep` by then; the errors are those of a failure."""
    from nt_failures.experiments import run  # torch, once what the import says is in the log
    from nt_failures.experiments.study.results_file import definitions
    from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE

    recipe, own = folder / job.recipe.name, folder / f"seed{job.seed}"
    recipe.write_text(job.text, encoding="utf-8")
    try:
        run.main([str(recipe), "--seed", str(job.seed), "--output_dir", str(own), *job.extra])
    except FloatingPointError as error:
        arguments = read_object(own / ARGUMENTS_FILE)
        defined = {"arguments": arguments, "versions": definitions(arguments)}
        return Ended(job, diverged=str(error), defined=defined)
    if keep is not None:
        target = storage.place(keep, job.key)
        try:
            storage.publish(own, target)
        except Exception as error:  # of whatever library is behind the protocol
            raise RuntimeError(f"the run could not be copied to {target} ({type(error).__name__}: {error})") from error
    return Ended(job, results=read_object(own / RESULTS_FILE))


@contextlib.contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Put what this process and its children print into a file."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with open(log, "wb") as file:
        for number in kept:
            os.dup2(file.fileno(), number)
        line = {"mode": "w", "buffering": 1, "closefd": False, "encoding": "utf-8"}  # a killed process has said it all
        try:
            out, err = (os.fdopen(number, **line) for number in kept)
            with out, err, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield
        finally:
            for number, before in kept.items():
                os.dup2(before, number)
                os.close(before)
