"""Claim: the decision is indecipherable from its own supervision. Held-out and training accuracy at the decision."""

import math
from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.tasks.base import Task


def decision_token(predictor: Predictor, task: Task, held_out: Columns, train: Columns | None = None) -> dict[str, Any]:
    """Measure the decision on instances the model has not seen, and on some it was trained on.

    A model that plans is right on both; one that memorised is right on the training instances and at chance elsewhere;
    one that found nothing is at chance on both.

    Args:
        predictor: the model; judged by forced predictions, or by its own decoding if that is not token by token.
        held_out, train: instances; without `train` the memorisation gap is left out.

    Returns:
        `position`, `chance`; `accuracy`, `n`, `interval` (95 %, Wilson) on held-out instances; with `train` also
        `train_accuracy`, `train_n`, `train_interval`, and `memorisation_gap` = train - held out with `gap_interval`
        (95 %, Newcombe's, from the two Wilson intervals; R. G. Newcombe, 1998, Statistics in Medicine 17).
    """
    position = task.decision_position(predictor.order)
    right, n = _count(predictor, task, held_out)
    low, high = wilson(right, n)
    found = {"position": position, "chance": task.chance, "accuracy": right / n, "n": n, "interval": [low, high]}
    if train is None:
        return found
    train_right, train_n = _count(predictor, task, train)
    train_low, train_high = wilson(train_right, train_n)
    share, train_share = right / n, train_right / train_n
    gap = train_share - share
    below = math.hypot(train_share - train_low, high - share)
    above = math.hypot(train_high - train_share, share - low)
    return found | {
        "train_accuracy": train_share,
        "train_n": train_n,
        "train_interval": [train_low, train_high],
        "memorisation_gap": gap,
        "gap_interval": [gap - below, gap + above],
    }


def right_decisions(predictor: Predictor, task: Task, columns: Columns) -> np.ndarray:
    """(n,) bool: right at the decision, by a forced prediction or, if decoding is not token by token, by the model's own."""
    answers = task.checked_answers(columns)
    given = predictor.forced(columns, answers) if predictor.autoregressive else predictor.free(columns)
    at = task.decision_position(predictor.order) - 1
    return given[:, at] == answers[:, at]


def _count(predictor: Predictor, task: Task, columns: Columns) -> tuple[int, int]:
    right = right_decisions(predictor, task, columns)
    return int(right.sum()), len(right)
