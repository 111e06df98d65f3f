"""What a study is made of: jobs, and how each of them ended."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
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
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def key(self) -> Key:
        """Which run it is, in results.jsonl."""
        return Key(self.recipe.stem, self.seed, self.fingerprint)


class Ended(NamedTuple):
    """A job that has ended, in one of three ways; `failed` speaks of all jobs that were to be trained with it."""

    job: Job
    results: Mapping[str, Any] | None = None
    """the run's results.json"""
    diverged: str = ""
    failed: str = ""
    log: str = ""
    """what a failed run printed"""


def in_groups(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """Seeds of one recipe under the same flags, at most `size` in a group; in the order of the groups' first jobs."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        alike.setdefault((job.recipe, job.text, job.extra), []).append(job)
    groups = [same[i : i + size] for same in alike.values() for i in range(0, len(same), size)]
    return sorted(groups, key=lambda group: jobs.index(group[0]))
