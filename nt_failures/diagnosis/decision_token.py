"""Claim: the decision is indecipherable from its own supervision. Held-out and training accuracy at the decision."""

import math
from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations


def decision_token(held_out: Observations, train: Observations | None = None) -> dict[str, Any]:
    """Measure the decision on instances the model has not seen, and on some it was trained on.

    A model that plans is right on both, one that memorised on the training instances alone, one that found nothing is
    at chance on both. Judged are forced predictions, or the model's own decoding if that is not token by token.

    Returns:
        `position` (None where it differs from row to row), `chance`; `accuracy`, `n` (different problems), `interval`
        (95 %, Wilson) on held-out instances; with `train` also `train_accuracy`, `train_n`, `train_interval`, and
        `memorisation_gap` = train - held out with `gap_interval` (95 %, Newcombe's, from the two Wilson intervals;
        R. G. Newcombe, 1998, Statistics in Medicine 17). Where the task names its `choices`, so that a guess among them
        can be told from not knowing them: `choices`, {`n`, `right`, `other` (another choice), `none` (of them)}, shares
        of the held-out instances with more than one.

    Raises:
        ValueError: no row has a decision.

    Example:
        >>> from types import SimpleNamespace
        >>> from nt_failures.tasks import PathStar
        >>> task = PathStar(degree=2, path_length=4, num_nodes=10)
        >>> right = SimpleNamespace(order="forward", autoregressive=False, free=task.answers)  # a perfect model
        >>> observed = Observations(right, task, task.block(0, "test", 0, rows=200))
        >>> found = decision_token(observed)
        >>> found["position"], found["chance"], found["accuracy"]
        (2, 0.5, 1.0)
    """
    share, n, (low, high) = _share(held_out)
    found = {"position": held_out.decision, "chance": held_out.chance}
    found |= {"accuracy": share, "n": n, "interval": [low, high], **_choices(held_out)}
    if train is None or train.chance is None:
        return found
    train_share, train_n, (train_low, train_high) = _share(train)
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


def _share(observed: Observations) -> tuple[float, int, tuple[float, float]]:
    """Share of right decisions, of how many problems, and its interval."""
    share, n = float(observed.at_decision(observed.judged).mean()), observed.n(observed.deciding)
    return share, n, wilson(share * n, n)


def _choices(observed: Observations) -> dict[str, Any]:
    """`choices`, as `decision_token` returns it; nothing where the task does not say what they are."""
    choices = observed.task.choices(observed.columns, observed.predictor.order)
    some = observed.deciding & (observed.guess < 1)
    if choices is None or not some.any():
        return {}
    rows = np.flatnonzero(some)
    at = (rows, observed.decisions[rows] - 1)
    chosen, right = observed.judged_symbols[at], observed.judged.right[at]
    known = (chosen >= 0) & (np.asarray(choices)[rows] == chosen[:, None]).any(axis=1)
    shares = {"right": right, "other": known & ~right, "none": ~known & ~right}
    return {"choices": {"n": observed.n(some), **{name: float(share.mean()) for name, share in shares.items()}}}
