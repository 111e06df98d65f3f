"""The engine of this machine: each job in a fresh process, several at a time, and none outlives the study.

Processes of `multiprocessing` with a pipe each, not a pool: a pool is broken as a whole when the kernel kills one of
its workers.
"""

import multiprocessing
import shutil
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from accelerate.utils import patch_environment

from nt_failures.data import child_processes
from nt_failures.experiments.study import interrupts, worker
from nt_failures.experiments.study.job import Ended, Job


class Local:
    """Runs jobs in processes of this machine.

    Args:
        at_once: how many.
        threads: of each process; None: as many as it likes, for a GPU.
        scratch: a folder for the runs that are under way. What a killed study left in it is removed.
        keep: as of `worker.train`.
    """

    train = staticmethod(worker.train)

    def __init__(self, at_once: int, threads: int | None, scratch: Path, keep: str | None = None):
        self.at_once, self.threads, self.scratch, self.keep = at_once, threads, scratch, keep
        self._at_work: dict[Connection, tuple[Any, Job | None]] = {}  # no job once its end is told
        self._told: deque[Ended] = deque()

    def __enter__(self) -> "Local":
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def running(self) -> int:
        """Processes at work."""
        return len(self._at_work)

    def run(self, jobs: Iterable[Job]) -> Iterator[Ended]:
        """Train every job in a process of its own; one is asked for when there is room for it."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        waiting = iter(jobs)
        while True:
            while len(self._at_work) < self.at_once and (job := next(waiting, None)) is not None:
                self._start(job)
            if not self._at_work:
                return
            for pipe in wait(list(self._at_work)):
                self._receive(pipe)
                while self._told:
                    yield self._told[0]
                    self._told.popleft()  # heard, and not before

    def stop(self) -> list[Ended]:
        """End all processes at once; what they have told, and nobody has heard of yet."""
        for pipe, (process, _) in list(self._at_work.items()):
            while pipe in self._at_work and pipe.poll():
                self._receive(pipe)
            process.kill()
            process.join()
        self._at_work.clear()
        told = [*self._told]
        self._told.clear()
        return told

    def _start(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, self.train, job, str(self.scratch), self.keep))
        threads = {} if self.threads is None else {"OMP_NUM_THREADS": self.threads}  # torch reads it when it is loaded
        with interrupts.held(), patch_environment(**threads):
            process.start()
            theirs.close()
            self._at_work[ours] = (process, job)

    def _receive(self, pipe: Connection) -> None:
        """Take what a process tells, or that it has ended: a failure if it has told nothing."""
        process, job = self._at_work[pipe]
        try:
            with interrupts.held():
                self._told.append(pipe.recv())
                self._at_work[pipe] = (process, None)
        except (EOFError, OSError):
            del self._at_work[pipe]
            process.join()
            pipe.close()
            if job is not None:
                self._told.append(Ended(job, failed=_why(process.exitcode)))


def _why(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, as the kernel does where memory runs out; try fewer --jobs"
    return f"its process ended with exit code {code}"


def _work(pipe: Connection, train: Any, job: Job, *where: str | None) -> None:
    """All that a process does."""
    child_processes.end_with(multiprocessing.parent_process(), forked=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all, and the study ends this one
    pipe.send(train(job, *where))
