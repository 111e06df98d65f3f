"""Which checkpoints of a run are whole: a manifest, written last, lists every file with its size.

A process may be killed at any moment, so a folder without a manifest, or with another content than it lists, is
half-written. The manifest goes before anything else when a checkpoint is deleted. A stock `transformers.Trainer` resumes from
these checkpoints, too; to it the manifest is one more file.
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
    manifest = folder / MANIFEST_FILE
    if not manifest.is_file():
        return f"it has no {MANIFEST_FILE}"
    try:
        sizes = json.loads(manifest.read_text(encoding="utf-8"))["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST_FILE} cannot be read"
    for name, size in sizes:
        if not (folder / name).exists():
            return f"{name} is missing"
        if (folder / name).stat().st_size != size:
            return f"{name} has {(folder / name).stat().st_size} bytes, not {size}"
    return None


def in_order(folder: Path) -> list[Path]:
    """All checkpoints of a run, whole or not, by step, the newest last."""
    if not folder.is_dir():
        return []
    named = {path: re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in folder.iterdir()}
    steps = {path: int(match[1]) for path, match in named.items() if match and path.is_dir()}
    return sorted(steps, key=steps.__getitem__)


def newest_whole(folder: Path, warn: bool = True) -> Path | None:
    """The whole checkpoint of a run that was written last; names in a warning every half-written one of a later step."""
    everything = in_order(folder)
    newest = max(_whole(everything), key=_age, default=None)
    for checkpoint in everything[everything.index(newest) + 1 if newest else 0 :] if warn else ():
        if found := damage(checkpoint):
            logger.warning("%s is half-written (%s) and is passed over.", checkpoint, found)
    return newest


def _whole(everything: list[Path]) -> list[Path]:
    return [checkpoint for checkpoint in everything if damage(checkpoint) is None]


def _age(checkpoint: Path) -> tuple[float, int]:
    """When a whole checkpoint was written: after going back to an earlier one, a lower step is newer than a higher one.

    In the manifest, not the time of the file, which copying changes.
    """
    return written(checkpoint), int(checkpoint.name.rpartition("-")[2])


def written(checkpoint: Path) -> float:
    """When a whole checkpoint was written, in seconds since 1970; 0 where its manifest does not say."""
    found = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8")).get("written")
    return found if isinstance(found, float) else 0.0


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
    everything = in_order(folder)
    whole = sorted(_whole(everything), key=_age)
    kept = set(whole[-1:]) | {path for path in whole if best is not None and path.name == Path(best).name}
    for checkpoint in reversed(whole):
        if len(kept) < limit:
            kept.add(checkpoint)
    for checkpoint in everything:
        if checkpoint not in kept:
            logger.info("Deleting %s, by save_total_limit.", checkpoint)
            remove(checkpoint)
