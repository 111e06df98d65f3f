"""Verdict: joins the measured claims into one word, its evidence in plain English, and the rule that was used.

A verdict is about a model after its budget. "Stuck at chance after N steps" is what can be measured; "cannot learn" is
not: on tiny graphs next-token training solves the task late.
"""

import dataclasses
import math

from nt_failures.diagnosis.evidence import Budget, Evidence
from nt_failures.evaluation.metrics import wilson

SOLVED_AT = 0.95
"""Exact accuracy from which a run counts as solved."""
LEARNT_AT = 0.95
"""Accuracy from which a single position counts as learnt."""
LOOK_UPS_AT = 0.9
"""Product of all positions but the decision from which errors there cannot explain a failure."""

VERDICTS = ("solved", "clever-hans + indecipherable token", "memorised", "snowballing", "undertrained")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, why, and by which rule."""

    name: str
    text: str
    rule: str

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return dataclasses.asdict(self)


def verdict(evidence: Evidence, budget: Budget | None = None) -> Verdict:
    """Judge a model by the first rule that fits.

    1. solved: exact accuracy >= 0.95.
    2. snowballing: every forced position, the decision too, >= 0.8, the decision clearly above chance, the product of the
       forced accuracies within 0.05 of exact, the errors at the other positions together outweigh those at the decision, and
       no position alone has three quarters of the errors: nothing is unlearnt, small errors multiply. Only where every
       position was trained.
    3. memorised: the decision is >= 0.95 on training instances and at or below chance on held-out ones.
    4. undertrained: a position other than the decision is below 0.95, or, with the decision at chance, all of them together
       below 0.9 (their product).
    5. clever-hans + indecipherable token: the model decodes token by token from the start of the path on, the decision
       is at chance, and put on a wrong arm the model goes on along it in at least half of the cases (where that was
       measured).
    6. undertrained: anything else.

    "At chance" means that the decision is neither above chance (its 95 % interval above 1.1 times chance) nor below it (the
    interval below chance, and the accuracy below 0.9 times chance), and that the interval lies within 0.5 to 1.5 times
    chance; too few instances prove nothing. Where there is only one way to go (chance 1), the decision is a position like
    the others.
    """
    facts = _Facts(evidence, "" if budget is None else f" after {budget}")
    if evidence.exact >= SOLVED_AT:
        rule = "exact >= 0.95" if evidence.trained is None else "every trained position >= 0.95"
        return Verdict("solved", facts.solved(), rule)
    if facts.snowballs:
        rule = "every forced position >= 0.8, product within 0.05 of exact, errors mostly outside the decision"
        return Verdict("snowballing", facts.snowballing(), rule)
    if not (facts.above_chance or facts.too_few) and (evidence.train_decision or 0.0) >= LEARNT_AT:
        return Verdict(
            "memorised", facts.memorised(), "decision >= 0.95 on training instances, not above chance held out"
        )
    if facts.lowest < LEARNT_AT:
        return Verdict("undertrained", facts.undertrained(), "a position other than the decision < 0.95")
    plans = evidence.autoregressive and evidence.order == "forward"
    if facts.at_chance and plans and facts.look_ups < LOOK_UPS_AT:
        return Verdict("undertrained", facts.leaky(), "the product of the positions other than the decision < 0.9")
    if facts.at_chance and plans and facts.others and not facts.jumps:
        return Verdict(VERDICTS[1], facts.clever_hans(), "others >= 0.95, decision within 0.9 to 1.1 x chance")
    return Verdict("undertrained", facts.unfinished(), "exact < 0.95 and no other rule fits")


class _Facts:
    """What the rules and their texts share."""

    def __init__(self, evidence: Evidence, after: str):
        self.evidence, self.after = evidence, after
        shares = evidence.forced if evidence.autoregressive else evidence.free
        self.others = {k: share for k, share in shares.items() if k != evidence.decision or evidence.chance >= 1}
        self.worst, self.lowest = min(self.others.items(), key=lambda item: item[1], default=(0, 1.0))
        self.decision = shares[evidence.decision]
        low, high = wilson(self.decision * evidence.n, evidence.n)
        self.above_chance = low > 1.1 * evidence.chance or evidence.chance >= 1
        below = high < evidence.chance and self.decision < 0.9 * evidence.chance
        near = not (self.above_chance or below)
        self.at_chance = near and low >= 0.5 * evidence.chance and high <= 1.5 * evidence.chance
        self.too_few = near and not self.at_chance
        self.jumps = evidence.follow_rate is not None and evidence.follow_rate < 0.5
        self.look_ups = math.prod(self.others.values())
        self.looked_up = any(evidence.decision < k < max(shares) for k in shares)
        self.product = math.prod(evidence.forced.values())
        mild = min(evidence.forced.values()) >= 0.8 and self.above_chance
        spread = self.look_ups <= self.decision and 1 - self.lowest < 0.75 * (1 - self.product)
        multiplied = evidence.trained is None and abs(self.product - evidence.exact) <= 0.05
        self.snowballs = evidence.autoregressive and mild and spread and multiplied
        self.seen = (
            f"decision {self.decision:.1%} [{low:.1%}, {high:.1%}], chance {evidence.chance:.1%}, n = {evidence.n:,}"
            if evidence.chance < 1
            else f"there is only one way to go, n = {evidence.n:,}"
        )

    def solved(self) -> str:
        exact, trained = self.evidence.exact, self.evidence.trained
        if trained is None:
            low, high = wilson(exact * self.evidence.n, self.evidence.n)
            found = f"{exact:.1%} [{low:.1%}, {high:.1%}]"
            return f"Solved{self.after}: {found} of held-out paths are exact (n = {self.evidence.n:,})."
        return (
            f"Solved{self.after}, as far as it was trained: of position {', '.join(map(str, trained))}, the worst is right "
            f"in {exact:.1%} on held-out instances."
        )

    def snowballing(self) -> str:
        return (
            f"Snowballing{self.after}: every position is learnt well under teacher forcing, the worst at "
            f"{min(self.evidence.forced.values()):.1%}; their product, {self.product:.1%}, is what free running reaches "
            f"({self.evidence.exact:.1%})."
        )

    def undertrained(self) -> str:
        way = "teacher forcing" if self.evidence.autoregressive else "its own decoding"
        missing = "it, and not the decision," if self.decision >= LEARNT_AT else "more than the decision"
        missing = "it" if self.evidence.chance >= 1 else missing
        return (
            f"Undertrained{self.after}: position {self.worst} is right in {self.lowest:.1%} under {way}, so {missing} is still to "
            f"be learnt ({self.seen})."
        )

    def leaky(self) -> str:
        return (
            f"Undertrained{self.after}: the positions other than the decision err a little each (the worst at {self.lowest:.1%}), "
            f"and together leave only {self.look_ups:.1%} of the paths, so more than the decision is still to be learnt ({self.seen})."
        )

    def unfinished(self) -> str:
        start = f"Undertrained{self.after}:"
        if self.too_few:
            return f"{start} too few instances to tell the decision from chance ({self.seen}); measure more."
        if self.decision >= LEARNT_AT:
            return f"{start} every position is learnt, but only {self.evidence.exact:.1%} of paths are exact ({self.seen})."
        if self.above_chance:
            return f"{start} the decision is above chance but not learnt yet ({self.seen}).{self._in_part()}"
        alone = "" if self.others else ", trained alone so that no earlier token helps to cheat,"
        if self.evidence.order == "reversed":
            alone = ", in reversed order a look-up like every other,"
        cheat = (
            f" But put on a wrong arm, it goes on along it in {self.evidence.follow_rate:.1%} only."
            if self.jumps
            else ""
        )
        return f"{start} the decision{alone} is {'at' if self.at_chance else 'below'} chance ({self.seen}).{cheat}{self._in_part()}{self._by_heart()}"

    def _in_part(self) -> str:
        """Where the decision is learnt, if only there."""
        found = self.evidence.by_place or {}
        if not found.get("learnt_at"):
            return ""
        *places, last = map(str, found["learnt_at"])
        number = f"{', '.join(places)} or {last}" if places else last
        return (
            f" Where {found['clue']} is number {number} of the {found['places']} shown, the decision "
            f"is right in {found['there']:.1%}, elsewhere in {found['elsewhere']:.1%}: it is learnt there alone so far."
        )

    def _by_heart(self) -> str:
        """What speaks for memorising before that is the verdict."""
        train = self.evidence.train_decision
        high = wilson(self.decision * self.evidence.n, self.evidence.n)[1]
        if train is None or train <= max(self.decision + 0.1, high):
            return ""
        return f" On training instances it is right in {train:.1%}: it is being memorised."

    def memorised(self) -> str:
        return (
            f"Memorised{self.after}: the decision is right on {self.evidence.train_decision:.1%} of training instances and "
            f"not above chance on held-out ones ({self.seen})."
        )

    def clever_hans(self) -> str:
        follow = self.evidence.follow_rate
        cheat = "" if follow is None else f" Put on a wrong arm, it goes on along it in {follow:.1%}."
        others, cheap = f"(the worst at {self.lowest:.1%})", "look-ups"
        learnt = f"Every other position is a look-up once the true path is revealed {others}"
        if not self.looked_up:
            cheat = " The cheat itself cannot show, as no position lies between the decision and the last."
            learnt, cheap = f"Every other position is a copy from the prompt {others}", "copies"
        return (
            f"Clever Hans + indecipherable token{self.after}: stuck at chance. {learnt}; the one token that needs planning is "
            f"guessed ({self.seen}).{cheat} This is no snowballing: errors at the {cheap} alone would leave {self.look_ups:.1%} "
            f"of the paths.{self._in_part()} More steps may still solve it."
        )
