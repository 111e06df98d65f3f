"""What follows from what a task says: the name of its size, its rows as text, answers that are checked."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Mapping

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._text import Text
from nt_failures.tasks.facts import Words

END = "."
"""Symbol that ends an answer, in tasks whose answers differ in length."""


def answer_words(text: str) -> list[str]:
    """What stands between commas and blanks in an answer, up to `END`."""
    return [*itertools.takewhile(lambda word: word != END, text.replace(",", " ").split())]


class Derived:
    """Methods of `Task` that all have a default made of the others; a task may give itself a shorter `config_name`."""

    @property
    def config_name(self) -> str:
        """Name of this size, that of `CONFIGS` or for example `deg2-path5-nodes50`; also its folder on the Hub."""
        if self.named:
            return self.named
        sizes = [f"{name}{re.sub(r'[^A-Za-z0-9.]+', '_', str(value))}" for name, value in self.to_dict().items()]
        return "-".join(sizes) or "default"

    @property
    def named(self) -> str | None:
        """The name of this size in `CONFIGS`."""
        return next((name for name, values in self.CONFIGS.items() if type(self)(**values) == self), None)

    @property
    def num_answers(self) -> float | None:
        """How many right answers there are to any problem, where each is as good, and a new one better.

        Then `judge` also gives `unseen` (n,), right and surely of no train row, and `written` (n,) uint64, equal for
        answers that count as one. None where a problem asks for an answer of its own.
        """
        return None

    def judge_forced(self, columns: Mapping[str, np.ndarray], predicted: np.ndarray, order: str) -> np.ndarray:
        """Which of the symbols (n, L), predicted with the written ones before them in `order` revealed, are right.

        By default position k is right where `judge` says so of the written answer with the prediction at k alone: so
        any right way on counts.
        """
        answers = self.answers(columns)
        right, lengths = (answers != -1) & (predicted == answers), (answers != -1).sum(axis=1)
        for k in range(answers.shape[1]):
            rows = np.flatnonzero((answers[:, k] != -1) & ~right[:, k])
            if len(rows):
                changed = answers[rows].copy()
                changed[:, k] = predicted[rows, k]
                given = [row[:length] for row, length in zip(changed.tolist(), lengths[rows].tolist(), strict=True)]
                judged = self.judge({name: np.asarray(column)[rows] for name, column in columns.items()}, given)
                right[rows, k] = judged["correct"][:, k]
        return right

    @property
    def words(self) -> Words:
        """`PROBLEM`, `ANSWER` and `DETOUR`."""
        return Words(self.PROBLEM, self.ANSWER, self.DETOUR)

    @property
    def instruction(self) -> str:
        """What a prompt shows and what to answer, in words for a chat model; by default the docstring's first lines.

        ValueError for a class without a docstring.
        """
        doc = inspect.getdoc(type(self)) or ""
        if not doc or doc.startswith(f"{type(self).__name__}("):  # which `dataclass` writes
            raise ValueError(
                f"{type(self).__name__} says nowhere what is asked; give it a docstring, or a property `instruction`."
            )
        return " ".join(doc.split("\n\n")[0].split())

    def to_dict(self) -> dict[str, object]:
        """The parameters, JSON-ready."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def texts(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        """The text columns `prompt` and `completion`: `render` with its default filled in. ValueError if it has others.

        Example:
            >>> from nt_failures import PathStar
            >>> task = PathStar(degree=2, path_length=3, num_nodes=10)
            >>> task.texts(task.block(seed=0, split="test", index=0, rows=1))["completion"].to_list()
            ['8,4,7']
        """
        rendered = self.render(columns)
        given = dict(rendered) if isinstance(rendered, Mapping) else {}
        if not {"prompt"} <= set(given) <= {"prompt", "completion"}:
            raise ValueError(f"render of {type(self).__name__} gives {sorted(given)}; give `prompt` and `completion`.")
        if "completion" not in given:
            given["completion"] = self._completions(self.answers(columns))
        for name, text in given.items():
            if isinstance(text, str) or not (isinstance(text, Text) or all(isinstance(one, str) for one in text)):
                raise ValueError(
                    f"render of {type(self).__name__} gives {shorten(text, 80)} for {name!r}; give a list of strings, "
                    "or a nt_failures.tasks.Text."
                )
        return {name: text if isinstance(text, Text) else Text.from_list(text) for name, text in given.items()}

    def _completions(self, answers: np.ndarray) -> list[str]:
        names = self.symbols  # once: there may be many
        ended = END in names
        if not ((answers >= -1) & (answers < len(names))).all():
            raise ValueError(
                f"the answers of {type(self).__name__} are no indices into its {len(names)} symbols; give these, and "
                "-1 behind the end of a shorter one."
            )
        if not ended and (answers < 0).any():
            raise ValueError(
                f"the answers of {type(self).__name__} differ in length, and END, {END!r}, is not among its symbols; "
                "list it there, before DUMMY."
            )
        rows = [[names[i] for i in row if i != -1] for row in answers.tolist()]
        return [",".join(row) + (self.answer_length + 1 - len(row)) * f" {END}" * ended for row in rows]

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
        answers = self.answers(columns)
        if (largest := answers.max()) >= len(self.symbols):
            raise ValueError(
                f"an answer holds symbol {largest}, and {self} has {len(self.symbols)} from 0 on; give instances of "
                "this very task."
            )
        return answers
