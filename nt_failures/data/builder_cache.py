"""What keeps a half-written data set from ever being read: the builder's dealings with a disk that fails it.

`datasets` writes into a folder `*.incomplete` under a lock and renames it when it is whole. What it leaves open is
closed here: workers that outlive a killed call, what such a call left behind, files that were cut short afterwards, and
messages that hide that the disk was full.
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
    """What the disk said to a worker, under a name that `datasets` does not rewrite to a missing file."""


@contextlib.contextmanager
def in_worker() -> Iterator[None]:
    """Around the writing of one file: an OSError becomes a WriteError, and nothing is written for a dead call.

    A worker whose call was killed would write on into the files of the next call.
    """
    caller = multiprocess.parent_process()
    if caller is not None:
        child_processes.end_with(caller, forked=multiprocess.get_start_method() == "fork")
    try:
        yield
    except (OSError, DatasetGenerationError) as error:
        found = _os_error(error)
        if found is None:
            raise
        raise WriteError(str(found)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def explained(folder: str) -> Iterator[None]:
    """Around a call that writes below a folder: one OSError that says where, why, what is left and what to do."""
    try:
        yield
    except (OSError, WriteError) as error:
        raise OSError(
            f"the data set cannot be written below {folder}: {error}; nothing half-written is kept or read. Make room or "
            "make that folder writable and call again, or give another cache_dir=... (or set HF_DATASETS_CACHE)."
        ) from error


def clear_leftovers(folder: str) -> None:
    """Empty the folder that is about to be filled: a killed call may have left files there, even open ones.

    Only under the lock of `datasets`, and only of its `*.incomplete` folders: any other is the user's.
    """
    if not folder.endswith(".incomplete"):
        return
    for path in Path(folder).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def undamaged(folder: str) -> Iterator[None]:
    """Around reading from a cache folder: one ValueError for files that are cut short, missing or no Arrow files."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(damaged(folder, f"{type(error).__name__}: {error}")) from error


def check_rows(rows: datasets.Dataset, expected: int, folder: str) -> None:
    """ValueError unless all rows are there: an Arrow file that ends early reads as a shorter one."""
    if len(rows) != expected:
        raise ValueError(damaged(folder, f"{len(rows):,} of {expected:,} rows are there"))


def damaged(folder: str, reason: str) -> str:
    """The message for files that were whole once."""
    return f"the data set in {folder} is damaged ({reason}); remove that folder, and the next call draws it anew."


def check_room(folder: str, needed: float) -> None:
    """Raise ValueError if so many bytes do not fit onto the disk of a folder: said before it is full, not after."""
    place = next((parent for parent in Path(folder).absolute().parents if parent.is_dir()), None)
    if place is None or needed <= (free := shutil.disk_usage(place).free):
        return
    raise ValueError(
        f"the rows need about {needed / 1e9:,.1f} GB and {place} has {free / 1e9:,.1f} GB free; give fewer of them, read them "
        "with streaming=True, or give a cache_dir on another disk (HF_DATASETS_CACHE)."
    )
