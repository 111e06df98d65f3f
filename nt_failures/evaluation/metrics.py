"""Counting right answers on arrays of ids: exact, by position, with intervals; and the names of the metrics."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nt_failures.data.batches import IGNORE
from nt_failures.tasks.base import Task

# Shapes: n rows, T target tokens, L symbols of an answer. Ids and positions are in the task's own order; -100 marks
# empty columns.

DECODINGS = ("forced", "free", "parallel")
"""How a prediction was made: earlier true symbols revealed, the objective's own decoding, one pass behind dummies."""
Z975 = 1.959964
"""Standard normal, 97.5 % quantile."""


def wilson(successes: float, n: int, z: float = Z975) -> tuple[float, float]:
    """Wilson score interval of a share, 95 % by default (E. B. Wilson, 1927, JASA 22); (0, 1) for n = 0."""
    if not 0 <= successes <= n < math.inf:
        raise ValueError(f"{successes} successes of {n} are no share; successes must lie in 0..n.")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Both ends are exact where nothing, or everything, is right; the formula would round them.
    return max(centre - half, 0.0) if successes else 0.0, min(centre + half, 1.0) if successes < n else 1.0


def format_percent(value: float) -> str:
    """A share in percent with one decimal; with two where one would say 0 or 100 %, which stand for nothing and
    everything alone, or the 95 % that is said to be solved."""
    if 0 < value < 0.0005 or 0.9985 <= value < 1:
        return f"{min(max(value, 0.0001), 0.9999):.2%}"
    if 0.9495 <= value < 0.95:
        return f"{min(value, 0.9499):.2%}"
    return f"{value:.1%}"


def format_chance(value: float, digits: int = 1) -> str:
    """A chance in percent; as `1 in 2,500` where it would be next to 0 %, and is not."""
    return f"1 in {1 / value:,.0f}" if 0 < value < 10 ** -(digits + 2) else f"{value:.{digits}%}"


def format_rounded(value: float) -> str:
    """About how much or many, in two digits: `0.012`, `150`, `2.8e+12`."""
    return f"{float(f'{value:.2g}'):,g}"


@dataclasses.dataclass(frozen=True)
class Scored:
    """Which answers of one decoding are right."""

    right: np.ndarray
    """(n, L) bool: that symbol is right, False where the row has none; (n, 0) where positions were not measured"""
    exact: np.ndarray
    """(n,) bool: the whole answer is right"""
    has: np.ndarray
    """(n, L) bool: the row's answer has such a symbol"""
    new: np.ndarray | None = None
    """(n,) which right answer of no train row it is, 0 for any other; None where a problem has an answer of its own"""

    @classmethod
    def of_ids(cls, predicted: np.ndarray, target: np.ndarray, positions: np.ndarray) -> "Scored":
        """Score token ids (n, T); `positions` (n, T) says which symbol a target token belongs to, 0: none.

        A symbol is right when each of its tokens is.
        """
        wrong = predicted != target
        right, has = np.zeros((2, len(target), int(positions.max(initial=0))), dtype=bool)
        for k in range(right.shape[1]):
            of_symbol = positions == k + 1
            has[:, k] = of_symbol.any(axis=1)
            right[:, k] = has[:, k] & ~(wrong & of_symbol).any(axis=1)
        return cls(right, (~wrong | (target == IGNORE)).all(axis=1), has)

    @classmethod
    def of_symbols(cls, predicted: np.ndarray, answers: np.ndarray) -> "Scored":
        """Score symbols (n, L) against the right ones, -1 where an answer has none."""
        has = answers != -1
        right = has & (predicted == answers)
        return cls(right, (right | ~has).all(axis=1), has)

    @classmethod
    def of_forced(cls, task: Task, columns: Mapping[str, np.ndarray], predicted: np.ndarray, order: str) -> "Scored":
        """Score symbols (n, L) that were predicted with the earlier right ones revealed, by `Task.judge_forced`."""
        found = cls.of_symbols(predicted, task.answers(columns))
        if task.one_answer:
            return found
        right = task.judge_forced(columns, predicted, order)
        return cls(right, (right | ~found.has).all(axis=1), found.has)

    @classmethod
    def of_judge(cls, judged: Mapping[str, np.ndarray], lengths: np.ndarray) -> "Scored":
        """What `Task.judge` says, of answers whose right ones are so many symbols long (n,)."""
        exact = np.asarray(judged["exact"])
        has = np.arange(judged["correct"].shape[1]) < np.asarray(lengths)[:, None]
        new = np.where(judged["unseen"], judged["written"], np.uint64(0)) if "unseen" in judged else None
        return cls(has & (judged["correct"] | exact[:, None]), exact, has, new)

    def first_errors(self, order: str) -> np.ndarray:
        """(n,) first wrong position in the order of generation; one past the end where only the end is wrong; 0: none.

        Forward, that is what `Task.judge` gives as `first_error`.
        """
        wrong = self.has & ~self.right
        forward, lengths = order == "forward", self.has.sum(axis=1)
        first = np.argmax(wrong, axis=1) + 1 if forward else wrong.shape[1] - np.argmax(wrong[:, ::-1], axis=1)
        return np.where(self.exact, 0, np.where(wrong.any(axis=1), first, lengths + 1))

    def shares(self, problems: np.ndarray | None = None) -> "Shares":
        """The means over the rows; over those that have the position, for a position.

        Args:
            problems: (n,) which problem a row poses; each row another one if not given.
        """
        count = self.has.sum(axis=0)
        means = {k + 1: float(self.right[:, k].sum() / count[k]) for k in np.flatnonzero(count).tolist()}
        some = [k for k in means if count[k - 1] < len(self.has)]
        n = {k: count_problems(problems, self.has[:, k - 1]) for k in some}
        if self.new is None:
            return Shares(float(self.exact.mean()), means, n)
        unseen, different = self.new != 0, len({*self.new.tolist()} - {0})
        return Shares(float(self.exact.mean()), means, n, float(unseen.mean()), different / len(unseen))


def count_problems(problems: np.ndarray | None, rows: np.ndarray) -> int:
    """How many different problems the rows of a mask (n,) pose; each another one if that is not known."""
    return int(rows.sum()) if problems is None else len(np.unique(problems[rows]))


def mean_guess(guess: np.ndarray) -> float:
    """Chance over some rows (n,): their mean, without its rounding where all have the same."""
    return float(guess[0] if (guess == guess[0]).all() else guess.mean())


@dataclasses.dataclass(frozen=True)
class Shares:
    """How much is right under one decoding, as shares in 0..1."""

    exact: float
    """whole answers"""
    positions: Mapping[int, float]
    """by position of the answer, from 1, in the task's own order; empty where it was not measured"""
    n: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """different problems that have a position, of those positions that some have not"""
    unseen: float | None = None
    """answers that are right and surely of no train row; None where a problem has an answer of its own"""
    creativity: float | None = None
    """the same, each different one counted once (the name is that of arXiv 2504.15266)"""


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """Accuracies of one evaluation, by decoding; None where a decoding does not apply."""

    n: int
    """different problems among the rows: what the intervals are made of"""
    forced: Shares | None
    """the true earlier symbols are revealed"""
    free: Shares
    """the objective's own decoding"""
    parallel: Shares | None = None
    """one pass behind dummies, of an objective that also decodes otherwise"""
    rows: int | None = None
    """rows that the shares are of; None where n counts rows, because nobody has looked whether they differ"""

    @classmethod
    def from_names(cls, metrics: Mapping[str, float], n: int, rows: int | None = None) -> "Accuracies":
        """Of metrics without a prefix: `{"forced/exact": 0.5, "forced/position_2": 0.5, "free/exact": 0.5, ...}`."""
        exact = {decoding: metrics.get(f"{decoding}/exact") for decoding in DECODINGS}
        some = {k: int(count) for k, count in positions_of(metrics, "n").items()}
        found = {
            d: None if x is None else Shares(x, shares := positions_of(metrics, d), some if shares else {})
            for d, x in exact.items()
        }
        return cls(n, **found, rows=rows)

    def named(self) -> dict[str, float]:
        """`{decoding}/exact` and `{decoding}/position_k` of every decoding; `n/position_k` where some rows lack it."""
        names: dict[str, float] = {}
        for decoding in DECODINGS:
            if (shares := getattr(self, decoding)) is not None:
                names[f"{decoding}/exact"] = shares.exact
                names |= {f"{decoding}/position_{k}": share for k, share in shares.positions.items()}
                names |= {f"n/position_{k}": count for k, count in shares.n.items()}
                new = {"unseen": shares.unseen, "creativity": shares.creativity}
                names |= {f"{decoding}/{name}": share for name, share in new.items() if share is not None}
        return names


def positions_of(metrics: Mapping[str, float], decoding: str) -> dict[int, float]:
    """`{decoding}/position_k` of metrics without a prefix, as a mapping from k to the share, in order."""
    named = {name: re.fullmatch(rf"{decoding}/position_(\d+)", name) for name in metrics}
    return dict(sorted((int(match[1]), metrics[name]) for name, match in named.items() if match))


def judged(metrics: Mapping[str, float], trained: Sequence[int] | None) -> float:
    """The share that a run is judged by: exact answers, or the worst of the positions that alone were `trained`."""
    return float(np.min([metrics[name] for name in judged_by(metrics, trained)]))


def judged_by(metrics: Mapping[str, float], trained: Sequence[int] | None) -> list[str]:
    """The metrics that `judged` takes the worst of."""
    return [name for k in trained or () if (name := f"forced/position_{k}") in metrics] or ["free/exact"]
