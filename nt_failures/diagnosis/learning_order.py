"""Claim: which positions are learnt first. Measured: when each crosses a threshold, in evaluations during training."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from nt_failures.diagnosis.evidence import LEARNT_AT
from nt_failures.evaluation.metrics import positions_of


def learning_order(
    curve: Sequence[Mapping[str, float]], decoding: str = "forced", threshold: float = LEARNT_AT
) -> dict[str, Any]:
    """Find the first evaluation at which each position is, and from then on stays, at or above the threshold.

    Next-token training learns the look-ups early and the decision late or never; teacherless training learns from the
    end backwards.

    Args:
        curve: evaluations, each with `step` and `{decoding}/position_k`: `RunResults.learning_curve`, or the Trainer's
            `log_history` (there with the prefix `eval_`).
        decoding: `"forced"`, `"free"` or `"parallel"`.
        threshold: accuracy in 0..1.

    Returns:
        `step`: {position: step, None where it never was}; `order`: positions from first learnt to last, those never
        learnt left out; `last_step`: the step of the last evaluation, up to which "never" holds.

    Raises:
        ValueError: no evaluation with positions of this decoding, one that lacks some, or a threshold out of range.

    Example:
        >>> curve = [{"step": 100, "forced/position_1": 0.97, "forced/position_2": 0.5}]
        >>> curve += [{"step": 200, "forced/position_1": 1.0, "forced/position_2": 0.96}]
        >>> learning_order(curve)
        {'threshold': 0.95, 'step': {1: 100, 2: 200}, 'order': [1, 2], 'last_step': 200}
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} is no accuracy; give a share above 0 and at most 1, such as 0.95.")
    entries = [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in curve]
    points = [(entry.get("step"), shares) for entry in entries if (shares := positions_of(entry, decoding))]
    if not points:
        raise ValueError(
            f"the curve has no {decoding}/position_k; evaluate during training (eval_strategy='steps'), or name "
            "another decoding."
        )
    positions = list(points[0][1])
    for step, shares in points:
        found = [step, *(shares.get(k) for k in positions)]
        if not all(isinstance(x, numbers.Real) for x in found) or not math.isfinite(step):
            raise ValueError(f"the curve lacks a number for some of step and {decoding}/position_k, k = {positions}.")
    points.sort(key=lambda point: point[0])
    steps = {k: learnt_at([(int(step), shares[k]) for step, shares in points], threshold) for k in positions}
    order = sorted((k for k in positions if steps[k] is not None), key=lambda k: steps[k])
    return {"threshold": threshold, "step": steps, "order": order, "last_step": int(points[-1][0])}


def learnt_at(curve: Sequence[tuple[int, float]], threshold: float = LEARNT_AT) -> int | None:
    """Step of the first evaluation from which the accuracy stays at the threshold or above; None if it never does."""
    found = None
    for step, share in curve:
        found = (step if found is None else found) if share >= threshold else None  # nan is below
    return found
