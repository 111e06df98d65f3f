"""Tasks as a user writes them: answers that differ in length, several right answers, a decision that moves."""

import dataclasses
import itertools

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


@dataclasses.dataclass(frozen=True)
class OffCentre(Task):
    """A stem of one to `longest` nodes leads to a centre with two branches: the decision stands at a place of its own
    in each row, and answers differ in length. `3>1|1>4|4>0|0>7|1>5|5>2|2>8/3,7=` is answered by `3,1,4,0,7 . .`."""

    longest: int = 3
    behind: int = 3
    num_nodes: int = 20

    DETOUR = "wrong branch"
    symbols = property(lambda self: [*map(str, range(self.num_nodes)), ">", "|", "/", "=", self.END, self.DUMMY])
    answer_length = property(lambda self: self.longest + self.behind)
    chance = 0.5

    def sample(self, rng, n):
        labels = np.argsort(rng.random((n, self.num_nodes)), axis=1)
        stem = rng.integers(1, self.longest + 1, n)
        place, last = np.arange(self.answer_length), stem[:, None] + self.behind
        right = labels[:, : self.answer_length]
        wrong = np.where(place < stem[:, None], right, labels[:, self.answer_length :][:, : self.answer_length])
        return {
            "path": np.where(place < last, right, -1).astype(np.int32),
            "answer": np.where(place < last, right, -1).astype(np.int32),
            "other": np.where(place < last, wrong, -1).astype(np.int32),
            "shown": rng.random((n, 2 * self.answer_length)).argsort(axis=1).astype(np.int32),
        }

    def render(self, columns):
        prompts = []
        for path, other, shown in zip(*(columns[name].tolist() for name in ("path", "other", "shown")), strict=True):
            edges = {(a, b) for arm in (path, other) for a, b in itertools.pairwise(arm) if b != -1}
            order = sorted(edges, key=lambda edge: (shown[edge[0] % len(shown)], edge))
            ends = [max((a for a in path if a != -1), key=path.index)]
            prompts.append("|".join(f"{a}>{b}" for a, b in order) + f"/{path[0]},{ends[0]}=")
        return {"prompt": prompts}

    def decisions(self, columns, order):
        same = (columns["path"] == columns["other"]) & (columns["path"] != -1)
        return same.sum(axis=1) + 1 if order == "forward" else np.zeros(len(same), dtype=int)

    def detours(self, columns, rng):
        return columns["other"]


@dataclasses.dataclass(frozen=True)
class AnyOrder(Task):
    """Write the digits shown in any order: every permutation is right, so only `judge` can say what is."""

    count: int = 3
    symbols = property(lambda self: [*"0123456789", "=", self.DUMMY])
    answer_length = property(lambda self: self.count)

    def sample(self, rng, n):
        digits = rng.random((n, 10)).argsort(axis=1)[:, : self.count].astype(np.int32)
        return {"digits": digits, "answer": np.sort(digits, axis=1)}

    def render(self, columns):
        return {"prompt": [",".join(map(str, row)) + "=" for row in columns["digits"].tolist()]}

    def judge(self, columns, answers):
        wanted = [set(row) for row in columns["digits"].tolist()]
        correct = np.zeros((len(answers), self.count), dtype=bool)
        exact, first = np.zeros(len(answers), dtype=bool), np.zeros(len(answers), dtype=int)
        for row, (want, answer) in enumerate(zip(wanted, answers, strict=True)):
            good = [k < self.count and a in want and a not in answer[:k] for k, a in enumerate(answer)]
            good += [False] * (self.count - len(good))
            correct[row] = good[: self.count]
            exact[row] = all(good)
            first[row] = 0 if exact[row] else good.index(False) + 1
        return {"correct": correct, "exact": exact, "first_error": first}


@dataclasses.dataclass(frozen=True)
class Few(Task):
    """So few problems that rows repeat: add two numbers below `below`, modulo `below`."""

    below: int = 7
    symbols = property(lambda self: [*map(str, range(self.below)), "+", "=", self.DUMMY])
    answer_length = 1

    def sample(self, rng, n):
        a, b = rng.integers(0, self.below, (2, n), dtype=np.int32)
        return {"a": a, "b": b, "answer": ((a + b) % self.below)[:, None]}

    def render(self, columns):
        return {"prompt": [f"{a}+{b}=" for a, b in zip(columns["a"].tolist(), columns["b"].tolist(), strict=True)]}


@dataclasses.dataclass(frozen=True)
class Copy(Task):
    """Copy one to three digits, and stop."""

    symbols = property(lambda self: [*"0123456789", "=", self.END, self.DUMMY])
    answer_length = 3

    def sample(self, rng, n):
        place = np.arange(self.answer_length)
        digits = rng.integers(0, 10, (n, self.answer_length), dtype=np.int32)
        shown = np.where(place < rng.integers(1, 4, n)[:, None], digits, -1)
        return {"shown": shown, "answer": shown.copy()}

    def render(self, columns):
        return {"prompt": [",".join(str(d) for d in row if d != -1) + "=" for row in columns["shown"].tolist()]}
