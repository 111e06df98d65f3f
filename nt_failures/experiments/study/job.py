"""What a study is made of: jobs, and how each of them ended."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Key(NamedTuple):
    """What a study tells its runs apart by; `fingerprint` is of the recipe's values and the extra flags."""

    recipe: str
    seed: int
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: a recipe, a seed, and flags over the recipe. Whoever edits the recipe later does not change the job."""

    recipe: Path
    seed: int
    extra: tuple[str, ...] = ()
    text: str = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.recipe.read_text(encoding="utf-8"))

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe's values and the extra flags, not with comments."""
        values = [yaml.safe_load(self.text), list(self.extra)]
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]

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
