"""Countdown: by hand, against plain loops over all equations, and what planted models of it are called."""

import functools
import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise
from task_checks import assert_refused, assert_scored, bad_lines, bad_parameters, columns_of, read_or_none

from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.tasks._arithmetic import leads_on, reaches
from nt_failures.tasks.countdown import Countdown

PROMPT = "12,7,3|28:"
SOLUTION = "4 = 12 / 3, 28 = 7 * 4 ."
OPERATORS = "+-*/"


def equations(numbers, bound):
    """(result, a, operator, b, the numbers that are left) of every equation over some numbers, by plain loops."""
    for i, j in itertools.permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        left = [number for k, number in enumerate(numbers) if k not in (i, j)]
        found = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if a % b == 0 else 0}
        yield from ((r, a, sign, b, [*left, r]) for sign, r in found.items() if 1 <= r <= bound)


def can_reach(numbers, target, bound):
    if len(numbers) == 1:
        return numbers == [target]
    return any(can_reach(left, target, bound) for *_, left in equations(numbers, bound))


# ---------------------------------------------------------------- by hand


def test_line_by_hand():
    """Catches: results behind their equations, symbols that run together, an answer without its end."""
    task = Countdown(3)
    read = task.parse(PROMPT + SOLUTION)
    signs = {sign: 101 + place for place, sign in enumerate("+-*/=")}
    answer = [4, signs["="], 12, signs["/"], 3, 28, signs["="], 7, signs["*"], 4]
    assert read == {"numbers": [12, 7, 3], "target": 28, "answer": answer}
    assert task.parse(PROMPT) == {**read, "answer": None}
    columns = columns_of(task, PROMPT + SOLUTION)
    texts = {name: text.to_list() for name, text in task.texts(columns).items()}
    assert texts == {"prompt": [PROMPT], "completion": [SOLUTION]}
    assert task.symbols == [*map(str, range(101)), *"+-*/=|:.$"]
    assert (task.config_name, task.answer_length, Countdown(5).answer_length) == ("numbers3", 10, 20)


def test_four_numbers_by_hand():
    """Catches: an equation of two results, or a number used again, judged wrongly; commas at the wrong places."""
    task, line = Countdown(4), "20,8,6,3|40:12 = 20 - 8, 18 = 6 * 3, 30 = 12 + 18 ."
    with pytest.raises(ValueError, match=r"no solution|no equations"):
        task.parse(line)
    columns = columns_of(task, line.replace("40:", "30:"))
    assert task.texts(columns)["completion"].to_list() == [line.split(":")[1]]


JUDGED = {  # 12, 7, 3 to 28; 84 and 4 lead on, but 4 only as 12 / 3
    "right": (SOLUTION, 10 * [1], True, 0),
    "right, the other way": ("84 = 7 * 12, 28 = 84 / 3", 10 * [1], True, 0),
    "right, a product turned round": ("4 = 12 / 3, 28 = 4 * 7", 10 * [1], True, 0),
    "true, but it leads nowhere": ("19 = 12 + 7, 28 = 19 + 3", [0, 1, 1, 1, 1, 0, 0, 0, 0, 0], False, 1),
    "the result leads on, but not like that": ("4 = 7 - 3, 28 = 12 * 4", [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], False, 6),
    "ends beside the target": ("4 = 12 / 3, 11 = 7 + 4", [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], False, 6),
    "a false equation": ("4 = 12 - 3, 28 = 7 * 4", [1, 1, 1, 0, 0, 0, 0, 0, 0, 0], False, 4),
    "a false last equation": ("4 = 12 / 3, 28 = 7 + 4", [1, 1, 1, 1, 1, 1, 1, 1, 0, 0], False, 9),
    "no result of these numbers": ("50 = 12 + 7, 28 = 7 * 4", 10 * [0], False, 1),
    "a number that is not there": ("4 = 2 + 2, 28 = 7 * 4", [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], False, 3),
    "a number used twice": ("4 = 12 / 3, 28 = 7 * 7", [1, 1, 1, 1, 1, 1, 1, 1, 1, 0], False, 10),
    "a number used again": ("84 = 12 * 7, 28 = 12 * 3", [1, 1, 1, 1, 1, 1, 1, 0, 0, 0], False, 8),
    "one equation": ("84 = 12 * 7 .", [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], False, 6),
    "result behind": ("12 / 3 = 4, 7 * 4 = 28", 10 * [0], False, 1),
    "a difference turned round": ("4 = 3 - 7, 28 = 12 * 4", [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], False, 3),
    "goes on": ("4 = 12 / 3, 28 = 7 * 4, 28", 10 * [1], False, 11),
    "no symbol": ("4 = 12 : 3, 28 = 7 * 4", [1, 1, 1, 0, 0, 0, 0, 0, 0, 0], False, 4),
    "empty": ("", 10 * [0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it; a solution that is not the written one refused."""
    task, (text, *expected) = Countdown(3), JUDGED[case]
    assert_scored(task, columns_of(task, PROMPT + SOLUTION), task.read_answer(text), *expected)


def test_nothing_is_right_behind_a_wrong_equation():
    """Catches: a second equation counted as right because it would be true of the numbers that another first one
    leaves."""
    task = Countdown(3)
    columns = columns_of(task, "12,7,3|22:19 = 12 + 7, 22 = 19 + 3 .")
    assert_scored(task, columns, task.read_answer("20 = 12 + 7, 22 = 19 + 3 ."), 10 * [0], False, 1)


def test_an_early_equation_may_be_any_that_is_true():
    """Catches: a second equation that has to lead on, or a last one that has not, of four numbers."""
    task = Countdown(4)
    columns = columns_of(task, "20,8,6,3|30:12 = 20 - 8, 18 = 6 * 3, 30 = 12 + 18 .")
    blind = task.read_answer("12 = 20 - 8, 9 = 6 + 3, 30 = 12 + 9 .")
    assert_scored(task, columns, blind, [1] * 10 + [0] * 5, False, 11)


@bad_lines(
    ("", "is no problem of 3 numbers up to 50"),
    (PROMPT.replace(":", ""), "is no problem of 3 numbers"),
    (PROMPT.replace("|", ","), "is no problem of 3 numbers"),
    (PROMPT.replace("12,", ""), "is no problem of 3 numbers"),
    (PROMPT.replace("12", "51"), "is no problem of 3 numbers up to 50"),
    (PROMPT.replace("12", "0"), "is no problem"),
    (PROMPT.replace("12", "012"), "is no problem"),
    (PROMPT.replace("28", "101"), "a target up to 100"),
    (PROMPT.replace("28", "100"), "no equations of the numbers in .* give 100"),
    (PROMPT + "4 = 7 - 3, 28 = 12 * 4 .", "are no solution"),
    (PROMPT + "28", "are no solution"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data, and a problem without a solution."""
    with pytest.raises(ValueError, match=reason):
        Countdown(3).parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,|:=+-*/. "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind, or a hang, on text that a model made up."""
    row = read_or_none(Countdown(3), text)
    assert row is None or can_reach(row["numbers"], row["target"], 100)


@bad_parameters(
    ({"numbers": 2}, "numbers=2", "numbers >= 3"),
    ({"numbers": 6}, "numbers=6", "give 3, 4 or 5"),
    ({"largest": 1}, "largest=1", "largest >= 2"),
    ({"bound": 49}, "largest=50", "give bound from 50"),
    ({"bound": 10_000}, "bound=10000", "to 9,999"),
    ({"numbers": "3"}, "numbers='3'", "numbers >= 3"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a size found out only while rows are drawn, or an error without a way out."""
    assert_refused(Countdown, parameters, given, repair)


def test_named_sizes():
    """Catches: a config whose name is another's."""
    assert {Countdown(**values).config_name for values in Countdown.CONFIGS.values()} == {*Countdown.CONFIGS}
    assert Countdown(3, 20).config_name == "numbers3-largest20-bound100"


# ---------------------------------------------------------------- what is reached, and what is decided


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_numbers_reach_by_plain_loops(count):
    """Catches: a quotient that is rounded, a difference below 1, a result above the bound, a pair left out."""
    rng = np.random.default_rng(count)
    numbers, target = rng.integers(1, 13, (60, count)), rng.integers(1, 31, 60)
    expected = [can_reach(row, goal, 30) for row, goal in zip(numbers.tolist(), target.tolist(), strict=True)]
    assert reaches(numbers, target, 30).tolist() == expected
    assert count == 1 or 0 < sum(expected) < 60
    if count == 1:
        return
    first = rng.integers(1, 31, 60)
    ways = [[*equations(row, 30)] for row in numbers.tolist()]
    expected = [
        any(result == wanted and can_reach(left, goal, 30) for result, *_, left in found)
        for found, wanted, goal in zip(ways, first.tolist(), target.tolist(), strict=True)
    ]
    assert leads_on(numbers, target, first, 30).tolist() == expected


@pytest.mark.parametrize("count", [3, 4])
def test_chance_by_counting(count):
    """Catches: a chance that a rule which does not look ahead beats, or that counts results that are none."""
    task = Countdown(count, largest=20)
    columns = task.sample(np.random.default_rng(5), 500)
    shares = []
    for numbers, target in zip(columns["numbers"].tolist(), columns["target"].tolist(), strict=True):
        found = {}
        for result, *_, left in equations(numbers, 100):
            found[result] = found.get(result, False) or can_reach(left, target, 100)
        near = min(found, key=lambda result: abs(result - target))
        shares.append([np.mean([*found.values()]), found[near], found[min(found)], found[max(found)]])
    assert task.chance == pytest.approx(np.mean(shares, axis=0).max(), abs=4 * np.sqrt(0.25 / 500))
    assert task.decision_position("forward") == 1
    assert task.decision_position("reversed") == 0


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_detour_is_one_true_equation_that_leads_nowhere(count):
    """Catches: a detour that a solution begins with, that is false, or that is always the same."""
    task = Countdown(count)
    columns = task.block(0, "test", 0, rows=40)
    detours = task.detours(columns, np.random.default_rng(0))
    assert (detours[:, 5:] == -1).all()
    for row, numbers, target in zip(
        detours.tolist(), columns["numbers"].tolist(), columns["target"].tolist(), strict=True
    ):
        result, equals, a, sign, b = row[:5]
        ways = [way for way in equations(numbers, 100) if way[0] == result]
        assert (a, OPERATORS[sign - 101], b) in [way[1:4] for way in ways]
        assert equals == 105
        assert count == 5 or not any(can_reach(way[4], target, 100) for way in ways)
    assert (task.detours(columns, np.random.default_rng(1)) != detours).any()


# ---------------------------------------------------------------- planted models


@functools.cache
def ordered(numbers, bound):
    return sorted((way for way in equations(numbers, bound) if way[1] >= way[3]), key=lambda way: way[:4])


def looks_fine(task, numbers, target, shown, first):
    """The next symbol of a model that writes true equations over the numbers left, the last one false if it must; it
    begins with the result that `first(results, target)` picks."""
    for start in range(0, task.answer_length, 5):
        ways = ordered(tuple(numbers), task.bound)
        if len(numbers) == 2:
            a, b = sorted(numbers, reverse=True)
            ways = [way for way in ways if way[0] == target] or [(target, a, "-", b, [target])]
        elif start == 0 and not shown:
            return first([way[0] for way in ways], target)
        so_far = shown[start : start + 5]
        for way in ways:
            result, a, sign, b, left = way
            symbols = [result, task.bound + 5, a, task.bound + 1 + OPERATORS.index(sign), b]
            if symbols[: len(so_far)] == so_far:
                if len(so_far) < 5:
                    return symbols[len(so_far)]
                numbers = left
                break
        else:
            return 0
    return 0


def nearest(results, target):
    return min(results, key=lambda result: abs(result - target))


def blind(task, first=nearest):
    """The cheat: true equations without a look ahead."""

    def step(columns, shown, k):
        rows = zip(columns["numbers"].tolist(), columns["target"].tolist(), shown[:, : k - 1].tolist(), strict=True)
        return np.array([looks_fine(task, *row, first) for row in rows])

    return step


def solver(columns, shown, k):
    return columns["answer"][:, k - 1]


def test_who_plans_has_solved_it():
    """Catches: a solved task called anything else."""
    task = Countdown(3)
    found = diagnose(Stepwise(task, solver), task, task.block(0, "test", 0, rows=600))
    assert found["verdict"]["name"] == "solved"
    assert found["decision_token"]["accuracy"] == 1.0


@pytest.mark.parametrize("count", [3, 4])
def test_who_writes_true_equations_and_does_not_plan_is_found(count):
    """Catches: the cheat called undertrained or snowballing; early equations that look wrong; a failure that does not
    show in the last equation."""
    task = Countdown(count)
    found = diagnose(Stepwise(task, blind(task)), task, task.block(0, "test", 0, rows=600))
    assert found["verdict"]["name"] == "clever-hans + indecipherable token"
    assert found["decision_token"]["accuracy"] == pytest.approx(task.chance, abs=0.05)
    assert found["clever_hans"]["follow_rate"] > 0.9
    measured = found["forced_vs_free"]
    assert min(measured["forced_others"].values()) > 0.99
    last = range(5 * count - 9, 5 * count - 4)
    free = measured["free"]
    assert min(free[k] for k in free if k not in (1, *last)) == 1.0
    assert free[last[-1]] == measured["exact"] < 0.6
    assert "wrong first equation" in found["verdict"]["text"]


@pytest.mark.parametrize(
    "first",
    [lambda results, target: target, lambda results, target: max(results)],
    ids=["the target itself", "the largest"],
)
def test_who_guesses_worse_than_chance_is_undertrained(first):
    """Catches: a guess below the best blind rule called solved, memorised or a cheat."""
    task = Countdown(4)
    found = diagnose(Stepwise(task, blind(task, first)), task, task.block(0, "test", 0, rows=600))
    assert found["verdict"]["name"] == "undertrained"


def test_who_knows_train_by_heart_has_memorised():
    """Catches: a memoriser called Clever Hans, or solved."""
    task = Countdown(3)
    train, held_out = (task.block(0, split, 0, rows=600) for split in ("train", "test"))
    known, cheat = task.instance_hash(train), blind(task)

    def step(columns, shown, k):
        seen = np.isin(task.instance_hash(columns), known)
        return np.where(seen, columns["answer"][:, k - 1], cheat(columns, shown, k))

    assert diagnose(Stepwise(task, step), task, held_out, train)["verdict"]["name"] == "memorised"


def test_from_the_end_nothing_is_called_the_decision():
    """Catches: a Clever Hans in reversed order."""
    task = Countdown(3)
    predictor = Stepwise(task, solver)
    predictor.order = "reversed"
    found = diagnose(predictor, task, task.block(0, "test", 0, rows=200))
    assert found["decision_token"] is found["clever_hans"] is None


# ---------------------------------------------------------------- rows and splits


@pytest.mark.parametrize("count", [3, 4, 5])
def test_every_row_is_solved_by_its_answer(count):
    """Catches: numbers that are used twice or not at all, a false equation, another target (Python adds up)."""
    task = Countdown(count)
    texts = task.texts(columns := task.sample(np.random.default_rng(2), 300))
    for numbers, target, text in zip(
        columns["numbers"].tolist(), columns["target"].tolist(), texts["completion"].to_list(), strict=True
    ):
        left = list(numbers)
        for equation in text.removesuffix(" .").split(", "):
            result, a, sign, b = (part if part in OPERATORS else int(part) for part in equation.split() if part != "=")
            assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign] == result
            assert a >= b
            left.remove(a)
            left.remove(b)
            left.append(result)
        assert left == [target]


def test_numbers_operators_and_pairs_are_uniform():
    """Catches: a number, an operator or a pair that is drawn more often, or tied to its place."""
    drawn = Countdown(3, largest=4, bound=20).sample(np.random.default_rng(1), 100_000)
    assert_uniform((drawn["numbers"] - 1) @ [16, 4, 1], 64)
    some = (np.sort(drawn["numbers"], axis=1) == [2, 3, 4]).all(axis=1)  # only 4 / 2 is a quotient
    operator, result = drawn["answer"][some, 3] - 21, drawn["answer"][some, 0]
    assert_uniform(operator, 4)
    for sign, values in ((0, [5, 6, 7]), (2, [6, 8, 12])):
        assert_uniform(np.searchsorted(values, result[operator == sign]), 3)
    assert {*result[operator == 3].tolist()} == {2}


def test_all_problems_of_the_same_numbers_are_in_one_split():
    """Catches: a held-out target of numbers whose other targets train has; n that counts orders of the numbers."""
    task = Countdown(3)
    columns = columns_of(task, PROMPT + SOLUTION, "3,12,7|28:" + SOLUTION, "12,7,3|33:21 = 7 * 3, 33 = 21 + 12 .")
    assert len({*task.split_hash(columns).tolist()}) == 1
    same, turned, other = task.instance_hash(columns).tolist()
    assert same == turned != other
    assert task.split_hash(columns_of(task, "12,7,4|36:3 = 7 - 4, 36 = 12 * 3 ."))[0] != task.split_hash(columns)[0]
