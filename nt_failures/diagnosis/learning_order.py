"""Claim: which positions are learnt first. When each crosses a threshold, read from the evaluations during training."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any


def learning_order(
    curve: Sequence[Mapping[str, float]], way: str = "forced", threshold: float = 0.95
) -> dict[str, Any]:
    """Find the first evaluation at which each position is, and from then on stays, at or above the threshold.

    Next-token training learns the look-ups behind the decision early (the cheat) and the decision late or never;
    teacherless training learns from the end backwards.

    Args:
        curve: evaluations, each with `step` and `{way}/position_k`; `runs.learning_curve` or the
            Trainer's `log_history` (there with the prefix `eval_`).
        way: `"forced"`, `"free"` or `"parallel"`.
        threshold: accuracy in 0..1.

    Returns:
        `step`: {position: step, None where it never was}; `order`: positions from first learnt to last, those never
        learnt left out; `last_step`: the step of the last evaluation, up to which "never" holds.

    Raises:
        ValueError: no evaluation with positions of this way, one that lacks some, or a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} is no accuracy; give a share above 0 and at most 1, such as 0.95.")
    plain = [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in curve]
    start = f"{way}/position_"
    points = [entry for entry in plain if _positions(entry, start)]
    if not points:
        raise ValueError(
            f"the curve has no {start}k; evaluate during training (eval_strategy='steps'), or name another way."
        )
    positions = _positions(points[0], start)
    needed = ["step", *(f"{start}{k}" for k in positions)]
    for entry in points:
        if any(not isinstance(entry.get(name), numbers.Real) for name in needed) or not math.isfinite(entry["step"]):
            raise ValueError(f"an evaluation of the curve lacks a number for some of {needed}; give those of one run.")
    points = sorted(points, key=lambda entry: entry["step"])
    steps: dict[int, int | None] = {}
    for k in positions:
        steps[k] = None
        for entry in points:
            if not entry[f"{start}{k}"] >= threshold:  # nor is nan
                steps[k] = None
            elif steps[k] is None:
                steps[k] = int(entry["step"])
    order = sorted((k for k in positions if steps[k] is not None), key=lambda k: steps[k])
    return {"threshold": threshold, "step": steps, "order": order, "last_step": int(points[-1]["step"])}


def _positions(entry: Mapping[str, float], start: str) -> list[int]:
    """The positions k of an evaluation's `{start}k`."""
    return sorted(int(k) for name in entry if name.startswith(start) and (k := name.removeprefix(start)).isdecimal())
