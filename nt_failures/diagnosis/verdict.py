"""Verdict: joins the measured claims into one word, its evidence in plain English, and the rule that was used.

A verdict is about a model after its budget. "Stuck at chance after N steps" is what can be measured; "cannot learn" is
not: on tiny graphs next-token training solves the task late.
"""

import dataclasses
import math
from collections.abc import Mapping

from nt_failures.scoring import wilson

SOLVED_AT = 0.95
"""Exact accuracy from which a run counts as solved."""
LEARNT_AT = 0.95
"""Accuracy from which a single position counts as learnt."""

VERDICTS = ("solved", "clever-hans + indecipherable token", "memorised", "snowballing", "undertrained")


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the training spent."""

    steps: int
    examples: int
    flops: float | None = None

    def __str__(self) -> str:
        flops = "" if self.flops is None else f", {self.flops:.1e} FLOPs"
        return f"{self.steps:,} steps ({self.examples:,} examples{flops})"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a verdict rests on; shares in 0..1 over `n` held-out instances.

    `forced` maps answer positions, from 1, to forced accuracy. `autoregressive` says whether the model decodes token by
    token; only then do forced accuracies describe what it does. `train_decision` is the forced accuracy at the decision
    on `train_n` training instances, None where not measured.
    """

    n: int
    exact: float
    chance: float
    decision: int
    forced: Mapping[int, float]
    free: Mapping[int, float]
    autoregressive: bool = True
    train_decision: float | None = None
    train_n: int = 0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, why, and by which rule."""

    name: str
    text: str
    rule: str


def verdict(evidence: Evidence, budget: Budget | None = None) -> Verdict:
    """Judge a model by the first rule that fits.

    1. solved: exact accuracy >= 0.95.
    2. undertrained: a position other than the decision is below 0.95, and errors do not just multiply up (rule 5).
    3. memorised: the decision is >= 0.95 on training instances and at chance on held-out ones.
    4. clever-hans + indecipherable token: every other position >= 0.95, the decision at chance: the interval of its
       accuracy reaches down to 1.1 times chance.
    5. snowballing: every forced position, the decision too, >= 0.8 and clearly above chance, and their product is within
       0.05 of exact: nothing is unlearnt, small errors multiply.
    """
    after = "" if budget is None else f" after {budget}"
    shares = evidence.forced if evidence.autoregressive else evidence.free
    others = {k: share for k, share in shares.items() if k != evidence.decision}
    worst, lowest = min(others.items(), key=lambda item: item[1], default=(0, 1.0))
    decision = shares[evidence.decision]
    low, high = wilson(decision * evidence.n, evidence.n)
    at_chance = low <= 1.1 * evidence.chance
    way = "teacher forcing" if evidence.autoregressive else "its own decoding"
    seen = f"decision {decision:.1%} [{low:.1%}, {high:.1%}], chance {evidence.chance:.1%}"
    if evidence.exact >= SOLVED_AT:
        return Verdict("solved", f"Solved{after}: {evidence.exact:.1%} of held-out paths are exact.", "exact >= 0.95")
    product = math.prod(evidence.forced.values())
    mild = min(evidence.forced.values(), default=0.0) >= 0.8 and not at_chance
    if evidence.autoregressive and mild and abs(product - evidence.exact) <= 0.05:
        text = (
            f"Snowballing{after}: every position is learnt well under teacher forcing, the worst at "
            f"{min(evidence.forced.values()):.1%}; their product, {product:.1%}, is what free running reaches "
            f"({evidence.exact:.1%})."
        )
        return Verdict("snowballing", text, "every forced position >= 0.8, product within 0.05 of exact")
    if lowest < LEARNT_AT:
        text = (
            f"Undertrained{after}: position {worst} is right in {lowest:.1%} under {way}, so more than the decision is "
            f"still to be learnt ({seen})."
        )
        return Verdict("undertrained", text, "a position other than the decision < 0.95")
    if at_chance and evidence.train_decision is not None and evidence.train_decision >= LEARNT_AT:
        text = (
            f"Memorised{after}: the decision is right on {evidence.train_decision:.1%} of training instances and at chance "
            f"on held-out ones ({seen})."
        )
        return Verdict("memorised", text, "decision >= 0.95 on train, at chance held out")
    if at_chance and evidence.autoregressive:
        text = (
            f"Clever Hans + indecipherable token{after}: stuck at chance. Every other position is a look-up once the true "
            f"path is revealed (the worst at {lowest:.1%}), but the one token that needs planning is guessed ({seen}). "
            "This is no snowballing: the first error is at the decision. More steps may still solve it."
        )
        return Verdict(
            "clever-hans + indecipherable token", text, "others >= 0.95, interval of the decision within 1.1 x chance"
        )
    text = f"Undertrained{after}: the decision is being learnt but is not there yet ({seen})."
    return Verdict("undertrained", text, "exact < 0.95 and no other rule fits")
