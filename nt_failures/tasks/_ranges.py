"""Sizes that may be ranges: `degree=(2, 10)` lets each row draw its own degree, every one equally likely."""

import argparse
import re

import numpy as np

from nt_failures.registry import shorten


class Size:
    """The type of such a field: a whole number, or a range as a pair (low, high), both included; `2-10` as a flag."""

    def __new__(cls, text: str) -> "int | tuple[int, int]":
        if found := re.fullmatch(r"(\d+)-(\d+)", text.strip()):
            return int(found[1]), int(found[2])
        try:
            return int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor a range such as 2-10") from error


def check_sizes(fields: object, **least: int) -> None:
    """Raise ValueError unless the named fields of a frozen dataclass are whole numbers of at least `least`, or ranges.

    A range becomes a pair of Python's integers, and one of a single number that number.
    """
    for name, smallest in least.items():
        given = getattr(fields, name)
        ends = list(given) if isinstance(given, (list, tuple)) and len(given) == 2 else [given]
        whole = all(isinstance(end, (int, np.integer)) and not isinstance(end, bool) for end in ends)
        if not whole or ends[0] < smallest or ends[-1] < ends[0]:
            raise ValueError(
                f"{name}={shorten(given, 80)} is out of range; give a whole number, {name} >= {smallest}, or a range "
                f"with its lower end first, such as ({smallest}, {smallest + 2})."
            )
        low, high = int(ends[0]), int(ends[-1])
        object.__setattr__(fields, name, low if low == high else (low, high))


def bounds(size: "int | tuple[int, int]") -> tuple[int, int]:
    """The lower and the upper end."""
    return size if isinstance(size, tuple) else (size, size)


def draw(rng: np.random.Generator, size: "int | tuple[int, int]", shape: int | tuple[int, ...]) -> np.ndarray:
    """Numbers from a range, every one equally likely."""
    low, high = bounds(size)
    return rng.integers(low, high + 1, shape)


def written(size: "int | tuple[int, int]", between: str = " to ") -> str:
    """As it stands in sentences, `5` or `3 to 8`; in names it is `3_8`."""
    return between.join(map(str, size)) if isinstance(size, tuple) else str(size)
