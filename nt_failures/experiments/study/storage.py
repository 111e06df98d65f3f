"""Whole run folders in a place that outlives the machine that trained them: any path that fsspec knows."""

from pathlib import Path

from fsspec.core import url_to_fs

from nt_failures.experiments.earlier_run import LOCK_FILE
from nt_failures.experiments.study.job import Key

WHOLE = "WHOLE.json"
"""Written last: a folder without it is a part of one. Object stores know no renaming, so nothing else would say so."""
PROBE = "nt_failures-probe.txt"


def place(root: str, key: Key) -> str:
    """Where a run's folder goes. A changed recipe has another."""
    return f"{root.rstrip('/')}/{key.recipe}-{key.fingerprint}/seed{key.seed}"


def located(root: str) -> str:
    """A path that means the same in every process of this machine; one with a protocol stays as it is.

    ValueError, before anything is trained, for a protocol that is not known or not installed, and for a place that
    cannot be written to: a small file is put there, and removed.
    """
    try:
        files, where = url_to_fs(root)
    except (ValueError, ImportError) as error:
        raise ValueError(f"--storage_path {root}: {error}") from error
    if "memory" in files.protocol:
        raise ValueError(f"--storage_path {root} ends with the process that writes to it; give a folder, or a store.")
    try:
        files.makedirs(where, exist_ok=True)
        files.pipe_file(f"{where}/{PROBE}", b"can this be written?")
        files.rm_file(f"{where}/{PROBE}")
    except Exception as error:  # of whatever library is behind the protocol
        raise ValueError(f"--storage_path {root} cannot be written to ({type(error).__name__}: {error}).") from error
    return root if "://" in root else str(Path(root).absolute())


def publish(folder: Path, target: str) -> None:
    """Copy a finished folder; what an earlier, broken copy left there is removed first."""
    files, where = url_to_fs(target)
    if files.exists(f"{where}/{WHOLE}"):
        files.rm_file(f"{where}/{WHOLE}")  # first, so that what a kill leaves of it does not pass for whole
    if files.exists(where):
        files.rm(where, recursive=True)
    for path in sorted(folder.rglob("*")):  # not `put`, which takes a [ in a folder's name for a pattern
        if path.is_file() and path.name != LOCK_FILE:
            target = f"{where}/{path.relative_to(folder).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), target)
    files.pipe_file(f"{where}/{WHOLE}", b"{}")
