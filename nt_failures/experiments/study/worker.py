"""What a study does in a process of its own, on whatever machine: train jobs, and tell how they ended."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nt_failures.experiments.study import storage
from nt_failures.experiments.study.job import Ended, Job

LONGEST_LOG = 100_000
"""Characters of a failed run's output that are told; the last ones."""


def train(jobs: Sequence[Job], scratch: str | None = None, keep: str | None = None) -> Iterator[Ended]:
    """Train seeds of one recipe in this process, which was made for them; yields each as soon as it has ended.

    A seed that diverges takes no other along; a failure ends them all.

    Args:
        scratch: folder in which the runs' folders are made, and removed at the end; None: the system's.
        keep: folder, or a path of fsspec, into which whole folders are copied before their jobs are told of.
    """
    folder = Path(tempfile.mkdtemp(prefix="nt_failures-", dir=scratch))
    log = folder / "log.txt"
    try:
        with _printing_to(log):
            try:
                for ended, run in _outcomes(jobs, folder):
                    if keep is not None and not ended.diverged:
                        _publish(run, storage.place(keep, ended.job.key))
                    yield ended
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                sys.stderr.flush()
                text = log.read_text(encoding="utf-8", errors="replace")[-LONGEST_LOG:]
                yield Ended(jobs[0], failed=" ".join(f"{type(error).__name__}: {error}".split()), log=text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _outcomes(jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Ended, Path]]:
    """How each job ended, and its run's folder."""
    from nt_failures.experiments import run, run_seeds  # torch, once what the import says is in the log

    recipe = folder / jobs[0].recipe.name
    recipe.write_text(jobs[0].text, encoding="utf-8")
    runs = {job.seed: (job, folder / f"seed{job.seed}") for job in jobs}
    if len(jobs) == 1:
        ((job, own),) = runs.values()
        try:
            run.main([str(recipe), "--seed", str(job.seed), "--output_dir", str(own), *job.extra])
        except FloatingPointError as error:
            yield Ended(job, diverged=str(error)), own
        else:
            yield Ended(job, results=_read(own)), own
        return
    words = [str(recipe), "--seeds", *map(str, runs), "--output_dir", str(folder), *jobs[0].extra]
    for seed, error in run_seeds.ends(words):
        job, own = runs[seed]
        yield (Ended(job, diverged=str(error)) if error else Ended(job, results=_read(own))), own


def _publish(run: Path, target: str) -> None:
    try:
        storage.publish(run, target)
    except Exception as error:  # of whatever library is behind the protocol
        raise RuntimeError(f"the run could not be copied to {target} ({type(error).__name__}: {error})") from error


def _read(run: Path) -> dict[str, Any]:
    from nt_failures.hub.run_files import RESULTS_FILE

    return json.loads((run / RESULTS_FILE).read_text(encoding="utf-8"))


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
