"""What a study is made of: jobs, and how each of them ended."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nt_failures.experiments import command_line
from nt_failures.hub.integrity import sum_of_file
from nt_failures.hub.recipe import read_yaml
from nt_failures.tasks.blocks import SPLITS


def _files(recipe: Any, extra: Sequence[str]) -> list[Path]:
    """The files of rows that a run would read; none of a recipe that is no mapping, of which its run will say so."""
    found = []
    for name in (f"{split}_file" for split in SPLITS):
        of_flags = command_line.peek(extra, name) or command_line.peek(extra, name.replace("_", "-"))
        if given := of_flags or (isinstance(recipe, dict) and recipe.get(name)):
            found.append(Path(str(given)))
    return [path for path in found if path.is_file()]


@functools.lru_cache(maxsize=16)
def _sum(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once for all jobs as long as it stays as it is."""
    return sum_of_file(path)


class Key(NamedTuple):
    """What a study tells its runs apart by; `fingerprint` is of the recipe's values, extra flags and files of rows."""

    recipe: str
    seed: int
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: a recipe, a seed, and flags over the recipe. Whoever edits the recipe later does not change the job.

    `fingerprint` is of the recipe's values, the flags and the files of rows that they name, not of comments.
    """

    recipe: Path
    seed: int
    extra: tuple[str, ...] = ()
    text: str = dataclasses.field(init=False, repr=False)
    fingerprint: str = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.recipe.read_text(encoding="utf-8"))
        recipe = read_yaml(self.text)
        sums = [_sum(path, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(recipe, self.extra)]
        values = [recipe, list(self.extra), *([sums] if sums else [])]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
        object.__setattr__(self, "fingerprint", digest[:12])

    @property
    def key(self) -> Key:
        """Which run it is, in results.jsonl."""
        return Key(self.recipe.stem, self.seed, self.fingerprint)


class Ended(NamedTuple):
    """A job that has ended, in one of three ways."""

    job: Job
    results: Mapping[str, Any] | None = None
    """the run's results.json"""
    diverged: str = ""
    defined: Mapping[str, Any] = {}
    """of a run that diverged: its arguments, and how task and objective are defined"""
    failed: str = ""
    log: str = ""
    """what a failed run printed"""
