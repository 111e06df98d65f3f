"""Claim: the failure is no snowballing. Forced and free accuracy by position, beside compounding errors."""

import math
from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import Scored, wilson
from nt_failures.evaluation.observations import Observations


def forced_vs_free(observed: Observations) -> dict[str, Any]:
    """Measure where a model errs under teacher forcing and on its own.

    Snowballing is errors that multiply: exact accuracy is then about the product of the forced accuracies, and first
    errors are spread over the positions. Without a plan all first errors are at the decision.

    Returns:
        `n` (different problems), `rows`; `forced`, `free`: share right by position (keys 1..L, the task's own order),
        of the rows that have it, and `n_positions` of the positions that some lack; `exact` and its 95 % interval;
        `forced_exact`: share with every forced argmax right; `snowball_prediction`: product of the forced shares;
        `snowball_without_decision`: the same without the decision, what errors at the look-ups alone would leave (both
        None for a model that does not decode token by token: no error of it is the input of another);
        `forced_others`, `free_others`: share right by position of the rows whose decision it is not;
        `first_error`: share of all errors whose first wrong position, in the order of generation, is the key;
        `first_error_at_decision`: that share at the row's decision (both None without errors, the latter without
        decisions). What needs forced predictions is None where the predictor cannot make them.

    Example:
        >>> from types import SimpleNamespace
        >>> from nt_failures.tasks import PathStar
        >>> task = PathStar(degree=2, path_length=4, num_nodes=10)
        >>> right = SimpleNamespace(order="forward", autoregressive=True, free=task.answers)  # a perfect model
        >>> right.forced = lambda columns, answers: answers
        >>> observed = Observations(right, task, task.block(0, "test", 0, rows=200))
        >>> found = forced_vs_free(observed)
        >>> found["forced"], found["exact"], found["snowball_prediction"]
        ({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}, 1.0, 1.0)
    """
    accuracies, n = observed.accuracies, observed.n()
    forced, free = accuracies.forced, accuracies.free
    first_errors = observed.free.first_errors(observed.predictor.order)
    wrong = first_errors > 0
    first = first_errors[wrong]
    keys = [*free.positions, *sorted({*first.tolist()} - {*free.positions})]
    at_decision = first == observed.decisions[wrong]  # 0, no decision, is no first error
    snowball = dict.fromkeys(("snowball_prediction", "snowball_without_decision"))
    if observed.predictor.autoregressive and forced is not None:
        snowball = {"snowball_prediction": _mean_product(observed, True)}
        snowball["snowball_without_decision"] = _mean_product(observed, False)
    return {
        "n": n,
        "rows": len(observed.answers),
        "forced": None if forced is None else forced.positions,
        "free": free.positions,
        "n_positions": free.n,
        "forced_others": None if forced is None else _others(observed, observed.forced),
        "free_others": _others(observed, observed.free),
        "exact": free.exact,
        "exact_interval": list(wilson(free.exact * n, n)),
        "forced_exact": None if forced is None else forced.exact,
        **snowball,
        "errors": len(first),
        "first_error": {k: float((first == k).mean()) if len(first) else None for k in keys},
        "first_error_at_decision": float(at_decision.mean()) if len(first) and observed.deciding.any() else None,
    }


def _elsewhere(observed: Observations, scored: Scored) -> np.ndarray:
    """(n, L) bool: the row has the position, and it is not its decision."""
    places = np.arange(1, scored.has.shape[1] + 1)
    return scored.has & (places != observed.decisions[:, None])


def _others(observed: Observations, scored: Scored) -> dict[int, float]:
    elsewhere = _elsewhere(observed, scored)
    some = np.flatnonzero(elsewhere.any(axis=0)).tolist()
    return {k + 1: float(scored.right[elsewhere[:, k], k].mean()) for k in some}


def _mean_product(observed: Observations, decision: bool) -> float:
    """Mean over the rows of the product of the forced shares at a row's positions, with or without its decision's."""
    others = _others(observed, observed.forced)
    elsewhere = _elsewhere(observed, observed.forced)
    at = float(observed.at_decision(observed.forced).mean()) if decision and observed.deciding.any() else 1.0
    kinds, counts = np.unique(np.column_stack([elsewhere, observed.deciding]), axis=0, return_counts=True)
    found = [
        math.prod([others[k + 1] for k in np.flatnonzero(kind[:-1]).tolist()]) * (at if kind[-1] else 1.0)
        for kind in kinds
    ]
    return found[0] if len(found) == 1 else float(np.average(found, weights=counts))
