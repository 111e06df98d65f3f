"""Make the missing runs of a study, several at a time: each once, and what is finished is kept, whatever fails.

Each training is in a process and a folder of its own, and none is left behind. A finished run is a line of
results.jsonl; what a killed study left half done is removed and made again.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from tqdm.auto import tqdm

from nt_failures.data import child_processes
from nt_failures.experiments.script import DIVERGED
from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.results_file import Key
from nt_failures.hub.run_files import RESULTS_FILE

RUN = ("-m", "nt_failures.experiments.run")
RUN_SEEDS = ("-m", "nt_failures.experiments.run_seeds")
ATTEMPT = "attempt-"  # begins the name of the folder of a run that is under way


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: a recipe, a seed, and flags over the recipe."""

    recipe: Path
    seed: int
    extra: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe's values and the extra flags, not with comments."""
        values = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps([values, list(self.extra)], sort_keys=True).encode()).hexdigest()[:12]

    @property
    def key(self) -> Key:
        """Which run it is, in results.jsonl."""
        return Key(self.recipe.stem, self.seed, self.fingerprint)


class Ended(NamedTuple):
    """A process that has ended: the lines of its runs, its folder, and the error, if any."""

    records: list[dict[str, Any]]
    work: Path | None
    error: Exception | None = None


class Attempts:
    """Trainings of one study: none outlives a study that is stopped, and one that is killed takes them along."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def train(self, jobs: Sequence[Job]) -> Ended:
        """Seeds of one recipe, all in one process, which has one thread where there is no GPU.

        Where a seed diverged, the others of the process have finished.
        """
        first, seeds = jobs[0], [str(job.seed) for job in jobs]
        name = first.recipe.stem
        work = Path(tempfile.mkdtemp(prefix=f"{ATTEMPT}{name}-seed{seeds[0]}-", dir=self.folder))
        recipe = Path(shutil.copy(first.recipe, work))  # what is recorded is what is trained
        runs = {dataclasses.replace(job, recipe=recipe).key: work / f"seed{job.seed}" for job in jobs}
        if len(jobs) == 1:
            words = [*RUN, recipe, "--seed", *seeds, "--output_dir", *runs.values(), *first.extra]
        else:
            words = [*RUN_SEEDS, recipe, "--seeds", *seeds, "--output_dir", work, *first.extra]
        threads = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"}
        log = work / "log.txt"
        with open(log, "w", encoding="utf-8") as file:
            command = [sys.executable, *map(str, words)]
            code = self.call(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **threads})
        said = f"{' '.join(log.read_text(encoding='utf-8').splitlines()[-1:])} (log: {log})"
        records = []
        for key, run in runs.items():
            if (run / RESULTS_FILE).exists():
                results = json.loads((run / RESULTS_FILE).read_text(encoding="utf-8"))
                records.append(results_file.record(key, results))
            elif code == DIVERGED:
                records.append({**key._asdict(), "diverged": said})
        if code in (0, DIVERGED) and len(records) == len(runs):
            return Ended(records, work)
        failed = f"{name}, seed {', '.join(seeds)} failed with exit code {code}: {said}"
        return Ended(records, work, ChildProcessError(failed))

    def call(self, command: list[str], **options: Any) -> int:
        """Like subprocess.call."""
        with self.lock:
            if self.stopped:
                return -signal.SIGTERM
            process = child_processes.start(command, **options)
            self.running.add(process)
        try:
            return process.wait()
        finally:
            with self.lock:
                self.running.discard(process)
            process.stdin.close()

    def stop(self) -> None:
        """Ask those that run to end, and start no others."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def run_missing(wanted: Sequence[Job], results: Path, at_once: int, together: int = 1) -> None:
    """Make every run that results.jsonl does not hold yet, `together` seeds of a recipe in each process.

    A line is appended for every run that is finished; one that diverges is, too, as diverged.jsonl says. A recipe that
    fails in another way is given up, the others go on, and a ChildProcessError at the end says so. `at_once`: processes
    at a time.
    """
    attempts = Attempts(results.parent)
    for left in results.parent.glob(f"{ATTEMPT}*"):  # by a killed study
        shutil.rmtree(left)
    done = {*results_file.read_diverged(results), *(run.key for run in results_file.read_results(results))}
    todo = [job for job in wanted if job.key not in done]
    failures: dict[Path, Exception] = {}
    with (
        tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="runs", unit="run") as bar,
        concurrent.futures.ThreadPoolExecutor(at_once) as pool,
    ):
        waiting = {pool.submit(_attempt, jobs, attempts, failures) for jobs in in_groups(todo, together)}
        try:
            for future in concurrent.futures.as_completed(set(waiting)):
                _write(future.result(), results, bar)
                waiting.discard(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            attempts.stop()
            for future in waiting:
                if not future.cancelled():
                    with contextlib.suppress(OSError):  # one run that cannot be written loses no other
                        _write(future.result(), results, bar)
            raise
    if failures:
        raise ChildProcessError("; ".join(map(str, failures.values())))


def _attempt(jobs: Sequence[Job], attempts: Attempts, failures: dict[Path, Exception]) -> Ended:
    """Train, unless the recipe has failed; its first error is kept until all other runs are written."""
    recipe = jobs[0].recipe
    try:
        ended = Ended([], None, failures[recipe]) if recipe in failures else attempts.train(jobs)
    except Exception as error:
        ended = Ended([], None, error)
    if ended.error is not None:
        failures.setdefault(recipe, ended.error)
    return ended


def _write(ended: Ended, results: Path, bar: tqdm) -> None:
    """Put the lines of what has ended on disk, and only then remove its folder."""
    while ended.records:
        record = ended.records.pop(0)  # first: an interrupt behind the writing must not write it twice
        diverged = "diverged" in record
        try:
            results_file.append_result(results_file.diverged_file(results) if diverged else results, record)
        except OSError:
            ended.records.insert(0, record)
            raise
        outcome = "diverged" if diverged else f"{record['metrics']['free/exact']:.3f}"
        bar.set_postfix_str(f"{record['recipe']} seed {record['seed']}: {outcome}")
        bar.update()
    if ended.error is None:
        shutil.rmtree(ended.work, ignore_errors=True)


def in_groups(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """Seeds of one recipe under the same flags, at most `size` in a group; in the order of the groups' first jobs."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        alike.setdefault((job.recipe, job.extra), []).append(job)
    groups = [same[i : i + size] for same in alike.values() for i in range(0, len(same), size)]
    return sorted(groups, key=lambda group: jobs.index(group[0]))
