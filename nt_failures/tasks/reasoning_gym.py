"""A task of reasoning-gym, judged by that package's own scorer (arXiv 2505.24760).

In the order of use: from a name to a class, the task, words as numbers. The package is an extra: it is imported where a
task of it is asked for by name, `reasoning_gym.NAME`.
"""

import abc
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures import registry
from nt_failures.tasks._derived import answer_words
from nt_failures.tasks.base import END, Task
from nt_failures.tasks.blocks import Columns
from nt_failures.tasks.judging import judged, padded_answers

PREFIX = "reasoning_gym."
"""How the names of these tasks begin."""
_ITEMS = 2**31
"""A row is one of so many items of a data set of reasoning-gym."""
_LOOKED_AT = 40
"""Items that are looked at to tell how long answers are, and of which one at least has to do, where rows are drawn."""
_LEFT_OUT = ("seed", "size", "num_train", "max_steps")
"""Fields of theirs which the rows of ours have no use for, and those that are flags of every run."""


def reasoning_gym_task(name: str, from_file: bool = False) -> type[Task]:
    """The task `reasoning_gym.NAME`, for any registered NAME; `from_file` as in `registry.find`.

    ValueError for a name that is not registered, or where the package is not installed.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ValueError(f"{name} is a task of the package reasoning-gym; pip install 'nt_failures[reasoning_gym]'.")
    known = registry.own_module("tasks", name, "reasoning_gym", from_file).factory.DATASETS
    registered = name.partition(".")[2]
    if not registered:
        raise ValueError(f"tasks: give one of its tasks as reasoning_gym.NAME; NAME is one of {', '.join(known)}.")
    registry.check_names("tasks: reasoning-gym has no", [registered], known)
    return _class_of(registered, *known[registered])


def __getattr__(name: str) -> type[Task]:
    """A class by its own name, for pickle; AttributeError for any other, as `hasattr` and `torch.compile` expect."""
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return reasoning_gym_task(PREFIX + name)
    except ValueError as error:
        raise AttributeError(str(error)) from error


@functools.cache
def _class_of(name: str, dataset: type, config: type) -> type[Task]:
    kinds = typing.get_type_hints(config)
    fields = [(f.name, kinds[f.name], f.default) for f in dataclasses.fields(config) if f.name not in _LEFT_OUT]
    fields = [field for field in fields if field[1] in (int, float, bool, str) and field[2] is not dataclasses.MISSING]
    numbers = re.findall(r"\d+", importlib.metadata.version("reasoning-gym"))
    namespace = {"make": staticmethod(lambda **values: dataset(config(**values))), "VERSION": ".".join(numbers[:3])}
    namespace |= {"__module__": __name__, "__doc__": dataset.__doc__ or f"The task {name} of reasoning-gym."}
    return dataclasses.make_dataclass(name, fields, bases=(ReasoningGym,), namespace=namespace, frozen=True)


@dataclasses.dataclass(frozen=True)
class ReasoningGym(Task):
    """Base of the tasks of reasoning-gym: a question, an answer, and a scorer that says which other answers are right.

    Parameters are those of the package's configuration that are a number, a text, or true or false; its lists, and what
    is a flag of every run (`num_train`, `max_steps`), keep their defaults. A row is one item of the data set, and the
    question decides its split.

    A symbol is a **word** of the answer, what stands between commas and blanks; so positions, and the order in which
    they are learnt, are those of words. What stands between words is taken as the written answer has it, so that an
    answer is judged by its words alone. A word of its own `.` ends an answer. Nothing is known to be decided: there are
    exact answers and the learning order, and no cheat is measured.

    An answer that is longer than the longest of the first forty items is not drawn.
    """

    free_text = True
    instruction = "Answer the question below, in the form that it asks for."
    citation = "reasoning-gym, arXiv 2505.24760"

    @staticmethod
    @abc.abstractmethod
    def make(**values: Any) -> Any:
        """The data set of reasoning-gym with these values of its configuration."""

    def __post_init__(self) -> None:
        try:
            _items(self)
        except (AssertionError, ValueError) as error:
            raise ValueError(f"{self} is refused by reasoning-gym: {registry.first_line(error)}") from error

    @property
    def config_name(self) -> str:
        changed = {f.name: vars(self)[f.name] for f in dataclasses.fields(self) if vars(self)[f.name] != f.default}
        sizes = (f"{name}{re.sub(r'[^A-Za-z0-9.]+', '_', str(value))}" for name, value in changed.items())
        return "-".join(sizes) or "default"

    @property
    def symbols(self) -> list[str]:
        """`END`, the words that were met so far, and `DUMMY`."""
        return [*_WORDS, self.DUMMY]

    @property
    def answer_length(self) -> int:
        return _longest(self)

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n rows: `item` (n,) int64, the number of an item."""
        items = rng.integers(0, _ITEMS, n)
        for row in range(n):
            tries = itertools.count()
            while not 1 <= len(_item(self, int(items[row])).words) <= self.answer_length:
                if next(tries) == _LOOKED_AT:
                    raise ValueError(f"{self} has hardly an answer of 1 to {self.answer_length} words.")
                items[row] = rng.integers(0, _ITEMS)
        return {"item": items}

    def answers(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if "answer" in columns:
            return np.asarray(columns["answer"])
        found = np.full((len(columns["item"]), self.answer_length), -1, dtype=np.int64)
        for row, item in zip(found, self._asked(columns), strict=True):
            row[: len(item.words)] = item.words
        return found

    def _asked(self, columns: Mapping[str, np.ndarray]) -> list["Item"]:
        return [_item(self, item) for item in np.asarray(columns["item"]).tolist()]

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """The question on its lines, and the answer, filled up by ` .` as that of any task."""
        answers, items = self.answers(columns), self._asked(columns)
        written = [item.written([k for k in row if k != -1]) for row, item in zip(answers.tolist(), items, strict=True)]
        fill = (answers == -1).sum(axis=1) + 1
        return {
            "prompt": [f"{item.entry['question'].rstrip()}\n" for item in items],
            "completion": [text + f" {END}" * ends for text, ends in zip(written, fill.tolist(), strict=True)],
        }

    def read_answer(self, text: str) -> list[int]:
        return _read(text)

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """As `Task.judge`: exact is what the scorer gives all points; a word is right if it is the written answer's."""
        right, items = self.answers(columns), self._asked(columns)
        answered, _ = padded_answers(answers, *right.shape)
        exact = np.array([self._score(item, row) for item, row in zip(items, answers, strict=True)], dtype=bool)
        correct = (right != -1) & ((answered == right) | exact[:, None])
        return judged(correct, self.lengths(columns), exact)

    def _score(self, item: "Item", answer: Sequence[int]) -> bool:
        try:
            return _items(self).score_answer(item.written(answer), item.entry) >= 1 - 1e-9  # some add up shares
        except Exception:  # a scorer may stumble over text that is no answer
            return False

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the question."""
        texts = [item.entry["question"].encode() for item in self._asked(columns)]
        return np.array([int(hashlib.blake2b(text, digest_size=8).hexdigest(), 16) for text in texts], dtype=np.uint64)


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of reasoning-gym."""

    entry: Mapping[str, Any]
    words: tuple[int, ...]
    """of the answer; none where it is no text, or holds END"""

    def written(self, words: Sequence[int]) -> str:
        """Words as text, with the blanks and commas of the answer between them."""
        texts = [_WORDS[k] if 0 <= k < len(_WORDS) else "?" for k in words]
        between = [*re.findall(r"[,\s]+", self.entry["answer"].strip(", \n")), *[" "] * len(texts)]
        return "".join(f"{gap}{text}" for gap, text in zip(["", *between], texts, strict=False))


@functools.lru_cache(maxsize=64)
def _items(task: ReasoningGym) -> Any:
    return type(task).make(**dataclasses.asdict(task), seed=0)


@functools.lru_cache(maxsize=2**15)
def _item(task: ReasoningGym, index: int) -> Item:
    try:
        entry = _items(task)[index]
    except IndexError as error:
        raise ValueError(
            f"{type(task).__name__} of reasoning-gym has a limited list of items; ours need any."
        ) from error
    answer = entry["answer"] if isinstance(entry["answer"], str) else ""
    whole = END not in answer.replace(",", " ").split()
    return Item(entry, tuple(_read(answer)) if whole else ())


@functools.lru_cache(maxsize=64)
def _longest(task: ReasoningGym) -> int:
    found = max(len(_item(task, index).words) for index in range(_LOOKED_AT))
    if not found:
        raise ValueError(f"{type(task).__name__} of reasoning-gym has no written answers, so nothing to train on.")
    return found


_WORDS = [END]
"""Every word that was met, each by its number: they are those of this process, and nothing of it is stored."""
_NUMBERS = {END: 0}


def _read(text: str) -> list[int]:
    """The numbers of the words of an answer, up to END."""
    return [_number(word) for word in answer_words(text)]


def _number(word: str) -> int:
    if word not in _NUMBERS:
        _NUMBERS[word] = len(_WORDS)
        _WORDS.append(word)
    return _NUMBERS[word]
