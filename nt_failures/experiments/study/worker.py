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
from collections.abc import Sequence
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
    """Trainings of one study: none outlives a study that is stopped, and one that is killed takes them along."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def clear(self) -> None:
        """Remove what a killed study left behind."""
        for left in self.folder.glob(f"{ATTEMPT}*"):
            shutil.rmtree(left)

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
