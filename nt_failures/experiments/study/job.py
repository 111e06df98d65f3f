"""What a study is made of: jobs, and how each of them ended."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nt_failures.experiments import command_line
from nt_failures.hub.integrity import sum_of_file
from nt_failures.tasks.blocks import SPLITS


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
        recipe = yaml.safe_load(self.text)
        values = [recipe, list(self.extra)]
        named = dict(recipe) if isinstance(recipe, dict) else {}  # else its run will say what is wrong
        for split in SPLITS:
            for spelt in (f"{split}_file", f"{split}-file"):
                if given := command_line.peek(self.extra, spelt):
                    named[f"{split}_file"] = given
        files = [Path(str(named[name])) for split in SPLITS if named.get(name := f"{split}_file")]
        if sums := [_sum(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]:
            values.append(sums)
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
    failed: str = ""
    log: str = ""
    """what a failed run printed"""
