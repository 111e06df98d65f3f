"""Verdict: the measured claims joined into one name, by the first rule of a table that fits.

A verdict is about a model after its budget: "stuck at chance after N steps" can be measured, "cannot learn" cannot.
"""

import dataclasses
import math
from collections.abc import Callable

from nt_failures.diagnosis import wording
from nt_failures.diagnosis.evidence import LEARNT_AT, SOLVED_AT, Budget, Evidence
from nt_failures.evaluation.metrics import wilson
from nt_failures.tasks.blocks import split_share

LOOK_UPS_AT = 0.9
"""Product of all positions but the decision from which errors there cannot explain a failure."""
NEAR = 0.02
"""So close to chance is at chance, however small chance is: of 1 in 1,000 no half can be told."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the model is, as `RULES` call it, why, and by which rule."""

    name: str
    text: str
    rule: str


def verdict(evidence: Evidence, budget: Budget | None = None, known: bool = True) -> Verdict:
    """Judge a model by the first rule of `RULES` that fits.

    What is not learnt is `undertrained`; `untrained` after a budget of 0 steps; and `untrained or undertrained` where
    it is not `known` whether the model was trained on the task.

    Returns:
        the name, why in words, and the rule that fits.

    Example:
        >>> shares = {1: 1.0, 2: 0.5, 3: 1.0}  # the decision is at position 2
        >>> stuck = Evidence(n=2000, exact=0.5, chance=0.5, decision=2, forced=shares, free=shares, follow_rate=1.0)
        >>> verdict(stuck, Budget(steps=2000, examples=128_000)).name
        'clever-hans + indecipherable token'
    """
    facts = Facts(evidence)
    rule = next(rule for rule in RULES if rule.fits(facts))
    condition = "every trained position >= 0.95" if rule.name == "solved" and evidence.trained else rule.condition
    name, text = rule.name, rule.text(facts, "" if budget is None else f" after {budget}") + wording.new(facts)
    if name == "undertrained" and (not known or (budget is not None and budget.steps == 0)):
        name = "untrained" if known else "untrained or undertrained"
        text = text.replace("Undertrained", name.capitalize(), 1)
    return Verdict(name, text, condition)


class Facts:
    """What the rules and their texts share: the evidence, and how its decision stands to chance.

    The decision is above chance if its 95 % interval lies above 1.1 times chance and three were right (of a tiny chance
    one or two are luck, which the interval takes for more), below it if the interval lies below
    chance and the accuracy below 0.9 times chance, and at chance if it is neither and the interval lies within 0.5 to
    1.5 times chance, or within 0.02 of it; else there are too few problems to tell. Where there is nothing to decide
    (no decision, or chance 1), all positions are alike.
    """

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.answers_alone = evidence.autoregressive and evidence.forced is None
        """whether nothing but whole answers was measured of a model that decodes token by token"""
        chance, shares = evidence.chance, (evidence.autoregressive and evidence.forced) or evidence.free
        chance = 1.0 if chance is None else chance
        self.decides = chance < 1
        self.decision = shares.get(evidence.decision, evidence.at_decision)
        if self.decision is None:
            self.decision = 1.0
        self.n = evidence.n if evidence.decided is None else evidence.decided
        self.low, self.high = low, high = wilson(self.decision * self.n, self.n)
        right = round(self.decision * self.n)
        self.above_chance = (low > 1.1 * chance and right >= 3) or not self.decides
        near = not self.above_chance and not (high < chance and self.decision < 0.9 * chance)
        around = max(0.5 * chance, NEAR)
        self.at_chance = near and chance - around <= low and high <= chance + around
        self.too_few = near and not self.at_chance
        known = self.decision if evidence.train_decision is None else evidence.train_decision
        by_luck = evidence.gap_interval is not None and evidence.gap_interval[0] <= 0
        self.better_on_train = known > max(self.decision + 0.05, high) and not by_luck
        """whether the decision is right more often on training instances, beyond what few of them would do by luck"""
        self.others = {k: share for k, share in shares.items() if k != evidence.decision or not self.decides}
        self.worst, self.lowest = min(self.others.items(), key=lambda item: item[1], default=(0, 1.0))
        forced = shares if evidence.forced is None else evidence.forced
        of_all, of_others = evidence.products or (math.prod(forced.values()), math.prod(self.others.values()))
        self.look_ups = of_others
        """what errors at the other positions alone would leave"""
        self.product = of_all
        self.few = wilson(evidence.exact * evidence.n, evidence.n)[0] < 0.75
        new = evidence.originality
        # Choosing among all right answers, so many are new; and of these so many differ.
        by_choice = {"unseen": 1 - split_share("train"), "creativity": new["ideal"]} if new else {}
        self.by_heart = any(
            wilson(new[name] * evidence.n, evidence.n)[1] < share / 2 for name, share in by_choice.items()
        )
        self.jumps = evidence.follow_rate is not None and evidence.follow_rate < 0.5
        self.can_cheat = self.at_chance and evidence.autoregressive and evidence.order == "forward"


def _snowballs(facts: Facts) -> bool:
    """Nothing is unlearnt, and small errors at several positions multiply. Only where every position was trained."""
    evidence = facts.evidence
    if not evidence.autoregressive:
        return False
    mild = min(evidence.forced.values()) >= 0.8 and facts.above_chance
    spread = facts.look_ups <= facts.decision and 1 - facts.lowest < 0.75 * (1 - facts.product)
    multiplied = evidence.trained is None and abs(facts.product - evidence.exact) <= 0.05
    return mild and spread and multiplied


def _memorised(facts: Facts) -> bool:
    above = facts.above_chance or facts.too_few
    return facts.decides and not above and facts.better_on_train and facts.evidence.train_decision >= LEARNT_AT


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of the table of verdicts."""

    name: str
    condition: str
    """in words"""
    fits: Callable[[Facts], bool]
    text: Callable[[Facts, str], str]
    """the verdict in plain English, with the budget behind its first word"""


AT_CHANCE = (
    f"decision's interval in 0.5 to 1.5 x chance or within {NEAR} of it, its low end <= 1.1 x, its high end >= 1 x "
    "or decision >= 0.9 x"
)
"""`Facts.at_chance` in words."""
RULES = (
    Rule(
        "undertrained",
        "exact >= 0.95, of so few problems that its 95 % interval begins below 0.75",
        lambda f: f.evidence.exact >= SOLVED_AT and f.few,
        wording.few,
    ),
    Rule(
        "memorised",
        "exact >= 0.95, and fewer than half as many new, or different new, answers as choosing among all gives",
        lambda f: f.evidence.exact >= SOLVED_AT and f.by_heart,
        wording.by_heart,
    ),
    Rule("solved", "exact >= 0.95", lambda f: f.evidence.exact >= SOLVED_AT, wording.solved),
    Rule("not solved", "exact < 0.95, and only free answers were measured", lambda f: f.answers_alone, wording.answers),
    Rule(
        "snowballing",
        "every forced position >= 0.8, product within 0.05 of exact, errors mostly outside the decision",
        _snowballs,
        wording.snowballing,
    ),
    Rule(
        "memorised", "decision >= 0.95 on training instances, not above chance held out", _memorised, wording.memorised
    ),
    Rule(
        "undertrained",
        "a position other than the decision < 0.95",
        lambda f: f.lowest < LEARNT_AT,
        wording.undertrained,
    ),
    Rule(
        "undertrained",
        "the product of the positions other than the decision < 0.9",
        lambda f: f.can_cheat and f.look_ups < LOOK_UPS_AT,
        wording.small_errors,
    ),
    Rule(
        "clever-hans + indecipherable token",
        f"others >= 0.95, {AT_CHANCE}, a wrong decision is followed in >= 0.5",
        lambda f: f.can_cheat and bool(f.others) and f.evidence.follow_rate is not None and not f.jumps,
        wording.clever_hans,
    ),
    Rule(
        "indecipherable token",
        f"others >= 0.95, {AT_CHANCE}, no cheat measured",
        lambda f: f.can_cheat and bool(f.others) and f.evidence.follow_rate is None,
        wording.indecipherable,
    ),
    Rule("undertrained", "exact < 0.95 and no other rule fits", lambda f: True, wording.unfinished),
)
"""The verdicts in the order in which they are tried."""
