"""Claim: it knows right answers by heart. Measured: how many are new, where any right answer will do."""

import math

from nt_failures.evaluation.observations import Observations
from nt_failures.tasks.blocks import split_share


def originality(observed: Observations) -> dict[str, float]:
    """Measure how many of a model's answers are right and of no train row, and how many of these differ.

    Whoever writes only what was in training is right, and creates nothing. An answer of train's share may not have been
    drawn; so this is a lower bound, and is read beside what choosing among all right answers would give.

    Returns:
        `unseen`: share of answers that are right and surely of no train row; `creativity`: the same, each different one
        counted once; `ideal`: creativity, on average, of who draws as many answers from all right ones, each equally
        likely. `{}` for a task whose problems have answers of their own (`Task.num_answers`).

    Example:
        >>> from types import SimpleNamespace  # of a model that writes one right answer, of ten, to every prompt
        >>> free = SimpleNamespace(shares=lambda: SimpleNamespace(unseen=1.0, creativity=0.01))
        >>> found = originality(SimpleNamespace(task=SimpleNamespace(num_answers=10), answers=range(100), free=free))
        >>> found["creativity"], round(found["ideal"], 3)
        (0.01, 0.025)
    """
    number, rows = observed.task.num_answers, len(observed.answers)
    if number is None:
        return {}
    shares = observed.free.shares()
    different = -number * math.expm1(rows * math.log1p(-1 / number)) if number > 1 else 1.0
    ideal = (1 - split_share("train")) * different / rows
    return {"unseen": shares.unseen, "creativity": shares.creativity, "ideal": ideal}
