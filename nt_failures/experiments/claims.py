"""One process at a time in a run's folder: a lock held for as long as the run lasts."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

LOCK_FILE = ".lock"
"""Left where it is when the run ends: to remove it would let two processes lock two files of that name."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, and make the folder where there is none. The kernel releases it when the process dies.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            f"another process is at work in output_dir {str(folder)!r}; wait until it ends, or give --output_dir with another "
            "folder."
        ) from None
    try:
        yield
    finally:
        lock.release()
