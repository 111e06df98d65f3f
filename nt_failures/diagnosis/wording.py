"""The verdicts in plain English: each text from the facts that its rule has looked at.

`facts` is a `verdict.Facts`; `after` is the budget in words, such as " after 2,000 steps", or nothing.
"""

from typing import Any

from nt_failures.diagnosis.evidence import LEARNT_AT
from nt_failures.evaluation.metrics import format_chance, wilson
from nt_failures.evaluation.metrics import format_percent as percent
from nt_failures.registry import plural


def seen(facts: Any) -> str:
    """The decision beside chance, in brackets behind a claim."""
    chance, n = facts.evidence.chance, facts.n
    if not facts.decides:
        return f"there is only one way to go, n = {n:,}" if chance is not None else f"n = {n:,}"
    interval = f"[{percent(facts.low)}, {percent(facts.high)}]"
    return f"decision {percent(facts.decision)} {interval}, chance {format_chance(chance)}, n = {n:,}"


def _above(facts: Any) -> bool:
    """Whether the interval of a decision that the rules call at chance lies above it all the same."""
    return facts.low > facts.evidence.chance


def _at_chance(facts: Any) -> str:
    return "near chance, and above it" if _above(facts) else "at chance"


def _guessed(facts: Any) -> str:
    return "hardly better than guessed" if _above(facts) else "guessed"


def _exact(facts: Any) -> str:
    """The share of exact answers with its interval."""
    exact, n, answer = facts.evidence.exact, facts.evidence.n, facts.evidence.words.answer
    low, high = wilson(exact * n, n)
    return f"{percent(exact)} [{percent(low)}, {percent(high)}] of held-out {answer}s are exact"


def solved(facts: Any, after: str) -> str:
    """Exact answers, or the positions that alone were trained, are right."""
    exact, trained = facts.evidence.exact, facts.evidence.trained
    if trained is None:
        return f"Solved{after}: {_exact(facts)} (n = {facts.evidence.n:,})."
    return (
        f"Solved{after}, as far as it was trained: of position {', '.join(map(str, trained))}, the worst is right in "
        f"{percent(exact)} on held-out instances."
    )


def few(facts: Any, after: str) -> str:
    """All is right, of next to nothing."""
    problems = plural(facts.evidence.n, f"different {facts.evidence.words.problem}")
    return (
        f"Undertrained{after}, as far as can be told: {_exact(facts)}, of only {problems}; measure more, or on a "
        "larger task."
    )


def answers(facts: Any, after: str) -> str:
    """Not right, and why cannot be told."""
    at_decision = f"; in these answers, {seen(facts)}" if facts.decides else ""
    return (
        f"Not solved{after}: {_exact(facts)} (n = {facts.evidence.n:,}){at_decision}. Why is not measured: free "
        f"answers alone do not tell whether it follows a {facts.evidence.words.detour} (Clever Hans), cannot decide, "
        "or errs a little at every step (snowballing)."
    )


def snowballing(facts: Any, after: str) -> str:
    """Small errors at every step multiply."""
    return (
        f"Snowballing{after}: every position is learnt well under teacher forcing, the worst at "
        f"{percent(min(facts.evidence.forced.values()))}; their product, {percent(facts.product)}, is what free "
        f"running reaches ({percent(facts.evidence.exact)})."
    )


def memorised(facts: Any, after: str) -> str:
    """The decision is known on training instances alone."""
    return (
        f"Memorised{after}: the decision is right on {percent(facts.evidence.train_decision)} of training instances "
        f"and {'hardly' if _above(facts) else 'not'} above chance on held-out ones ({seen(facts)})."
    )


def by_heart(facts: Any, after: str) -> str:
    """Right answers, and next to none that is new."""
    return (
        f"Memorised{after}: {percent(facts.evidence.exact)} of the {facts.evidence.words.answer}s are right, by heart."
    )


def new(facts: Any) -> str:
    """How many answers are new, behind any verdict on a task in which any right answer will do."""
    found = facts.evidence.originality
    if found is None:
        return ""
    return (
        f" New and different, so right and surely of no train row, are {percent(found['creativity'])} of the "
        f"{facts.evidence.words.answer}s; choosing among all right ones would give {percent(found['ideal'])}."
    )


def undertrained(facts: Any, after: str) -> str:
    """A position other than the decision is not learnt."""
    how = "teacher forcing" if facts.evidence.autoregressive else "its own decoding"
    missing = "it, and not the decision," if facts.decision >= LEARNT_AT else "more than the decision"
    missing = missing if facts.decides else "it"
    return (
        f"Undertrained{after}: position {facts.worst} is right in {percent(facts.lowest)} under {how}, so {missing} is "
        f"still to be learnt ({seen(facts)})."
    )


def small_errors(facts: Any, after: str) -> str:
    """The other positions err a little each."""
    answers = f"{facts.evidence.words.answer}s"
    return (
        f"Undertrained{after}: the positions other than the decision err a little each (the worst at "
        f"{percent(facts.lowest)}), and together leave only {percent(facts.look_ups)} of the {answers}, so more than "
        f"the decision is still to be learnt ({seen(facts)})."
    )


def clever_hans(facts: Any, after: str) -> str:
    """Every look-up is learnt, the decision is guessed, and a wrong one is followed."""
    words = facts.evidence.words
    return (
        f"Clever Hans + indecipherable token{after}: stuck {_at_chance(facts)}. Every other position is a look-up once "
        f"the true {words.answer} is revealed (the worst at {percent(facts.lowest)}); the one token that needs "
        f"planning is {_guessed(facts)} ({seen(facts)}). Put on a {words.detour}, it goes on along it in "
        f"{percent(facts.evidence.follow_rate)}. This is no snowballing: errors at the look-ups alone would leave "
        f"{percent(facts.look_ups)} of the {words.answer}s.{_in_part(facts)}{_by_heart(facts)} More steps may still "
        "solve it."
    )


def indecipherable(facts: Any, after: str) -> str:
    """Every other position is learnt, the decision is guessed; the cheat was not or cannot be measured."""
    words = facts.evidence.words
    return (
        f"Indecipherable token{after}: stuck {_at_chance(facts)}. Every other position is learnt (the worst at "
        f"{percent(facts.lowest)}); the one token that needs planning is {_guessed(facts)} ({seen(facts)}). Whether it "
        f"would follow a {words.detour}, the Clever Hans cheat, is not measured. This is no snowballing: errors at the "
        f"other positions alone would leave {percent(facts.look_ups)} of the {words.answer}s.{_in_part(facts)}"
        f"{_by_heart(facts)} More steps may still solve it."
    )


def unfinished(facts: Any, after: str) -> str:
    """Why no other rule fits."""
    start, evidence = f"Undertrained{after}:", facts.evidence
    if facts.too_few:
        few = f"too few different {evidence.words.problem}s to tell the decision from chance"
        return f"{start} {few} ({seen(facts)}); measure more."
    if facts.decision >= LEARNT_AT:
        exact = f"{percent(evidence.exact)} of {evidence.words.answer}s are exact"
        return f"{start} every position is learnt, but only {exact} ({seen(facts)})."
    if facts.above_chance:
        return f"{start} the decision is above chance but not learnt yet ({seen(facts)}).{_in_part(facts)}"
    alone = ", trained alone so that no earlier token helps to cheat," if evidence.trained and not facts.others else ""
    if evidence.order == "reversed":
        alone = ", in reversed order,"
    cheat = ""
    if facts.jumps:
        cheat = f" But put on a {evidence.words.detour}, it goes on along it in {percent(evidence.follow_rate)} only."
    chance = _at_chance(facts) if facts.at_chance else "below chance"
    return f"{start} the decision{alone} is {chance} ({seen(facts)}).{cheat}{_in_part(facts)}{_by_heart(facts)}"


def _in_part(facts: Any) -> str:
    """Where the decision is learnt, if only there."""
    found = facts.evidence.by_place or {}
    if not found.get("learnt_at"):
        return ""
    *places, last = map(str, found["learnt_at"])
    number = f"{', '.join(places)} or {last}" if places else last
    return (
        f" Where {found['clue']} is number {number} of the {found['places']} shown, the decision is right in "
        f"{percent(found['there'])}, elsewhere in {percent(found['elsewhere'])}: it is learnt there alone so far."
    )


def _by_heart(facts: Any) -> str:
    """What speaks for memorising before that is the verdict."""
    if not facts.better_on_train:
        return ""
    return f" On training instances it is right in {percent(facts.evidence.train_decision)}: it is being memorised."
