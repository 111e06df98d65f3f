"""The checkpoints in a run's folder: which are whole, by a manifest of file sizes that is written last; their rotation.

A process may be killed at any moment, so a folder without a manifest, or with another content than it lists, is
half-written. A stock `transformers.Trainer` resumes from these checkpoints, too.
"""

import json
import logging
import re
import shutil
import time
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from nt_failures.hub.json_files import write_json

MANIFEST_FILE = "manifest.json"
STATE_FILE = "trainer_state.json"

logger = logging.getLogger(__name__)


def seal(folder: Path) -> None:
    """Write the manifest: from now on the checkpoint counts as whole, and as the newest."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE}
    write_json(folder / MANIFEST_FILE, {"files": sizes, "written": time.time()})


def damage(folder: Path) -> str | None:
    """What keeps a checkpoint from being whole, in a few words; None if it is whole."""
    if not (folder / MANIFEST_FILE).is_file():
        return f"it has no {MANIFEST_FILE}"
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        sizes, _ = manifest["files"].items(), float(manifest["written"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST_FILE} cannot be read"
    for name, size in sizes:
        if not (folder / name).exists():
            return f"{name} is missing"
        if (found := (folder / name).stat().st_size) != size:
            return f"{name} has {found} bytes, not {size}"
    return None


def in_order(folder: Path) -> list[Path]:
    """All checkpoints of a run, whole or not, by step, the newest last."""
    if not folder.is_dir():
        return []
    named = {path: re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in folder.iterdir()}
    steps = {path: int(match[1]) for path, match in named.items() if match and path.is_dir()}
    return sorted(steps, key=steps.__getitem__)


def newest_whole(folder: Path, warn: bool = True) -> Path | None:
    """The whole checkpoint that was written last; a warning names every half-written one of a later step."""
    checkpoints, newest = in_order(folder), next(iter(_whole(folder)), None)
    for checkpoint in checkpoints[checkpoints.index(newest) + 1 if newest else 0 :] if warn else ():
        if found := damage(checkpoint):
            logger.warning("%s is half-written (%s) and is passed over.", checkpoint, found)
    return newest


def _whole(folder: Path) -> list[Path]:
    """The whole checkpoints, the one written last first: after going back, a lower step is newer than a higher one."""
    return sorted((path for path in reversed(in_order(folder)) if damage(path) is None), key=written, reverse=True)


def written(checkpoint: Path) -> float:
    """When a whole checkpoint was written, in seconds since 1970; copying changes the time of a file, but not this."""
    return json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))["written"]


def remove(folder: Path) -> None:
    """Delete a checkpoint so that at no moment a part of it counts as whole."""
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def rotate(folder: Path, limit: int | None, best: str | None) -> None:
    """Keep `limit` whole checkpoints, always with the newest and the best; half-written ones do not count, and go.

    The Trainer's own rotation counts them, so it can delete the last whole one.
    """
    if limit is None or limit <= 0:
        return
    whole = _whole(folder)
    kept = set(whole[:1]) | {path for path in whole if best is not None and path.name == Path(best).name}
    for checkpoint in whole:
        if len(kept) < limit:
            kept.add(checkpoint)
    for checkpoint in in_order(folder):
        if checkpoint not in kept:
            logger.info("Deleting %s, by save_total_limit.", checkpoint)
            remove(checkpoint)
