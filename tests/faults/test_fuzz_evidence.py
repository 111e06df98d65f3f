"""Numbers of a diagnosis: evidence, verdicts, intervals, learning order; and the measuring calls on odd instances."""

import math

import numpy as np
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st
from planted import Table

from nt_failures.diagnosis import (
    Budget,
    Evidence,
    clever_hans,
    decision_token,
    diagnose,
    forced_vs_free,
    learning_order,
    verdict,
)
from nt_failures.diagnosis.verdict import RULES
from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations
from nt_failures.tasks.path_star import PathStar

SHARES = st.one_of(st.sampled_from([0.0, 0.5, 0.94, 0.95, 0.99, 1.0]), st.floats(0, 1))
BY_POSITION = st.dictionaries(st.integers(1, 5), SHARES, max_size=5)
GOOD = {
    "n": st.integers(1, 10**6),
    "exact": SHARES,
    "chance": SHARES,
    "decision": st.integers(1, 5),
    "forced": BY_POSITION,
    "free": BY_POSITION,
    "autoregressive": st.booleans(),
    "order": st.sampled_from(["forward", "reversed"]),
    "train_decision": st.one_of(st.none(), SHARES),
    "follow_rate": st.one_of(st.none(), SHARES),
    "trained": st.one_of(st.none(), st.lists(st.integers(1, 5), max_size=3)),
    "at_decision": st.one_of(st.none(), SHARES),
    "decided": st.one_of(st.none(), st.integers(1, 10**6)),
    "products": st.one_of(st.none(), st.tuples(SHARES, SHARES)),
}
KINDS = st.sampled_from(["fixed", "moving", "none"])
BUDGETS = st.one_of(st.none(), st.builds(Budget, st.integers(0, 10**9), st.integers(0, 10**12), st.none()))


@fuzz(
    800,
    facts=st.fixed_dictionaries(GOOD),
    shares=st.lists(SHARES, min_size=10, max_size=10),
    budget=BUDGETS,
    kind=KINDS,
)
def test_verdict(facts, shares, budget, kind):
    """Catches: sound evidence without a verdict, a verdict without its budget, "solved" where too few paths are
    exact, a cheat where nothing is decided or no follow rate was measured."""
    trained = facts.pop("trained")
    if kind != "fixed":
        facts["decision"] = None
    if kind == "none":
        facts |= {"chance": None, "at_decision": None}
    elif kind == "moving":
        facts["at_decision"] = facts["at_decision"] or 0.5
    facts["forced"] = dict(enumerate(shares[:5], start=1))
    facts["free"] = dict(enumerate(shares[5:], start=1))
    evidence = accepted(lambda: Evidence(**facts).restricted_to(trained), "trained=")
    if evidence is not None:
        found = verdict(evidence, budget)
        assert found.name in {*(rule.name for rule in RULES), "untrained"}
        sure = wilson(evidence.exact * evidence.n, evidence.n)[0] >= 0.75
        assert (found.name == "solved") == (evidence.exact >= 0.95 and sure)
        assert budget is None or str(budget) in found.text
        assert "nan" not in found.text
        if kind == "none" or evidence.follow_rate is None:
            assert found.name != "clever-hans + indecipherable token"


@fuzz(1200, facts=st.fixed_dictionaries({k: v if k == "forced" else st.one_of(v, v, ODD) for k, v in GOOD.items()}))
def test_odd_evidence(facts):
    """Catches: nan, None, text or another number of positions taken for a measurement."""
    trained = facts.pop("trained")
    words = ("forced", "n must", "order=", "trained=", "a decision needs", "products=")
    evidence = accepted(lambda: Evidence(**facts).restricted_to(trained), *words)
    if evidence is not None:
        assert verdict(evidence).name in {*(rule.name for rule in RULES), "untrained"}
        assert set(evidence.forced) == set(evidence.free)


@fuzz(500, steps=ODD, examples=ODD, flops=ODD)
def test_budget(steps, examples, flops):
    """Catches: a budget that only fails once it is printed."""
    budget = accepted(lambda: Budget(steps, examples, flops), "steps=", "examples=", "flops=")
    assert budget is None or " step" in str(budget)


@fuzz(1200, successes=st.one_of(st.integers(-2, 50), st.floats()), n=st.integers(-2, 50))
def test_wilson(successes, n):
    """Catches: an interval without the share in it, the root of a negative number, nan in silence."""
    found = accepted(lambda: wilson(successes, n), str(successes))
    if found is not None:
        assert 0 <= found[0] <= found[1] <= 1
        assert n == 0 or found[0] - 1e-9 <= successes / n <= found[1] + 1e-9


NAMES = st.sampled_from(
    ["step", "forced/position_1", "forced/position_2", "eval_forced/position_1", "forced/position_x", "loss"]
)
ENTRIES = st.dictionaries(NAMES, st.one_of(SHARES, st.integers(0, 9), ODD))


@fuzz(700, curve=st.lists(ENTRIES, max_size=4), threshold=st.one_of(SHARES, st.floats()))
def test_odd_learning_order(curve, threshold):
    """Catches: evaluations that lack a step, a position or a number, and end in a KeyError or count as learnt."""
    found = accepted(lambda: learning_order(curve, threshold=threshold), "curve", "threshold")
    assert found is None or set(found["order"]) <= set(found["step"])


@fuzz(
    800,
    rows=st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=5),
    threshold=st.floats(0.01, 1),
    odd=st.integers(0, 9),
)
def test_learning_order(rows, threshold, odd):
    """Catches: another step than the first from which a position stays above; nan that counts as learnt."""
    rows = [list(row) for row in rows]
    if odd < len(rows):
        rows[odd][0] = math.nan
    curve = [{"step": i, "forced/position_1": a, "forced/position_2": b} for i, (a, b) in enumerate(rows)]
    found = learning_order(curve, threshold=threshold)["step"]
    for k in (1, 2):
        tails = [i for i in range(len(rows)) if all(row[k - 1] >= threshold for row in rows[i:])]
        assert found[k] == (tails[0] if tails else None)


TASK = PathStar(2, 4, 10)
LABELS = st.lists(st.lists(st.integers(-1, 9), min_size=4, max_size=4), min_size=3, max_size=3)


@fuzz(400, forced=LABELS, free=LABELS, astray=LABELS, continued=LABELS, order=st.sampled_from(["forward", "reversed"]))
def test_diagnosis(forced, free, astray, continued, order):
    """Catches: any predictions that break a diagnosis, shares that are no shares, and counts that differ from a
    loop's."""
    columns = TASK.sample(np.random.default_rng(0), 3)
    found = diagnose(Table(forced, free, astray, continued, order), TASK, columns, columns, budget=Budget(1, 1))
    paths = columns["path"].tolist()
    measured, cheat = found["forced_vs_free"], found["clever_hans"]
    assert measured["exact"] == np.mean([answer == path for answer, path in zip(free, paths, strict=True)])
    assert math.isclose(cheat["follow_rate"] + cheat["jump_rate"] + cheat["break_rate"], 1.0)
    for k in range(4):
        assert measured["forced"][k + 1] == np.mean([a[k] == p[k] for a, p in zip(forced, paths, strict=True)])
    steps = range(4) if order == "forward" else range(3, -1, -1)
    first = [next((k + 1 for k in steps if a[k] != p[k]), None) for a, p in zip(free, paths, strict=True)]
    wrong = [k for k in first if k is not None]
    assert measured["errors"] == len(wrong)
    assert all(measured["first_error"][k] == (wrong.count(k) / len(wrong) if wrong else None) for k in range(1, 5))


SIZES = st.sampled_from(
    [PathStar(2, 4, 10), PathStar(1, 4, 10), PathStar(2, 3, 10), PathStar(2, 2, 10), PathStar(3, 4, 10)]
)


@fuzz(400, asked=SIZES, given_=SIZES, n=st.integers(0, 3), drop=st.sampled_from(["", "edges", "path", "goal"]))
def test_instances_of_another_task(asked, given_, n, drop):
    """Catches: instances of another size, none at all, or without a column, that are measured or end in an
    IndexError."""
    columns = given_.sample(np.random.default_rng(0), n)
    columns.pop(drop, None)
    labels = np.zeros((n, asked.path_length), dtype=np.int64)
    table = Table(labels, labels, labels, labels)
    for measure in (forced_vs_free, decision_token, clever_hans):
        found = accepted(
            lambda measure=measure: measure(Observations(table, asked, columns)),
            "shape",
            "path_length >= 4",
            "degree=1",
        )
        assert found is None or (found["n"] == n and asked.num_edges == given_.num_edges)
