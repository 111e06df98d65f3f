"""Claim: a half-learnt decision is learnt at some places of the prompt. Measured: accuracy by where its clue stands."""

from typing import Any

import numpy as np

from nt_failures.diagnosis.evidence import LEARNT_AT
from nt_failures.evaluation.metrics import count_problems, wilson
from nt_failures.evaluation.observations import Observations

FEWEST = 20
"""Different problems of each place from which shares by place are told."""
SIGMAS = 4.0
"""Half width of the Wilson intervals by which places are told apart: the extremes of a hundred places, too."""


def by_place(observed: Observations) -> dict[str, Any]:
    """Measure the decision by the place at which the prompt shows its clue, `Task.clue`.

    A model may find out how to plan at one place first, such as the last edge shown.

    Returns:
        `clue` (its name), `places` (how many there are); `accuracy` and `n` by place, from 1; `differ`: whether the
        best and the worst place differ beyond noise; `learnt_at`: places with an accuracy of at least 0.95 that are
        apart from the others beyond noise, if the others together are nearer to chance than to 1, with `there` and
        `elsewhere`, the accuracy at these places and at the others (None without such places).

    Raises:
        ValueError: the task's prompts have no such places, or a place has fewer than 20 problems.

    Example:
        >>> from types import SimpleNamespace
        >>> from nt_failures.tasks import PathStar
        >>> task = PathStar(degree=2, path_length=4, num_nodes=10)
        >>> right = SimpleNamespace(order="forward", autoregressive=False, free=task.answers)  # a perfect model
        >>> observed = Observations(right, task, task.block(0, "test", 0, rows=200))
        >>> found = by_place(observed)
        >>> found["clue"], found["places"], found["accuracy"][6], found["differ"]
        ('the edge to the goal', 6, 1.0, False)
    """
    right_N, chance, clue = observed.at_decision(observed.judged), observed.chance, observed.task.clue(observed.columns)
    if clue is None:
        raise ValueError(
            f"{type(observed.task).__name__} names no clue that stands at different places of its prompts."
        )
    places_N = np.asarray(clue.places)
    if places_N.shape != observed.decisions.shape or not set(places_N.tolist()) <= set(range(1, clue.count + 1)):
        raise ValueError(
            f"{clue.name}: give a place from 1 to {clue.count} for each of {len(observed.decisions)} instances."
        )
    places_N = places_N.astype(np.int64)[observed.deciding]
    rows_K = np.bincount(places_N, minlength=clue.count + 1)[1:]
    of_problem = observed.problems[observed.deciding]
    n_K = np.array([count_problems(of_problem, places_N == k) for k in range(1, clue.count + 1)])
    if n_K.min() < FEWEST:
        raise ValueError(
            f"{clue.name} stands at one of {clue.count} places, and one of them has {n_K.min()} of the {observed.n()} "
            f"different problems; at least {FEWEST} are needed."
        )
    right_K = np.bincount(places_N, weights=right_N, minlength=clue.count + 1)[1:]
    shares_K = right_K / rows_K
    low_K, high_K = np.transpose([wilson(share * n, n, SIGMAS) for share, n in zip(shares_K, n_K, strict=True)])
    learnt_K = shares_K >= LEARNT_AT
    there, elsewhere = _pooled(right_K, rows_K, learnt_K), _pooled(right_K, rows_K, ~learnt_K)
    told = learnt_K.any() and not learnt_K.all() and chance < 1
    told = told and elsewhere < (1 + chance) / 2 and (low_K[learnt_K] > elsewhere).all()
    return {
        "clue": clue.name,
        "places": clue.count,
        "accuracy": {k: float(share) for k, share in enumerate(shares_K, start=1)},
        "n": {k: int(n) for k, n in enumerate(n_K, start=1)},
        "differ": bool(low_K.max() > high_K.min()),
        "learnt_at": [int(k) + 1 for k in np.flatnonzero(learnt_K)] if told else [],
        "there": there if told else None,
        "elsewhere": elsewhere if told else None,
    }


def _pooled(right_K: np.ndarray, rows_K: np.ndarray, chosen_K: np.ndarray) -> float:
    return float(right_K[chosen_K].sum() / max(rows_K[chosen_K].sum(), 1))
