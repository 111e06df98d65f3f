"""What a task tells the diagnosis beside its rows: what things are called, where a clue stands, what can be drawn."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clue:
    """Part of a prompt that may stand at several places."""

    name: str
    """in words, such as "the edge to the goal\""""
    places: np.ndarray
    """(n,) whole numbers from 1"""
    count: int
    """how many places there are"""


class Words(NamedTuple):
    """What reports and figures call the things of a task; the plural is with an s."""

    problem: str = "problem"
    answer: str = "answer"
    detour: str = "wrong start"


WORDS = Words()


@dataclasses.dataclass(frozen=True)
class Star:
    """A star or a tree, with the task's directed edges and an answer: what `figures.path_star` draws.

    Example:
        >>> Star(edges=[[0, 1], [0, 2]], source=0, goal=2, path=[0, 2], answer=[0, 1]).path
        [0, 2]
    """

    edges: Sequence[Sequence[int]]
    source: int
    goal: int
    path: Sequence[int]
    answer: Sequence[int]
    cut: Collection[int] = ()
    """nodes from which edges lead on that are left out"""
    note: str = ""
    """what else is left out, in words"""
    right: bool | None = None
    """whether the answer is; None where that is whether it is the path"""
