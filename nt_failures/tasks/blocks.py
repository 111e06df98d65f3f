"""Reproducible blocks of rows, and splits that cannot overlap: how any task's rows are drawn."""

from collections.abc import Callable

import numpy as np

from nt_failures.registry import check_choice
from nt_failures.tasks.hashing import mix64

Columns = dict[str, np.ndarray]

BLOCK_ROWS = 4096
"""Rows drawn from one random generator. Part of the data's definition: a change of it needs a new VERSION."""

SPLITS = {"train": 0, "validation": 1, "test": 2}
"""Split names and their ids. An id is part of the seed of every block of the split."""

OVERLAPS = ("forbid", "allow")
"""Splits share no instance, or each is drawn from all."""

_SPLIT_OF_EIGHTH = np.array(["train"] * 6 + ["validation", "test"])
"""The split that each eighth of the hash space belongs to."""

_FIRST_ROUND = 16
"""Rows of a block that are drawn first: ten rows are not to cost a block. Part of the data's definition, too."""

_MAX_ROUNDS = 2000
"""Bound on the redraws for one block. A split that holds even one instance in a thousand needs fewer."""


def check_integer(name: str, value: object, least: int = 0) -> None:
    """Raise ValueError unless the value is an integer (no bool) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}={value!r} is out of range; give a whole number, {name} >= {least}.")


def check_integers(fields: object, **least: int) -> None:
    """`check_integer` for the named fields of a dataclass."""
    for name, smallest in least.items():
        check_integer(name, getattr(fields, name), smallest)


def split_share(split: str) -> float:
    """The share of all problems that belongs to a split."""
    return float((split == _SPLIT_OF_EIGHTH).mean())


def split_of_hash(hashes: np.ndarray) -> np.ndarray:
    """Name of the split of each hash (n,), whatever its bits look like."""
    return _SPLIT_OF_EIGHTH[mix64(hashes) >> np.uint64(61)]


def draw(
    task: str,
    sample: Callable[[np.random.Generator, int], Columns],
    split_of: Callable[[Columns], np.ndarray],
    block: tuple[int, str, int],
    overlap: str,
    rows: int,
) -> Columns:
    """`Task.block`: the first rows of a block (seed, split, index), by the sampler of that split; errors as there.

    `task` is how errors name it.
    """
    seed, split, index = block
    check_choice("split", split, [*SPLITS])
    check_choice("overlap", overlap, OVERLAPS)
    for name, value in (("seed", seed), ("index", index), ("rows", rows)):
        check_integer(name, value)
    rows = min(rows, BLOCK_ROWS)
    rng = np.random.default_rng([seed, SPLITS[split], index])
    share = 1.0 if overlap == "allow" else split_share(split)
    parts: list[Columns] = []
    accepted, round_rows = 0, _FIRST_ROUND
    for _ in range(_MAX_ROUNDS):
        columns = sample(rng, round_rows)
        if overlap == "forbid":
            in_split = split_of(columns) == split
            columns = {name: column[in_split] for name, column in columns.items()}
        parts.append(columns)
        accepted += len(next(iter(columns.values())))
        if accepted >= rows:
            return {name: np.concatenate([part[name] for part in parts])[:rows] for name in columns}
        # Each round is larger, up to what the block still lacks: never by `rows`, on which no row may depend.
        round_rows = min(8 * round_rows, BLOCK_ROWS, _FIRST_ROUND + int((BLOCK_ROWS - accepted) / share))
    raise ValueError(
        f"{task} has so few different instances that split {split!r} holds {'too few' if accepted else 'none'}; "
        "use more labels or larger graphs, or overlap='allow' (train and test then share instances)."
    )
