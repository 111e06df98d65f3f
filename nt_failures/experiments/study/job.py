"""What a study is made of: jobs, and how each of them ended."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nt_failures.hub.integrity import sum_of_file
from nt_failures.tasks.blocks import SPLITS


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
        flags = zip(self.extra, self.extra[1:], strict=False)
        named = (recipe or {}) | {flag.removeprefix("--"): value for flag, value in flags if flag.startswith("--")}
        files = [Path(named[name]) for split in SPLITS if named.get(name := f"{split}_file")]
        if sums := [sum_of_file(path) for path in files if path.is_file()]:
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
