"""Keep half-written Arrow files of the builder from being read, and say so where the disk is full.

`datasets` writes into a folder `*.incomplete` under a lock and renames it at the end. Added here: workers end with a
killed call, what such a call left behind is removed, files cut short afterwards are refused, messages name the disk.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import multiprocess
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError

from nt_failures.data import child_processes


class WriteError(Exception):
    """An OSError of a worker. `datasets` would report the OSError itself as a missing data file."""


@contextlib.contextmanager
def in_worker() -> Iterator[None]:
    """Around the writing of one file: an OSError becomes a WriteError, and a worker ends with the call it works for.

    The worker of a killed call would write on into the files of the next call.
    """
    caller = multiprocess.parent_process()
    if caller is not None:
        child_processes.end_with(caller, forked=multiprocess.get_start_method() == "fork")
    try:
        yield
    except (OSError, DatasetGenerationError) as error:
        cause = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise WriteError(str(cause)) from error


@contextlib.contextmanager
def explained(folder: str) -> Iterator[None]:
    """Around a call that writes below a folder: an OSError that says where, why, and what to do."""
    try:
        yield
    except (OSError, WriteError) as error:
        raise OSError(
            f"the data set cannot be written below {folder}: {error}; nothing half-written is kept or read. Make room "
            "or make that folder writable and call again, or give another cache_dir=... (or set HF_DATASETS_CACHE)."
        ) from error


def clear_leftovers(folder: str) -> None:
    """Empty the folder that is about to be filled: a killed call may have left files there.

    Only under the lock of `datasets`, and only its `*.incomplete` folders: any other is the user's.
    """
    if folder.endswith(".incomplete"):
        for path in Path(folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def undamaged(folder: str) -> Iterator[None]:
    """Around reading from a cache folder: a ValueError for files that are cut short, missing or no Arrow files."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(damaged(folder, f"{type(error).__name__}: {error}")) from error


def check_rows(rows: datasets.Dataset, expected: int, folder: str) -> None:
    """ValueError unless all rows are there: an Arrow file that ends early may read as a shorter one."""
    if len(rows) != expected:
        raise ValueError(damaged(folder, f"{len(rows):,} of {expected:,} rows are there"))


def damaged(folder: str, reason: str) -> str:
    """The message for files that changed after they were written."""
    return f"the data set in {folder} is damaged ({reason}); remove that folder, and the next call draws it anew."


def check_room(folder: str, needed: float) -> None:
    """Raise ValueError if so many bytes do not fit onto the disk of a folder."""
    place = next(parent for parent in Path(folder).absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"the rows need about {needed / 1e9:,.1f} GB and {place} has {free / 1e9:,.1f} GB free; give fewer of "
            "them, read them with streaming=True, or give a cache_dir on another disk (HF_DATASETS_CACHE)."
        )
