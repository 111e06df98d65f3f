"""What a verdict rests on: the measured shares of one model, and the budget that its training spent."""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from nt_failures.registry import check_choice, plural
from nt_failures.tasks.facts import WORDS, Words

SOLVED_AT = LEARNT_AT = 0.95
"""Exact accuracy from which a run counts as solved, and accuracy from which a single position counts as learnt."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the training spent: optimizer steps, rows with repetitions, and FLOPs where they were counted.

    Raises:
        ValueError: a number below 0.

    Example:
        >>> print(Budget(steps=2000, examples=128_000, flops=2.8e12))
        2,000 steps (128,000 examples, 2.8e+12 FLOPs)
    """

    steps: int
    examples: int
    flops: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (name == "flops" and value is None) and not (isinstance(value, numbers.Real) and value >= 0):
                raise ValueError(f"{name}={value!r} must be a number of at least 0.")

    def __str__(self) -> str:
        flops = "" if self.flops is None else f", {self.flops:.1e} FLOPs"
        return f"{plural(self.steps, 'step')} ({plural(self.examples, 'example')}{flops})"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a verdict rests on; shares in 0..1 over `n` held-out problems.

    Raises:
        ValueError: what no measurement gives, such as a share above 1 or `free` of other positions than `forced`.

    Example:
        >>> shares = {1: 1.0, 2: 0.5, 3: 1.0}
        >>> Evidence(n=2000, exact=0.5, chance=0.5, decision=2, forced=shares, free=shares).forced[2]
        0.5
    """

    n: int
    """different problems, of which intervals are made"""
    exact: float
    """whole answers, decoded by the model itself; of a model that was trained on some positions, the worst of these"""
    chance: float | None
    """accuracy of a guess at the decision; None without a decision"""
    decision: int | None
    """position of the decision; None where it differs from row to row, or there is none"""
    forced: Mapping[int, float] | None
    """by position, from 1, with the true earlier symbols revealed; of rows whose decision it is not, if `decision` is
    None; None where it could not be measured"""
    free: Mapping[int, float]
    """by position, the model's own decoding; of the same rows"""
    autoregressive: bool = True
    """whether it decodes token by token; only then do forced accuracies describe what it does"""
    order: str = "forward"
    """in reversed order the decision is a look-up like the others, and at chance it is merely not learnt yet"""
    train_decision: float | None = None
    """accuracy at the decision on training instances; None where not measured"""
    gap_interval: tuple[float, float] | None = None
    """of `train_decision` minus the decision's held-out accuracy, 95 %; None where it is taken as exact"""
    follow_rate: float | None = None
    """share that goes on along a wrong arm; None where not measured"""
    by_place: Mapping[str, Any] | None = None
    """what the measurement of that name found"""
    trained: Sequence[int] | None = None
    """positions that alone were trained, None for all; set by `restricted_to`"""
    at_decision: float | None = None
    """accuracy at the decision, where its position differs from row to row"""
    decided: int | None = None
    """different problems with a decision; None for all"""
    products: tuple[float, float] | None = None
    """what forced errors at all positions, and at those that are no decision, would leave of the answers; None where
    that is the product of the shares, because all rows are alike, or no forced share was measured"""
    originality: Mapping[str, float] | None = None
    """what the measurement of that name found; None where each problem has an answer of its own"""
    words: Words = WORDS
    """what the task calls things"""

    def __post_init__(self) -> None:
        forced = self.free if self.forced is None else self.forced
        by_position = isinstance(forced, Mapping) and isinstance(self.free, Mapping)
        known = by_position and (self.decision is None or self.decision in list(forced))
        if not known or set(forced) != set(self.free) or not forced:
            raise ValueError(
                f"forced and free must map the same positions to shares, the decision {self.decision} among them."
            )
        given = self.decision is not None or self.at_decision is not None
        if given != (self.chance is not None):
            raise ValueError(f"{self}: a decision needs its chance, and its position or its accuracy.")
        if self.products is not None and not (isinstance(self.products, Sequence) and len(self.products) == 2):
            raise ValueError(f"products={self.products!r} is not a choice; give two shares, or None.")
        optional = (self.chance, self.train_decision, self.follow_rate, self.at_decision, *(self.products or ()))
        optional += tuple((self.originality or {}).values())
        shares = [self.exact, *forced.values(), *self.free.values(), *(x for x in optional if x is not None)]
        counts = [self.n, self.n if self.decided is None else self.decided]
        numeric = all(isinstance(x, numbers.Real) for x in (*counts, *shares))
        if not numeric or not all(1 <= n < math.inf for n in counts) or not all(0 <= x <= 1 for x in shares):
            raise ValueError(f"{self}: n must be at least 1, and every share a number in 0..1.")
        check_choice("order", self.order, ("forward", "reversed"))

    def restricted_to(self, positions: Sequence[int] | None, forced: Mapping[int, float] | None = None) -> "Evidence":
        """The evidence on these positions, the only ones that were trained, and on the decision; all of it for None.

        `forced` are shares of all rows, where this evidence has those of rows whose decision it is not.
        """
        if positions is None or self.forced is None:
            return self
        whole = isinstance(positions, Sequence) and all(isinstance(k, int) for k in positions)
        if not whole or not set(positions) & set(self.forced):
            raise ValueError(f"trained={positions!r} names no position of the answer; give None for all.")
        if set(self.forced) <= set(positions):
            return self
        kept = {*positions, *([] if self.decision is None else [self.decision])}
        return dataclasses.replace(
            self,
            exact=min(share for k, share in (forced or self.forced).items() if k in positions),
            forced={k: share for k, share in self.forced.items() if k in kept},
            free={k: share for k, share in self.free.items() if k in kept},
            trained=positions,
            products=None,
            originality=None,
        )
