"""Claim: the failure is no snowballing. Forced and free accuracy by position, beside compounding errors."""

from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations


def forced_vs_free(observed: Observations) -> dict[str, Any]:
    """Measure where a model errs under teacher forcing and on its own.

    Snowballing is errors that multiply: exact accuracy is then about the product of the forced accuracies, and first
    errors are spread over the positions. Without a plan all first errors are at the decision.

    Returns:
        `n`; `forced`, `free`: share right by position (keys 1..L, the task's own order); `exact` and its 95 % interval;
        `forced_exact`: share with every forced argmax right; `snowball_prediction`: product of the forced shares;
        `snowball_without_decision`: the same without the decision, what errors at the look-ups alone would leave (both
        None for a model that does not decode token by token: no error of it is the input of another);
        `first_error`: share of all errors whose first wrong position, in the order of generation, is the key;
        `first_error_at_decision`: that share at the decision (both None without errors).
    """
    accuracies, decision = observed.accuracies, observed.decision
    n, forced, free = accuracies.n, accuracies.forced, accuracies.free
    backwards = observed.predictor.order == "reversed"
    wrong = observed.free.right[~observed.free.right.all(axis=1)]
    first = np.argmin(wrong[:, ::-1] if backwards else wrong, axis=1) + 1
    if backwards:
        first = wrong.shape[1] + 1 - first
    by_position = {k: float((first == k).mean()) if len(first) else None for k in free.positions}
    shares = np.array(list(forced.positions.values()))
    snowball = {
        "snowball_prediction": float(shares.prod()),
        "snowball_without_decision": float(np.delete(shares, decision - 1).prod()),
    }
    return {
        "n": n,
        "forced": forced.positions,
        "free": free.positions,
        "exact": free.exact,
        "exact_interval": list(wilson(observed.free.exact.sum(), n)),
        "forced_exact": forced.exact,
        **(snowball if observed.predictor.autoregressive else dict.fromkeys(snowball)),
        "errors": len(first),
        "first_error": by_position,
        "first_error_at_decision": by_position[decision],
    }
