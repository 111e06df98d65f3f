"""Task: the base class of all problems, with reproducible blocks of rows and splits that cannot overlap. NumPy only.

A task is a frozen dataclass whose fields are its parameters.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from nt_failures.tasks._sources import source_hash
from nt_failures.tasks._text import Text

Columns = dict[str, np.ndarray]

BLOCK_ROWS = 4096
"""Rows drawn from one random generator. Part of the data's definition: a change of it needs a new VERSION."""

SPLITS = {"train": 0, "validation": 1, "test": 2}
"""Split names and their ids. An id is part of the seed of every block of the split."""

_SPLIT_OF_EIGHTH = np.array(["train"] * 6 + ["validation", "test"])
"""The split that each eighth of the hash space belongs to."""

_MAX_ROUNDS = 2000
"""Bound on the redraws for one block. A split that holds even one instance in a thousand needs fewer."""


def check_integer(name: str, value: object, least: int = 0) -> None:
    """Raise ValueError unless the value is an integer (no bool) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}={value!r} is out of range; give a whole number, {name} >= {least}.")


def check_overlap(overlap: object) -> None:
    """Raise ValueError unless it is one of the two ways to share instances among splits."""
    if overlap not in ("forbid", "allow"):
        raise ValueError(f"overlap={overlap!r} is not a choice; give 'forbid' (disjoint splits) or 'allow'.")


def check_integers(fields: object, **least: int) -> None:
    """`check_integer` for the named fields of a dataclass."""
    for name, smallest in least.items():
        check_integer(name, getattr(fields, name), smallest)


@dataclasses.dataclass(frozen=True)
class Clue:
    """Part of a prompt that may stand at several places."""

    name: str
    """in words, such as "the edge to the goal\""""
    places: np.ndarray
    """(n,) whole numbers from 1"""
    count: int
    """how many places there are"""


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Base of all tasks. Positions are counted from 1 in the task's own order, in symbols of the answer.

    Example: path-star graphs that list their edges by the labels they start from. A task of another kind writes each of
    the methods below.
        >>> import dataclasses
        >>> import numpy as np
        >>> from nt_failures import PathStar
        >>> @dataclasses.dataclass(frozen=True)
        ... class SortedEdges(PathStar):
        ...     def sample(self, rng, n):
        ...         graphs = super().sample(rng, n)
        ...         order = np.argsort(graphs["edges"][:, :, :1], axis=1, kind="stable")
        ...         return {**graphs, "edges": np.take_along_axis(graphs["edges"], order, axis=1)}
        >>> task = SortedEdges(degree=2, path_length=3, num_nodes=10)
        >>> task.render(task.block(seed=0, split="train", index=0))["prompt"].to_list()[0]
        '2,9|5,0|8,2|8,5/8,0='
    """

    VERSION: ClassVar[str] = "1.0.0"
    DUMMY: ClassVar[str] = "$"
    """Symbol that never occurs in an instance; objectives put it where they hide an answer token."""

    @property
    @abc.abstractmethod
    def config_name(self) -> str:
        """Name of this size, for example `deg2-path5-nodes50`; also its folder on the Hub."""

    @property
    @abc.abstractmethod
    def symbols(self) -> list[str]:
        """Every symbol of prompts and answers, `DUMMY` last. Their order gives the word-level token ids."""

    @property
    @abc.abstractmethod
    def answer_length(self) -> int:
        """Symbols of one answer."""

    @property
    @abc.abstractmethod
    def chance(self) -> float:
        """Accuracy, in 0..1, of the best guesser who sees everything but cannot plan."""

    @abc.abstractmethod
    def decision_position(self, order: str) -> int:
        """Position of the first answer symbol, in the order of generation, that is no copy from the prompt."""

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n instances at once; every array has n rows. No rejection of rows: splits are made from this."""

    @abc.abstractmethod
    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        """The text columns `prompt` and `completion` of the given instances; `Text.from_list(strings)` makes one."""

    @abc.abstractmethod
    def parse(self, text: str) -> dict[str, object]:
        """Read a prompt, or a prompt and its completion in one string, back into a row. ValueError if it is neither."""

    @abc.abstractmethod
    def read_answer(self, text: str) -> list[int]:
        """Read a model's answer; never fails. A symbol that belongs to no answer reads as -1."""

    @abc.abstractmethod
    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """Score answers. Arrays with one row per instance: `correct` (n, answer_length), `exact`, `first_error`."""

    @abc.abstractmethod
    def answers(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The right answers of the given instances, (n, answer_length)."""

    def checked_answers(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """`answers`, (n, answer_length); ValueError if there are no instances, or they are of another task or size."""
        for name, none in self.sample(np.random.default_rng(0), 0).items():  # no instance is drawn: for the shapes
            shape = np.shape(columns[name]) if name in columns else None
            if shape is None or shape[1:] != none.shape[1:] or shape[0] == 0:
                wanted = ", ".join(["n", *map(str, none.shape[1:])])
                raise ValueError(
                    f"{name!r} has the shape {shape}, and {self} needs ({wanted}) with n >= 1; give instances of this "
                    "very task."
                )
        return self.answers(columns)

    @abc.abstractmethod
    def with_answers(self, columns: Mapping[str, np.ndarray], answers: np.ndarray) -> Columns:
        """The same instances with other answers, right or wrong, in place of the right ones; `render` shows them."""

    @abc.abstractmethod
    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Answers (n, answer_length) that go wrong at the decision and then on consistently; ValueError if none do."""

    def clue(self, columns: Mapping[str, np.ndarray]) -> Clue | None:
        """Where in its prompt each instance shows what tells the decision; None where prompts have no such places."""
        return None

    @abc.abstractmethod
    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """uint64 per row, equal for rows that pose the same problem however it is written down."""

    def to_dict(self) -> dict[str, object]:
        """The parameters, JSON-ready."""
        return dataclasses.asdict(self)

    def split_of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Name of the split each row belongs to. It depends on the instance alone: splits of all seeds are disjoint."""
        return _SPLIT_OF_EIGHTH[self.instance_hash(columns) >> np.uint64(61)]

    def block(self, seed: int, split: str, index: int, overlap: str = "forbid", rows: int = BLOCK_ROWS) -> Columns:
        """Rows `index * BLOCK_ROWS` up to `(index + 1) * BLOCK_ROWS` of a split, a function of the arguments alone.

        Args:
            seed: which stream of data; any integer >= 0.
            split: `"train"`, `"validation"` or `"test"`.
            index: which block, from 0 without end.
            overlap: `"forbid"` keeps instances whose hash belongs to the split, so splits never share one;
                `"allow"` draws every split from all instances, as the paper's released code does.
            rows: how many of them, from the first one; few are drawn faster.

        Raises:
            ValueError: an argument out of range, or a task so small that the split is empty.
        """
        if split not in list(SPLITS):
            raise ValueError(f"split={split!r} does not exist; give one of {', '.join(SPLITS)}.")
        check_overlap(overlap)
        for name, value in (("seed", seed), ("index", index), ("rows", rows)):
            check_integer(name, value)
        rows = min(rows, BLOCK_ROWS)
        rng = np.random.default_rng([seed, SPLITS[split], index])
        if overlap == "allow":
            return {name: column[:rows] for name, column in self.sample(rng, BLOCK_ROWS).items()}
        parts: list[Columns] = []
        drawn = 0
        for _ in range(_MAX_ROUNDS):
            columns = self.sample(rng, BLOCK_ROWS)
            in_split = self.split_of(columns) == split
            parts.append({name: column[in_split] for name, column in columns.items()})
            drawn += int(in_split.sum())
            if drawn >= rows:
                return {name: np.concatenate([part[name] for part in parts])[:rows] for name in columns}
        raise ValueError(
            f"{self} has so few different instances that split {split!r} holds {'too few' if drawn else 'none'}; use "
            "more labels or larger graphs, or overlap='allow' (train and test then share instances)."
        )

    @classmethod
    def source_hash(cls) -> str:
        """Hash of the code that defines the data: the class's, its bases' and what they import of the user's own.

        Changed code never meets old caches. Files that the code reads are not seen: a change of them needs a new
        `VERSION`.
        """
        modules = [base.__module__ for base in cls.__mro__ if issubclass(base, Task)]
        return source_hash([*modules, "nt_failures.tasks"])
