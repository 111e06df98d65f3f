"""Tasks as a user writes them: answers that differ in length, several right answers, a decision that moves."""

import dataclasses

import numpy as np

from nt_failures.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Countdown(Task):
    """From a number down to 1: `3=` and `3,2,1`, filled up to one more than the longest answer."""

    highest: int = 4

    @property
    def symbols(self):
        return [*map(str, range(self.highest + 1)), "=", self.END, self.DUMMY]

    @property
    def answer_length(self):
        return self.highest

    def sample(self, rng, n):
        start = rng.integers(1, self.highest + 1, n)
        numbers = start[:, None] - np.arange(self.highest)
        return {"start": start, "answer": np.where(numbers > 0, numbers, -1)}

    def render(self, columns):
        return {"prompt": [f"{start}=" for start in columns["start"].tolist()]}


def counted(*starts, highest=4):
    """Rows of `Countdown` that begin at these numbers."""
    answers = [[*range(start, 0, -1)] + [-1] * (highest - start) for start in starts]
    return {"start": np.array(starts), "answer": np.array(answers)}


@dataclasses.dataclass(frozen=True)
class Pair(Task):
    """Two different numbers in any order: `2,5=` and `2,5`, or `5,2`."""

    highest: int = 9

    @property
    def symbols(self):
        return [*map(str, range(self.highest + 1)), "=", self.DUMMY]

    @property
    def answer_length(self):
        return 2

    def sample(self, rng, n):
        first = rng.integers(0, self.highest + 1, n)
        second = (first + rng.integers(1, self.highest + 1, n)) % (self.highest + 1)
        return {"answer": np.stack([first, second], axis=1), "shown": np.stack([first, second], axis=1)}

    def render(self, columns):
        return {"prompt": [f"{a},{b}=" for a, b in columns["shown"].tolist()]}

    def judge(self, columns, answers):
        turned = {**columns, "answer": np.asarray(columns["answer"])[:, ::-1]}
        one, other = super().judge(columns, answers), super().judge(turned, answers)
        return {name: np.where(_rows(other["exact"], column), other[name], column) for name, column in one.items()}


def _rows(mask, like):
    return mask.reshape(-1, *[1] * (like.ndim - 1))


@dataclasses.dataclass(frozen=True)
class Fork(Task):
    """Some symbols, of which the one at place `fork` is guessed among `ways`, and none where `fork` is 0."""

    length: int = 3

    DETOUR = "wrong turn"

    @property
    def symbols(self):
        return [*map(str, range(10)), "=", self.DUMMY]

    @property
    def answer_length(self):
        return self.length

    def sample(self, rng, n):
        columns = {"answer": rng.integers(0, 10, (n, self.length)), "fork": rng.integers(0, self.length + 1, n)}
        return {**columns, "ways": rng.integers(2, 5, n), "key": rng.integers(0, 10**6, n)}

    def render(self, columns):
        return {"prompt": [f"{a},{b}=" for a, b in zip(columns["key"], columns["ways"], strict=True)]}

    def decisions(self, columns, order):
        return np.asarray(columns["fork"])

    def guess(self, columns, order):
        return 1 / np.asarray(columns["ways"])

    def detours(self, columns, rng):
        at = np.arange(1, self.length + 1) >= np.asarray(columns["fork"])[:, None]
        return np.where(at, (np.asarray(columns["answer"]) + 1) % 10, columns["answer"])
