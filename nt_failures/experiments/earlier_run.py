"""An earlier run in the folder of a new one: set aside, then forgotten, or brought back if the new one fails."""

import shutil
from pathlib import Path

from nt_failures.hub.run_files import ARGUMENTS_FILE

LOCK_FILE = ".lock"
"""Left where it is when the run ends: to remove it would let two processes lock two files of that name."""
SET_ASIDE = ".replaced"
"""Where an earlier run stands until its successor has made a step, or ended: one that fails before leaves it whole."""


def set_aside(folder: Path) -> None:
    """Move an earlier run out of the way. If one stands there, what followed it was killed before its first step."""
    earlier = folder / SET_ASIDE
    if (earlier / ARGUMENTS_FILE).exists():
        _clear(folder)
    else:
        forget(folder)  # what a kill left of it
        earlier.mkdir()
        for path in reversed(_content(folder)):
            path.rename(earlier / path.name)


def bring_back(folder: Path) -> None:
    """Undo `set_aside`, if the earlier run is still there."""
    if (folder / SET_ASIDE).exists():
        _clear(folder)
        _move_back(folder)


def cut_short(folder: Path) -> bool:
    """Whether `set_aside` was killed, or its caller before it wrote the arguments of the next run."""
    return (folder / SET_ASIDE).exists() and not (folder / ARGUMENTS_FILE).exists()


def mend(folder: Path) -> None:
    """Undo a `set_aside` that was cut short: what stands in the folder is of the earlier run, too."""
    if cut_short(folder):
        _move_back(folder)


def forget(folder: Path) -> None:
    """Delete the run that was set aside, if any."""
    (folder / SET_ASIDE / ARGUMENTS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / SET_ASIDE, ignore_errors=True)


def _move_back(folder: Path) -> None:
    for path in _content(folder / SET_ASIDE):
        path.rename(folder / path.name)
    (folder / SET_ASIDE).rmdir()


def _content(folder: Path) -> list[Path]:
    """All of a run, its arguments last: with them it is whole."""
    content = (path for path in folder.iterdir() if path.name not in (LOCK_FILE, SET_ASIDE))
    return sorted(content, key=lambda path: path.name == ARGUMENTS_FILE)


def _clear(folder: Path) -> None:
    for path in _content(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
