"""All claims about one model in one call."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.diagnosis.by_place import by_place
from nt_failures.diagnosis.clever_hans import clever_hans
from nt_failures.diagnosis.decision_token import decision_token
from nt_failures.diagnosis.evidence import Budget, Evidence
from nt_failures.diagnosis.forced_vs_free import forced_vs_free
from nt_failures.diagnosis.learning_order import learning_order
from nt_failures.diagnosis.verdict import verdict
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.tasks.base import Task


class _Once:
    """A predictor that is asked the same question once: claims share what they measure on the same instances."""

    def __init__(self, predictor: Predictor):
        self.autoregressive, self.order = predictor.autoregressive, predictor.order
        self.trained_positions, self.continued = predictor.trained_positions, predictor.continued
        self._predictor = predictor
        self._forced: list[tuple[Columns, np.ndarray, np.ndarray]] = []
        self._free: list[tuple[Columns, np.ndarray]] = []

    def forced(self, columns: Columns, answers: np.ndarray) -> np.ndarray:
        for asked, given, found in self._forced:
            if asked is columns and np.array_equal(given, answers):
                return found
        self._forced.append((columns, answers, self._predictor.forced(columns, answers)))
        return self._forced[-1][-1]

    def free(self, columns: Columns) -> np.ndarray:
        for asked, found in self._free:
            if asked is columns:
                return found
        self._free.append((columns, self._predictor.free(columns)))
        return self._free[-1][-1]


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
