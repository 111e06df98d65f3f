"""All claims about one model in one call."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.diagnosis.by_place import by_place
from nt_failures.diagnosis.clever_hans import clever_hans
from nt_failures.diagnosis.decision_token import decision_token
from nt_failures.diagnosis.forced_vs_free import forced_vs_free
from nt_failures.diagnosis.learning_order import learning_order
from nt_failures.diagnosis.verdict import Budget, Evidence, verdict
from nt_failures.predictor import Columns, Predictor
from nt_failures.tasks.base import Task


class _Once:
    """A predictor that is asked the same question once: claims share what they measure on the same instances."""

    def __init__(self, predictor: Predictor):
        self._predictor, self._asked = predictor, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def forced(self, columns: Columns, answers: np.ndarray) -> np.ndarray:
        return self._once("forced", columns, answers)

    def free(self, columns: Columns) -> np.ndarray:
        return self._once("free", columns)

    def _once(self, way: str, columns: Columns, *answers: np.ndarray) -> np.ndarray:
        for asked_way, asked_columns, asked_answers, found in self._asked:
            if asked_way == way and asked_columns is columns and np.array_equal(asked_answers, answers):
                return found
        self._asked.append((way, columns, answers, getattr(self._predictor, way)(columns, *answers)))
        return self._asked[-1][-1]


def diagnose(
    predictor: Predictor,
    task: Task,
    held_out: Columns,
    train: Columns | None = None,
    curve: Sequence[Mapping[str, float]] = (),
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Say whether a model failed and why.

    Args:
        predictor: `ModelPredictor(model, tokenizer, objective, task)`, or a planted model.
        held_out: instances it was not trained on.
        train: instances it was trained on, for the memorisation gap.
        curve: evaluations during training, for the learning order.
        budget: what the training spent; every verdict is about a budget.

    Returns:
        JSON-ready: `forced_vs_free`, `decision_token`, `clever_hans`, `by_place`, `learning_order` (None where a claim cannot
        be tested, with the reason in `not_measured`), and `verdict` (name, text, rule).
    """
    missing: dict[str, str] = {}
    once = _Once(predictor)
    forced_free = forced_vs_free(once, task, held_out)
    decision = decision_token(once, task, held_out, train)
    cheat = order = places = None
    try:
        cheat = clever_hans(predictor, task, held_out)
    except ValueError as error:
        missing["clever_hans"] = str(error)
    try:
        places = by_place(once, task, held_out)
    except ValueError as error:
        missing["by_place"] = str(error)
    try:
        order = learning_order(curve, way="forced" if predictor.autoregressive else "free")
    except ValueError as error:
        missing["learning_order"] = str(error)
    evidence = Evidence(
        n=forced_free["n"],
        exact=forced_free["exact"],
        chance=task.chance,
        decision=decision["position"],
        forced=forced_free["forced"],
        free=forced_free["free"],
        autoregressive=predictor.autoregressive,
        order=predictor.order,
        train_decision=decision.get("train_accuracy"),
        follow_rate=None if cheat is None else cheat["follow_rate"],
        trained=predictor.trained_positions,
        by_place=places,
    )
    return {
        "forced_vs_free": forced_free,
        "decision_token": decision,
        "clever_hans": cheat,
        "by_place": places,
        "learning_order": order,
        "not_measured": missing,
        "verdict": verdict(evidence, budget).to_dict(),
    }
