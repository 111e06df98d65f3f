"""Counting right answers on arrays of ids: exact, by position, with intervals; and the names of the metrics."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nt_failures.data.batches import IGNORE

# Shapes: n rows, T target tokens, L symbols of an answer. Ids and positions are in the task's own order; -100 marks
# empty columns.

DECODINGS = ("forced", "free", "parallel")
"""How a prediction was made: earlier true symbols revealed, the objective's own decoding, one pass behind dummies."""
Z975 = 1.959964
"""Standard normal, 97.5 % quantile."""
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, 97.5 % quantile, 1 to 10 degrees of freedom."""


def wilson(successes: float, n: int, z: float = Z975) -> tuple[float, float]:
    """Wilson score interval of a share, 95 % by default (E. B. Wilson, 1927, JASA 22); (0, 1) for n = 0."""
    if not 0 <= successes <= n < math.inf:
        raise ValueError(f"{successes} successes of {n} are no share; successes must lie in 0..n.")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def t975(degrees: int) -> float:
    """Student's t, 97.5 % quantile; beyond a table its expansion around the normal quantile, right to 0.002."""
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z = Z975
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def format_percent(value: float) -> str:
    """A share in percent with one decimal, two close to 100 %."""
    return f"{value:.2%}" if 0.9985 <= value < 0.99995 else f"{value:.1%}"


@dataclasses.dataclass(frozen=True)
class Scored:
    """Which answers of one decoding are right."""

    right: np.ndarray
    """(n, L) bool: that symbol is right; (n, 0) where positions were not measured"""
    exact: np.ndarray
    """(n,) bool: the whole answer is right"""

    @classmethod
    def of_ids(cls, predicted: np.ndarray, target: np.ndarray, positions: np.ndarray) -> "Scored":
        """Score token ids (n, T); `positions` (n, T) says which symbol a target token belongs to, 0: a separator.

        A symbol is right when each of its tokens is; one that a row does not have counts as right.
        """
        wrong = predicted != target
        right = np.ones((len(target), int(positions.max(initial=0))), dtype=bool)
        for k in range(right.shape[1]):
            right[:, k] = ~(wrong & (positions == k + 1)).any(axis=1)
        return cls(right, (~wrong | (target == IGNORE)).all(axis=1))

    @classmethod
    def of_symbols(cls, predicted: np.ndarray, answers: np.ndarray) -> "Scored":
        """Score symbols (n, L)."""
        right = predicted == answers
        return cls(right, right.all(axis=1))

    @property
    def shares(self) -> "Shares":
        """The means over the rows."""
        means = {k: float(share) for k, share in enumerate(self.right.mean(axis=0), start=1)}
        return Shares(float(self.exact.mean()), means)


@dataclasses.dataclass(frozen=True)
class Shares:
    """How much is right under one decoding, as shares in 0..1."""

    exact: float
    """whole answers"""
    positions: Mapping[int, float]
    """by position of the answer, from 1, in the task's own order; empty where it was not measured"""


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """Accuracies of one evaluation, by decoding; None where a decoding does not apply."""

    n: int
    """rows that the shares are of"""
    forced: Shares | None
    """the true earlier symbols are revealed"""
    free: Shares
    """the objective's own decoding"""
    parallel: Shares | None = None
    """one pass behind dummies, of an objective that also decodes otherwise"""

    @classmethod
    def from_names(cls, metrics: Mapping[str, float], n: int) -> "Accuracies":
        """Of metrics without a prefix: `{"forced/exact": 0.5, "forced/position_2": 0.5, "free/exact": 0.5, ...}`."""
        exact = {decoding: metrics.get(f"{decoding}/exact") for decoding in DECODINGS}
        return cls(n, **{d: None if x is None else Shares(x, positions_of(metrics, d)) for d, x in exact.items()})

    def named(self) -> dict[str, float]:
        """`{decoding}/exact` and `{decoding}/position_k` of every decoding."""
        names: dict[str, float] = {}
        for decoding in DECODINGS:
            if (shares := getattr(self, decoding)) is not None:
                names[f"{decoding}/exact"] = shares.exact
                names |= {f"{decoding}/position_{k}": share for k, share in shares.positions.items()}
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
