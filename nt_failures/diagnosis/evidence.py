"""What a verdict rests on: the measured shares of one model, and the budget that its training spent."""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the training spent."""

    steps: int
    examples: int
    flops: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (name == "flops" and value is None) and not (isinstance(value, numbers.Real) and value >= 0):
                raise ValueError(f"{name}={value!r} is no number of what was spent; give one of at least 0.")

    def __str__(self) -> str:
        flops = "" if self.flops is None else f", {self.flops:.1e} FLOPs"
        return f"{self.steps:,} steps ({self.examples:,} examples{flops})"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a verdict rests on; shares in 0..1 over `n` held-out instances.

    `forced` maps answer positions, from 1, to forced accuracy. `autoregressive` says whether the model decodes token by
    token; only then do forced accuracies describe what it does. `order` is the objective's: in reversed order the decision
    is a look-up like the others, and at chance it is merely not learnt yet. `train_decision` is the forced accuracy at the decision
    on training instances, `follow_rate` the share that goes on along a wrong arm; None where not measured. `trained`
    lists the positions that were trained, None for all. `by_place` is what the measurement of that name found.
    """

    n: int
    exact: float
    chance: float
    decision: int
    forced: Mapping[int, float]
    free: Mapping[int, float]
    autoregressive: bool = True
    order: str = "forward"
    train_decision: float | None = None
    follow_rate: float | None = None
    trained: Sequence[int] | None = None
    by_place: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._check()
        if self.trained is None or set(self.forced) <= set(self.trained):
            object.__setattr__(self, "trained", None)
            return
        # Only what was trained is judged: "exact" is then the worst of these positions. The decision stays: all name it.
        object.__setattr__(self, "exact", min(share for k, share in self.forced.items() if k in self.trained))
        for name in ("forced", "free"):
            shares = {k: share for k, share in vars(self)[name].items() if k in (*self.trained, self.decision)}
            object.__setattr__(self, name, shares)

    def _check(self) -> None:
        """Raise ValueError for evidence that no measurement gives."""
        if not (isinstance(self.forced, Mapping) and isinstance(self.free, Mapping)):
            raise ValueError(f"{self}: forced and free must map positions, from 1, to shares.")
        shares = [self.exact, self.chance, *self.forced.values(), *self.free.values()]
        shares += [x for x in (self.train_decision, self.follow_rate) if x is not None]
        if not all(isinstance(x, numbers.Real) for x in (self.n, *shares)):
            raise ValueError(f"{self}: n and every share must be a number.")
        if not 1 <= self.n < math.inf or not all(0 <= x <= 1 for x in shares):
            raise ValueError(f"{self}: n must be at least 1 and every share lie in 0..1.")
        if self.decision not in list(self.forced) or set(self.forced) != set(self.free):
            raise ValueError(
                f"forced and free accuracies must be of the same positions, the decision {self.decision} among them."
            )
        if self.order not in ("forward", "reversed"):
            raise ValueError(f"order={self.order!r} is not a choice; give 'forward' or 'reversed'.")
        if self.trained is None:
            return
        whole = isinstance(self.trained, Sequence) and all(isinstance(k, int) for k in self.trained)
        if not whole or not set(self.trained) & set(self.forced):
            raise ValueError(f"trained={self.trained!r} names no position of the answer; give None for all.")
