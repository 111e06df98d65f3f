"""What the fault drills share: scripts in processes of their own, killed, starved of disk, and looked at afterwards."""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import datasets

ROOT = Path(__file__).parents[2]

BUILD = """
import os, resource, signal, sys
import datasets
from datasets.arrow_writer import ArrowWriter
from nt_failures.data.builder import PathStarBuilder

cache, rows, num_proc, most_bytes, stop_after = sys.argv[1], *map(int, sys.argv[2:])
if most_bytes:  # a file system that is full at this many bytes per file
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
if stop_after:  # each process that writes says its id and stands still once it has written so many bytes
    write_table, written = ArrowWriter.write_table, 0

    def write(self, table, *args, **kwargs):
        global written
        write_table(self, table, *args, **kwargs)
        written += table.nbytes
        if written > stop_after:
            os.write(1, f"{os.getpid()}\\n".encode())
            os.kill(os.getpid(), signal.SIGSTOP)

    ArrowWriter.write_table = write
datasets.disable_progress_bars()
builder = PathStarBuilder(cache_dir=cache, num_train=rows, num_test=10)
builder.download_and_prepare(num_proc=num_proc)
print(len(builder.as_dataset("train")))
"""

LONGEST = 120
"""Seconds after which a process counts as hanging."""


DISK = """
mount -t tmpfs -o size=4m tmpfs "$1" || exit 99
"$2" -c "$3" "$1" "$4" "$5" 0 0
echo status $?
find "$1" -type f ! -name '*.lock'
mount -o remount,size=400m "$1"
exec "$2" -c "$3" "$1" "$4" "$5" 0 0
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    """Run Python code in a process of its own, as `command` does."""
    return command(sys.executable, "-c", code, *arguments)


def command(*words: object) -> subprocess.Popen:
    """Run a command in a process of its own, the head of its own group; its output is kept."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(list(map(str, words)), env=environment, text=True, start_new_session=True, **pipes)


def build(cache: Path, rows: int, num_proc: int = 1, most_bytes: int = 0, stop_after: int = 0) -> subprocess.Popen:
    """Build a data set of the default task.

    Args:
        most_bytes: the size at which a file finds the disk full.
        stop_after: bytes after which each process that writes stands still, having said its id.
    """
    return start(BUILD, cache, rows, num_proc, most_bytes, stop_after)


def build_twice_on_a_disk(cache: Path, rows: int, num_proc: int) -> tuple[int, str, str] | None:
    """Build in a file system of 4 MiB at `cache`, list what is left there, make room, build again.

    The file system is a real one, which only these processes see. None where nobody may mount one.
    """
    for allowed in (["--mount"], ["--mount", "--map-root-user"]):  # root, and others where the system lets them
        with contextlib.suppress(FileNotFoundError):  # no unshare
            process = command("unshare", *allowed, "sh", "-c", DISK, "sh", cache, sys.executable, BUILD, rows, num_proc)
            ended = finish(process)
            if "status" in ended[1]:
                return ended
    return None


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, output, and errors of a process that ends within two minutes."""
    out, err = process.communicate(timeout=LONGEST)
    return process.returncode, out, err


def kill(process: subprocess.Popen, writers: int) -> list[int]:
    """SIGKILL as soon as so many processes stand still in the middle of their files. Returns their ids."""
    said = b""
    while said.count(b"\n") < writers:
        assert select.select([process.stdout], [], [], LONGEST)[0], "nobody came to the middle of a file"
        more = os.read(process.stdout.fileno(), 1000)
        assert more, process.communicate()[1]
        said += more
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    return [int(line) for line in said.split()]


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
