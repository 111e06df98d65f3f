"""Counting on token ids: exact, per position, first error; and intervals. NumPy only."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

# Shapes: n rows, T target tokens. Ids and positions are in the task's own order; -100 marks empty columns.

IGNORE = -100
DECODINGS = ("forced", "free", "parallel")
Z975 = 1.959964
"""Standard normal, 97.5 % quantile."""
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, 97.5 % quantile, 1 to 10 degrees of freedom."""


def wilson(successes: float, n: int, z: float = Z975) -> tuple[float, float]:
    """Wilson score interval of a share, 95 % by default (E. B. Wilson, 1927, JASA 22). (0, 1) for n = 0.

    ValueError unless `successes` lies in 0..n.
    """
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


def right_positions(predicted: np.ndarray, target: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(n, K) bool: symbol k + 1 of the answer is right, that is, every token of it is.

    Separators count with no symbol; K is the largest number of symbols in a row, and a missing symbol counts as right.
    """
    wrong = predicted != target
    count = int(positions.max(initial=0))
    right = np.ones((len(target), count), dtype=bool)
    for k in range(1, count + 1):
        right[:, k - 1] = ~(wrong & (positions == k)).any(axis=1)
    return right


def exact(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(n,) bool: every token of the target is predicted."""
    return ((predicted == target) | (target == IGNORE)).all(axis=1)


def path_metrics(predictions: Mapping[str, np.ndarray], target: np.ndarray, positions: np.ndarray) -> dict[str, float]:
    """`{way}/exact` and `{way}/position_k` for every way of decoding, as shares in 0..1."""
    metrics = {}
    for way, predicted in predictions.items():
        metrics[f"{way}/exact"] = float(exact(predicted, target).mean())
        for k, share in enumerate(right_positions(predicted, target, positions).mean(axis=0), start=1):
            metrics[f"{way}/position_{k}"] = float(share)
    return metrics


@dataclasses.dataclass(frozen=True)
class Shares:
    """How much is right under one decoding, as shares in 0..1."""

    exact: float
    """whole answers"""
    positions: Mapping[int, float]
    """by position of the answer, from 1, in the task's own order; empty where it was not measured"""


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """Accuracies of one evaluation, by decoding; None where a decoding does not apply.

    `named` gives them the names of `ObjectiveTrainer.evaluate`, `from_names` reads these back: the only two places that
    know the names.
    """

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
        """Of metrics without a prefix, such as `{"forced/exact": 0.5, "forced/position_2": 0.5, "free/exact": 0.5}`."""
        found: dict[str, Shares | None] = {}
        for decoding in DECODINGS:
            start = f"{decoding}/position_"
            positions = {int(name.removeprefix(start)): v for name, v in metrics.items() if name.startswith(start)}
            exact = metrics.get(f"{decoding}/exact")
            found[decoding] = None if exact is None else Shares(exact, dict(sorted(positions.items())))
        return cls(n, **found)

    def named(self) -> dict[str, float]:
        """`{decoding}/exact` and `{decoding}/position_k` of every decoding."""
        names: dict[str, float] = {}
        for decoding in DECODINGS:
            shares = getattr(self, decoding)
            if shares is not None:
                names[f"{decoding}/exact"] = shares.exact
                names |= {f"{decoding}/position_{k}": share for k, share in shares.positions.items()}
        return names


def judged(metrics: Mapping[str, float], trained: Sequence[int] | None) -> float:
    """The share that a run is judged by: exact paths, or the worst of the positions that alone were trained.

    Args:
        metrics: of `ObjectiveTrainer.evaluate`, without a prefix.
        trained: positions, from 1; None for all.
    """
    return float(np.min([metrics[name] for name in judged_by(metrics, trained)]))


def judged_by(metrics: Mapping[str, float], trained: Sequence[int] | None) -> list[str]:
    """The metrics that `judged` takes the worst of."""
    return [name for k in trained or () if (name := f"forced/position_{k}") in metrics] or ["free/exact"]


def format_percent(value: float) -> str:
    """Percent with one decimal, two close to 100 %."""
    return f"{value:.2%}" if 0.9985 <= value < 0.99995 else f"{value:.1%}"
