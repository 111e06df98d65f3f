"""The runs of a study, each a training in a process of its own: every one once, whatever is killed, and none left behind.

A run that is finished is a line of results.jsonl. What is under way lies in a folder of its own, and a study that is started
again removes what a killed one left and makes what is missing.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from tqdm.auto import tqdm

from nt_failures import divergence, lifeline, study

ATTEMPT = "attempt-"
"""What the folder of a run that is under way begins with."""


LOG = "log.txt"
"""In that folder: what the run printed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run that is to be made: a recipe, a seed, and flags for examples/train.py."""

    recipe: Path
    seed: int
    extra: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe's values and the extra flags, not with its comments: a changed recipe is a new run."""
        values = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps([values, list(self.extra)], sort_keys=True).encode()).hexdigest()[:12]

    @property
    def named(self) -> dict[str, Any]:
        """What a line of results.jsonl says of which run it is."""
        return {"recipe": self.recipe.stem, "seed": self.seed, "fingerprint": self.fingerprint}


def run_missing(wanted: Sequence[Job], results: Path, attempts: "Attempts", at_once: int, together: int = 1) -> None:
    """Make every run that results.jsonl does not hold yet, `together` seeds of a recipe in each process.

    A run that diverges is finished, too: diverged.jsonl beside the results says so, and it is not made again. A recipe that
    fails in another way is given up, the others go on; then it is said. When stopped, what is finished is kept.

    Args:
        results: where a line is appended for every run that is finished.
        at_once: processes at a time.

    Raises:
        RuntimeError: some recipes failed; all else is done.
    """
    attempts.clear()
    finished = [*study.read_results(results), *study.read_diverged(results)]
    done = {(record["recipe"], record["seed"], record["fingerprint"]) for record in finished}
    todo = [job for job in wanted if (job.recipe.stem, job.seed, job.fingerprint) not in done]
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="runs", unit="run")
    failures: dict[Path, Exception] = {}

    def attempt(jobs: Sequence[Job]) -> Ended | None:
        recipe = jobs[0].recipe
        try:
            if recipe in failures:
                return None
            ended = attempts.alone(jobs[0]) if len(jobs) == 1 else attempts.together(jobs)
            if ended.error is not None:
                failures.setdefault(recipe, ended.error)
            return ended
        except Exception as error:  # said below, once the other runs are finished and written
            failures.setdefault(recipe, error)
            return None

    def write(ended: Ended | None) -> None:
        if ended is None:
            return
        while ended.records:
            record = ended.records.pop(0)
            try:
                study.append_result(study.diverged_file(results) if "diverged" in record else results, record)
            except OSError:
                ended.records.insert(0, record)
                raise
            said = "diverged" if "diverged" in record else f"{record['metrics']['free/exact']:.3f}"
            bar.set_postfix_str(f"{record['recipe']} seed {record['seed']}: {said}")
            bar.update()
        if ended.error is None:  # not before: what is on disk once more may be removed
            shutil.rmtree(ended.work, ignore_errors=True)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(attempt, jobs) for jobs in in_groups(todo, together)}
        try:
            for future in concurrent.futures.as_completed(set(waiting)):
                write(future.result())
                waiting.discard(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            attempts.children.stop()
            for future in waiting:
                if not future.cancelled():
                    with contextlib.suppress(OSError):  # one run that cannot be written loses no other
                        write(future.result())
            raise
        finally:
            bar.close()
    if failures:
        raise RuntimeError("; ".join(str(error) for error in failures.values()))


def in_groups(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Seeds of one recipe under the same flags, at most `size` in a group; in the order of the groups' first jobs."""
    groups: list[list[Job]] = []
    filling: dict[tuple, list[Job]] = {}
    for job in jobs:
        group = filling.get((job.recipe, job.extra))
        if group is None or len(group) == size:
            group = filling[job.recipe, job.extra] = []
            groups.append(group)
        group.append(job)
    return groups


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that has ended: lines of the runs that finished or diverged, its folder, and what went wrong, if anything."""

    records: list[dict[str, Any]]
    work: Path
    error: RuntimeError | None = None


class Attempts:
    """Trainings of one study, in processes and folders of their own.

    Args:
        scripts: the folder of train.py and train_seeds.py.
        folder: of the study.
        keep_models: whether a finished run's folder stays, with its model.
    """

    def __init__(self, scripts: Path, folder: Path, keep_models: bool = False):
        self.scripts, self.folder, self.keep_models = scripts, folder, keep_models
        self.children = Children()

    def clear(self) -> None:
        """Remove what a killed study left behind."""
        for left in self.folder.glob(f"{ATTEMPT}*"):
            shutil.rmtree(left)

    def alone(self, job: Job) -> Ended:
        """One run in a process of its own."""
        work, (job,) = self._claim([job], f"{job.recipe.stem}-seed{job.seed}")
        flags = ["--seed", job.seed, "--output_dir", work / "run", *job.extra]
        code, failure = self._call([self.scripts / "train.py", job.recipe, *flags], work)
        return self._ended(work, {job: work / "run"}, code, failure)

    def together(self, jobs: Sequence[Job]) -> Ended:
        """Seeds of one recipe in one process."""
        name, seeds = jobs[0].recipe.stem, [job.seed for job in jobs]
        work, jobs = self._claim(jobs, f"{name}-seeds{seeds[0]}to{seeds[-1]}")
        flags = ["--seeds", *seeds, "--output_dir", work / "runs", *jobs[0].extra]
        code, failure = self._call([self.scripts / "train_seeds.py", jobs[0].recipe, *flags], work)
        return self._ended(work, {job: work / "runs" / f"seed{job.seed}" for job in jobs}, code, failure)

    def _ended(self, work: Path, runs: Mapping[Job, Path], code: int, said: str) -> Ended:
        """Read what a process has left; where a training diverged, its other runs have finished, and it has not."""
        records, missing = [], []
        for job, run in runs.items():
            if (run / "results.json").exists():
                found = json.loads((run / "results.json").read_text(encoding="utf-8"))
                records.append({**job.named, **found})
                self._keep(job, run)
            elif code == divergence.EXIT_CODE:
                records.append({**job.named, "diverged": said})
            else:
                missing.append(job.seed)
        if code in (0, divergence.EXIT_CODE) and not missing:
            return Ended(records, work)
        seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(job.seed) for job in runs)}"
        error = RuntimeError(f"{next(iter(runs)).recipe.stem}, {seeds} failed with exit code {code}: {said}")
        return Ended(records, work, error)

    def _keep(self, job: Job, run: Path) -> None:
        """The finished run's folder, in the place of one whose line was never written or has been removed."""
        if self.keep_models:
            kept = self.folder / f"{job.recipe.stem}-seed{job.seed}-{job.fingerprint}"
            if kept.exists():
                shutil.rmtree(kept)
            kept.mkdir()
            for file in (job.recipe, job.recipe.parent / LOG):
                shutil.copy(file, kept)
            run.rename(kept / "run")

    def _claim(self, jobs: Sequence[Job], name: str) -> tuple[Path, list[Job]]:
        """A folder for an attempt, and the jobs with a copy of their recipe: what is recorded is what is trained."""
        work = Path(tempfile.mkdtemp(prefix=f"{ATTEMPT}{name}-", dir=self.folder))
        copy = Path(shutil.copy(jobs[0].recipe, work))
        return work, [dataclasses.replace(job, recipe=copy) for job in jobs]

    def _call(self, command: Sequence[object], work: Path) -> tuple[int, str]:
        """Run a script, on one thread where there is no GPU; exit code, last line and log."""
        environment = os.environ if torch.cuda.is_available() else {**os.environ, "OMP_NUM_THREADS": "1"}
        log = work / LOG
        words = [sys.executable, *map(str, command)]
        with open(log, "w", encoding="utf-8") as file:
            code = self.children.call(words, stdout=file, stderr=subprocess.STDOUT, env=environment)
        return code, f"{' '.join(log.read_text(encoding='utf-8').splitlines()[-1:])} (log: {log})"


class Children:
    """The trainings under way, so that none outlives a study that is stopped; one that is killed takes them along."""

    def __init__(self) -> None:
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def call(self, command: list[str], **options: Any) -> int:
        """Like subprocess.call."""
        with self.lock:
            if self.stopped:
                return -signal.SIGTERM
            process = lifeline.start(command, **options)
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


def run_script(main: Callable[[list[str]], None]) -> None:
    """Run a study's script: SIGTERM, a cluster's or the shell's, ends it as Ctrl-C does, and errors are one line."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        main(sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished runs are in results.jsonl, the same command goes on from there")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
