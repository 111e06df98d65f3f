"""All claims about one model in one call, and the verdict that joins them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nt_failures.diagnosis.by_difficulty import by_difficulty
from nt_failures.diagnosis.by_place import by_place
from nt_failures.diagnosis.clever_hans import clever_hans
from nt_failures.diagnosis.decision_token import decision_token
from nt_failures.diagnosis.evidence import Budget, Evidence
from nt_failures.diagnosis.forced_vs_free import forced_vs_free
from nt_failures.diagnosis.learning_order import learning_order
from nt_failures.diagnosis.originality import originality
from nt_failures.diagnosis.verdict import verdict
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.tasks.base import Task


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
        predictor: `ModelPredictor(model, tokenizer, objective, task)`, or anything with its methods.
        held_out: instances it was not trained on, as columns or as a `datasets.Dataset` of rows that have them.
        train: instances it was trained on, for the memorisation gap.
        curve: evaluations during training, for the learning order.
        budget: what the training spent; every verdict is about a budget.

    Returns:
        JSON-ready: `forced_vs_free`, `decision_token`, `clever_hans`, `by_place`, `learning_order` (None where a claim
        cannot be tested, with the reason in `not_measured`, which also says why there are no `forced` predictions),
        `by_difficulty` (empty where all problems are of one size), `originality` (empty where each problem has its own
        answer), and `verdict` (name, text, rule).

    Raises:
        ValueError: rows that are not the task's.

    Example:
        >>> import nt_failures as ntf
        >>> task = ntf.PathStar(degree=2, path_length=3, num_nodes=10)
        >>> tokenizer = ntf.word_level_tokenizer(task)
        >>> model = ntf.load_model("gpt2-1x16", tokenizer, max_length=32)  # new, so it knows nothing
        >>> predictor = ntf.ModelPredictor(model, tokenizer, ntf.NextToken.from_tokenizer(tokenizer), task)
        >>> found = diagnose(predictor, task, task.block(0, "test", 0, rows=200), budget=Budget(steps=0, examples=0))
        >>> found["verdict"]["name"]
        'untrained'
    """
    seen = None if train is None else Observations(predictor, task, train)
    return diagnose_observed(Observations(predictor, task, held_out), seen, curve, budget)


def diagnose_observed(
    held_out: Observations,
    train: Observations | None = None,
    curve: Sequence[Mapping[str, float]] = (),
    budget: Budget | None = None,
    known: bool = True,
) -> dict[str, Any]:
    """`diagnose` of answers that may be known already.

    Where it is not `known` whether the model was trained on the task, no learning order is missed, and the verdict does
    not say `undertrained`.
    """
    predictor, missing = held_out.predictor, {}

    def tried(claim: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any] | None:
        try:
            return claim(*args)
        except ValueError as error:
            missing[claim.__name__] = str(error)
            return None

    found = {
        "forced_vs_free": forced_vs_free(held_out),
        "decision_token": tried(decision_token, held_out, train),
        "clever_hans": tried(clever_hans, held_out),
        "by_place": tried(by_place, held_out),
        "by_difficulty": by_difficulty(held_out),
        "originality": originality(held_out),
        "learning_order": tried(learning_order, curve, "forced" if predictor.autoregressive else "free"),
    }
    if not known:
        missing.pop("learning_order", None)
    decided = verdict(_evidence(held_out, found), budget, known)
    return {**found, "not_measured": held_out.not_measured | missing, "verdict": dataclasses.asdict(decided)}


def _evidence(held_out: Observations, found: Mapping[str, Any]) -> Evidence:
    """What the claims of a diagnosis come to."""
    measured, cheat, decided = found["forced_vs_free"], found["clever_hans"], found["decision_token"] or {}
    predictor = held_out.predictor
    alike = held_out.decision is not None or held_out.chance is None
    products = measured["snowball_prediction"], measured["snowball_without_decision"]
    return Evidence(
        n=measured["n"],
        exact=measured["exact"],
        chance=held_out.chance,
        decision=held_out.decision,
        forced=measured["forced" if alike else "forced_others"],
        free=measured["free" if alike else "free_others"],
        autoregressive=predictor.autoregressive,
        order=predictor.order,
        train_decision=decided.get("train_accuracy"),
        gap_interval=decided.get("gap_interval"),
        follow_rate=None if cheat is None else cheat["follow_rate"],
        by_place=found["by_place"],
        at_decision=decided.get("accuracy"),
        decided=decided.get("n"),
        products=None if None in products else products,
        originality=found["originality"] or None,
        words=held_out.task.words,
    ).restricted_to(predictor.trained_positions, measured["forced"])
