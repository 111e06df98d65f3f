"""Claim: the failure is no snowballing. Forced and free accuracy by position, and what compounding errors would give."""

from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.tasks.base import Task


def forced_vs_free(predictor: Predictor, task: Task, columns: Columns) -> dict[str, Any]:
    """Measure where a model errs under teacher forcing and on its own.

    Snowballing (the usual criticism of next-token prediction) is errors that multiply: exact accuracy is then about the
    product of the forced accuracies, and first errors are spread over the positions. A missing plan shows otherwise:
    all first errors at the decision.

    Args:
        predictor: the model; `ModelPredictor` or a planted one.
        columns: instances of `task`, n rows.

    Returns:
        `n`; `forced`, `free`: share right by position (keys 1..L, the task's own order); `exact` and its 95 % interval;
        `forced_exact`: share with every forced argmax right; `snowball_prediction`: product of the forced shares;
        `snowball_without_decision`: the same without the decision, what errors at the look-ups alone would leave (both
        None for a model that does not decode token by token: no error of it is the input of another);
        `first_error`: share of all errors whose first wrong position, in the order of generation, is the key;
        `first_error_at_decision`: that share at the decision (both None without errors).
    """
    answers = task.checked_answers(columns)
    forced = predictor.forced(columns, answers) == answers
    free = predictor.free(columns) == answers
    exact = free.all(axis=1)
    generated = free if predictor.order == "forward" else free[:, ::-1]
    first = np.argmin(generated[~exact], axis=1) + 1
    if predictor.order == "reversed":
        first = free.shape[1] + 1 - first
    decision = task.decision_position(predictor.order)
    positions = range(1, free.shape[1] + 1)
    errors = len(first)
    by_position = {k: float((first == k).sum() / errors) if errors else None for k in positions}
    snowball = {
        "snowball_prediction": float(forced.mean(axis=0).prod()),
        "snowball_without_decision": float(np.delete(forced.mean(axis=0), decision - 1).prod()),
    }
    return {
        "n": len(answers),
        "forced": {k: float(forced[:, k - 1].mean()) for k in positions},
        "free": {k: float(free[:, k - 1].mean()) for k in positions},
        "exact": float(exact.mean()),
        "exact_interval": list(wilson(exact.sum(), len(exact))),
        "forced_exact": float(forced.all(axis=1).mean()),
        **(snowball if predictor.autoregressive else dict.fromkeys(snowball)),
        "errors": errors,
        "first_error": by_position,
        "first_error_at_decision": by_position[decision],
    }
