"""An earlier run in the folder of a new one: set aside, then forgotten, or brought back if the new one fails."""

import shutil
from pathlib import Path

LOCK_FILE = ".lock"
"""Left where it is when the run ends: to remove it would let two processes lock two files of that name."""
REPLACED = ".replaced"
"""Where an earlier run stands until its successor has made a step, or ended: one that fails before leaves it whole."""


def set_aside(folder: Path) -> None:
    """Move an earlier run out of the way. If one stands there, what followed it was killed before its first step."""
    earlier = folder / REPLACED
    if earlier.exists():
        _clear(folder)
    else:
        earlier.mkdir()
        for path in _content(folder):
            path.rename(earlier / path.name)


def bring_back(folder: Path) -> None:
    """Undo `set_aside`, if the earlier run is still there."""
    if (folder / REPLACED).exists():
        _clear(folder)
        for path in (folder / REPLACED).iterdir():
            path.rename(folder / path.name)
        (folder / REPLACED).rmdir()


def forget(folder: Path) -> None:
    """Delete the run that was set aside, if any."""
    shutil.rmtree(folder / REPLACED, ignore_errors=True)


def _content(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in (LOCK_FILE, REPLACED)]


def _clear(folder: Path) -> None:
    for path in _content(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
