"""What the fault drills share: scripts in processes of their own, killed, starved of disk, and looked at afterwards."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import datasets

ROOT = Path(__file__).parents[2]

BUILD = """
import resource, signal, sys
import datasets
from nt_failures.builder import PathStarBuilder

cache, rows, num_proc, most_bytes = sys.argv[1], *map(int, sys.argv[2:])
if most_bytes:  # a file system that is full at this many bytes per file
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
datasets.disable_progress_bars()
builder = PathStarBuilder(cache_dir=cache, num_train=rows, num_test=10)
builder.download_and_prepare(num_proc=num_proc)
print(len(builder.as_dataset("train")))
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    """Run Python code in a process of its own, the head of its own group; its output is kept."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def build(cache: Path, rows: int, num_proc: int = 1, most_bytes: int = 0) -> subprocess.Popen:
    """Build a data set of the default task; `most_bytes` is the size at which a file finds the disk full."""
    return start(BUILD, cache, rows, num_proc, most_bytes)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, output, and errors of a process that ends within two minutes."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def kill_once(process: subprocess.Popen, ready: Callable[[], bool]) -> None:
    """SIGKILL as soon as `ready()` holds; the process must still be at work then. Its own workers are left alone."""
    until(lambda: process.poll() is not None or ready())
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()


def until(ready: Callable[[], bool]) -> None:
    """Wait for something that is sure to come."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def sweep(process: subprocess.Popen) -> None:
    """End what a killed process left running, such as the queue server of `datasets`."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def digest(rows: datasets.Dataset) -> str:
    """SHA-256 over the text of all rows."""
    whole = hashlib.sha256()
    for batch in rows.select_columns(["prompt", "completion"]).iter(batch_size=10_000):
        whole.update("\n".join(p + c for p, c in zip(batch["prompt"], batch["completion"], strict=True)).encode())
        whole.update(b"\n")
    return whole.hexdigest()


def unfinished(cache: Path) -> list[Path]:
    """What a failed build left: `*.incomplete` folders and the files in them."""
    return [path for path in cache.rglob("*") if ".incomplete" in str(path) and path.suffix != ".lock"]
