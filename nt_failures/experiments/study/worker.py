"""Trainings of a study: each in a process and a folder of its own, none left behind, and the results of each."""

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from nt_failures.data import child_processes
from nt_failures.experiments.script import DIVERGED
from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.study_run import Key
from nt_failures.hub.run_files import RESULTS_FILE

RUN = ("-m", "nt_failures.experiments.run")
RUN_SEEDS = ("-m", "nt_failures.experiments.run_seeds")
ATTEMPT = "attempt-"
"""What the folder of a run that is under way begins with."""
LOG = "log.txt"
"""In that folder: what the run printed."""


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


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that has ended: the lines of its runs, its folder, and the error, if any."""

    records: list[dict[str, Any]]
    work: Path | None
    error: Exception | None = None


class Attempts:
    """Trainings of one study: none outlives a study that is stopped, and one that is killed takes them along.

    With `keep_models` a finished run's folder stays, with its model.
    """

    def __init__(self, folder: Path, keep_models: bool = False):
        self.folder, self.keep_models = folder, keep_models
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def clear(self) -> None:
        """Remove what a killed study left behind."""
        for left in self.folder.glob(f"{ATTEMPT}*"):
            shutil.rmtree(left)

    def train(self, jobs: Sequence[Job]) -> Ended:
        """Seeds of one recipe, all in one process."""
        first, seeds = jobs[0], [job.seed for job in jobs]
        prefix = f"{ATTEMPT}{first.recipe.stem}-seed{seeds[0]}-"
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))
        recipe = Path(shutil.copy(first.recipe, work))  # what is recorded is what is trained
        jobs = [dataclasses.replace(job, recipe=recipe) for job in jobs]
        if len(jobs) == 1:
            runs = {jobs[0]: work / "run"}
            command = (*RUN, recipe, "--seed", *seeds, "--output_dir", work / "run", *first.extra)
        else:
            runs = {job: work / "runs" / f"seed{job.seed}" for job in jobs}
            command = (*RUN_SEEDS, recipe, "--seeds", *seeds, "--output_dir", work / "runs", *first.extra)
        return self._ended(work, runs, *self._call(command, work))

    def _ended(self, work: Path, runs: Mapping[Job, Path], code: int, last_words: str) -> Ended:
        """Read what a process has left; where a run diverged, those of the same process have finished."""
        records = []
        for job, run in runs.items():
            if (run / RESULTS_FILE).exists():
                results = json.loads((run / RESULTS_FILE).read_text(encoding="utf-8"))
                records.append(results_file.record(job.key, results))
                if self.keep_models:
                    self._keep(job, run)
            elif code == DIVERGED:
                records.append({**job.key._asdict(), "diverged": last_words})
        if code in (0, DIVERGED) and len(records) == len(runs):
            return Ended(records, work)
        seeds = ", ".join(str(job.seed) for job in runs)
        failed = f"{next(iter(runs)).recipe.stem}, seed {seeds} failed with exit code {code}: {last_words}"
        return Ended(records, work, ChildProcessError(failed))

    def _keep(self, job: Job, run: Path) -> None:
        """The finished run's folder, in the place of one whose line was never written or has been removed."""
        kept = self.folder / f"{job.recipe.stem}-seed{job.seed}-{job.fingerprint}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        for file in (job.recipe, job.recipe.parent / LOG):
            shutil.copy(file, kept)
        run.rename(kept / "run")

    def _call(self, command: Sequence[object], work: Path) -> tuple[int, str]:
        """Run Python, on one thread where there is no GPU; the exit code, and the last line of its log."""
        threads = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"}
        log, words = work / LOG, [sys.executable, *map(str, command)]
        with open(log, "w", encoding="utf-8") as file:
            code = self.call(words, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **threads})
        return code, f"{' '.join(log.read_text(encoding='utf-8').splitlines()[-1:])} (log: {log})"

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
