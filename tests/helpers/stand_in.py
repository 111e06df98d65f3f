"""A training of a few lines, for studies whose runs take no time; it imports little, as each is a process.

A recipe says what its runs do: `results`, `marks` (a folder in which each call leaves its mark), and at wish `diverge`
(seeds), `fail` (an error), `gate` (a file to wait for, by `gate_of_seed` only), `kill` (a file: until it is there, the
run of `kill_seed` writes it and is killed), `die` (each run is killed).
"""

import os
import select
import signal
import threading
from pathlib import Path

import yaml

from nt_failures.experiments.study.job import Ended


def until(condition, process=None):
    """Wait for a condition, at most three minutes."""
    for _ in range(9000):
        if condition():
            return
        assert process is None or process.poll() is None, process.communicate()
        threading.Event().wait(0.02)
    raise AssertionError("it never happened")


def ends(pid):
    """Whether a process, no child of this one, ends within two minutes."""
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([end], [], [], 120)[0])
    finally:
        os.close(end)


def train(job, scratch=None, keep=None):
    """In place of `worker.train`."""
    asked = yaml.safe_load(job.text)
    (Path(asked["marks"]) / f"{job.recipe.stem}-{job.seed}-{os.getpid()}").touch()
    if "gate" in asked and job.seed == asked.get("gate_of_seed", job.seed):
        until(Path(asked["gate"]).exists)
    if "kill" in asked and job.seed == asked["kill_seed"] and not Path(asked["kill"]).exists():
        Path(asked["kill"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if asked.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in asked:
        return Ended(job, failed=f"ValueError: {asked['fail']}", log=f"some words before\n{asked['fail']}\n")
    diverged = job.seed in asked.get("diverge", [])
    return Ended(job, diverged=f"nan at seed {job.seed}") if diverged else Ended(job, results=asked["results"])
