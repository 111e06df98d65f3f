"""Make the missing runs of a study: each once, and what is finished is kept, whatever fails.

A finished run is a line of results.jsonl, which this process alone writes; an engine says where runs take place.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from nt_failures.experiments.study import interrupts, results_file
from nt_failures.experiments.study.engine import Engine
from nt_failures.experiments.study.job import Ended, Job
from nt_failures.experiments.study.results_file import StudyRun

FAILED = "failed"  # folder with what failed runs printed


def run_missing(wanted: Sequence[Job], results: Path, engine: Engine) -> None:
    """Make every run that results.jsonl does not hold yet, each in a process of its own.

    A line is appended for every run that is finished; one that diverges is, too, as diverged.jsonl says. A recipe that
    fails in another way is given up, the others go on, and a ChildProcessError at the end says so.
    """
    study = _Study(wanted, results, engine)
    with study.bar:
        try:
            for ended in engine.run(study.worth_starting()):
                study.take(ended)
        except BaseException:
            for ended in engine.stop():
                with contextlib.suppress(OSError):  # one run that cannot be written loses no other
                    study.take(ended)
            raise
    if study.failures:
        raise ChildProcessError("; ".join(study.failures.values()))


class _Study:
    """What has ended, what failed, and the bar that tells of it."""

    def __init__(self, wanted: Sequence[Job], results: Path, engine: Engine):
        self.results, self.engine, self.began = results, engine, time.time()
        finished = {run.key: run.solved for run in results_file.read_results(results)}
        self.done = {job.key for job in wanted} & {*finished, *results_file.read_diverged(results)}
        self.solved = sum(finished.get(key, False) for key in self.done)
        self.todo = [job for job in wanted if job.key not in self.done]
        self.failures: dict[Path, str] = {}
        self.bar = tqdm(
            total=len(wanted), initial=len(self.done), desc="runs", unit="run", smoothing=0, disable=not wanted
        )

    def worth_starting(self) -> Iterator[Job]:
        """What is to be done, but for recipes that have failed by the time that a job is asked for."""
        for job in self.todo:
            if job.recipe not in self.failures:
                yield job
                self.show()

    def take(self, ended: Ended) -> None:
        """Put on disk what has ended; nothing is done for a run that is there already."""
        key = ended.job.key
        if ended.failed:
            self._failed(ended)
        elif key not in self.done:
            with interrupts.held():
                self._append(ended)
                self.done.add(key)
            self.bar.update()
        self.show()
        self.bar.refresh()

    def show(self) -> None:
        """Processes at work, runs that solved their task, and when the last run is expected to end."""
        text = f"{self.engine.running} running, {self.solved} solved"
        left = self.bar.total - len(self.done)
        if ended := len(self.todo) - left:
            end = time.time() + left * (time.time() - self.began) / ended
            text += f", ends {time.strftime('%a %H:%M', time.localtime(end))}"
        self.bar.set_postfix_str(text, refresh=sys.stderr.isatty())  # in a log, a line for each run that ends

    def _append(self, ended: Ended) -> None:
        key = ended.job.key
        if ended.diverged:
            line = {**key._asdict(), "diverged": ended.diverged, **ended.defined}
            results_file.append_result(results_file.diverged_file(self.results), line)
            return
        line = results_file.record(key, ended.results)
        solved = StudyRun.from_json(line).solved  # what cannot be read again is no line
        results_file.append_result(self.results, line)
        self.solved += solved

    def _failed(self, ended: Ended) -> None:
        """The first error of a recipe is kept until all other runs are written."""
        name = f"{ended.job.recipe.stem}, seed {ended.job.seed}"
        message = f"{name} failed: {ended.failed}"
        if ended.log:
            log = self.results.parent / FAILED / f"{ended.job.recipe.stem}-seed{ended.job.seed}.txt"
            log.parent.mkdir(exist_ok=True)
            log.write_text(ended.log, encoding="utf-8")
            message += f" (log: {log})"
        self.failures.setdefault(ended.job.recipe, message)
