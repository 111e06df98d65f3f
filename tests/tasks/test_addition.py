"""Addition: sums by hand, its decision and chance by counting all sums, and the verdicts that planted adders get."""

import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise

from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.tasks.addition import Addition

LINE = "3,5,7+4,4,6=0,8,0,3"


def of(*sums):
    """Columns of sums such as "357+446"."""
    rows = [Addition(len(a)).parse(f"{','.join(a)}+{','.join(b)}=") for a, b in (each.split("+") for each in sums)]
    columns = {name: np.array([row[name] for row in rows]) for name in ("a", "b")}
    values = [sum(int("".join(map(str, row[name]))) for name in "ab") for row in rows]
    width = columns["a"].shape[1] + 1
    return columns | {"answer": np.array([[*map(int, f"{value:0{width}d}")] for value in values])}


def every_sum(digits):
    """Columns of all sums of two numbers of so many digits."""
    places = np.array([*itertools.product(range(10), repeat=2 * digits)], dtype=np.int32)
    a, b = places[:, :digits], places[:, digits:]
    weights = 10 ** np.arange(digits - 1, -1, -1)
    totals = (a + b) @ weights
    return {"a": a, "b": b, "answer": totals[:, None] // 10 ** np.arange(digits, -1, -1) % 10}


# ---------------------------------------------------------------- text and judge


def test_line_by_hand():
    """Catches: digits from the units on, a sum without its leading zero, a carry that is lost."""
    task = Addition(3)
    read = task.parse(LINE)
    assert read == {"a": [3, 5, 7], "b": [4, 4, 6], "answer": [0, 8, 0, 3]}
    assert task.parse("3,5,7+4,4,6=")["answer"] is None
    texts = task.texts({name: np.array([value]) for name, value in read.items()})
    assert texts["prompt"].to_list() == ["3,5,7+4,4,6="]
    assert texts["completion"].to_list() == ["0,8,0,3"]
    assert task.symbols == [*"0123456789", "+", "=", "$"]
    assert (task.config_name, task.answer_length) == ("digits3", 4)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_all_sums_are_right(digits):
    """Catches: a carry that goes one place too far, or stops at a row of nines."""
    task, columns = Addition(digits), every_sum(digits)
    texts = task.texts(columns)
    for prompt, completion in zip(texts["prompt"].to_list()[::7], texts["completion"].to_list()[::7], strict=True):
        a, b = prompt.replace(",", "").rstrip("=").split("+")
        assert int(completion.replace(",", "")) == int(a) + int(b)
    drawn = task.sample(np.random.default_rng(0), 2000)
    weights = 10 ** np.arange(digits, -1, -1)
    assert np.array_equal(drawn["answer"] @ weights, (drawn["a"] + drawn["b"]) @ weights[1:])


JUDGED = {
    "right": ([0, 8, 0, 3], [1, 1, 1, 1], True, 0),
    "the carry dropped": ([0, 7, 9, 3], [1, 0, 0, 1], False, 2),
    "the carry dropped, then right": ([0, 7, 0, 3], [1, 0, 1, 1], False, 2),
    "a wrong leading digit": ([1, 8, 0, 3], [0, 1, 1, 1], False, 1),
    "without the leading zero": ([8, 0, 3], [0, 0, 0, 0], False, 1),
    "the units first": ([3, 0, 8, 0], [0, 0, 0, 0], False, 1),
    "too short": ([0, 8, 0], [1, 1, 1, 0], False, 4),
    "too long": ([0, 8, 0, 3, 0], [1, 1, 1, 1], False, 5),
    "no digit": ([0, 8, -1, 3], [1, 1, 0, 1], False, 3),
    "a plus sign": ([0, 8, 10, 3], [1, 1, 0, 1], False, 3),
    "empty": ([], [0, 0, 0, 0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    answer, correct, exact, first_error = JUDGED[case]
    judged = Addition(3).judge(of("357+446"), [answer])
    assert judged["correct"].tolist() == [[bool(c) for c in correct]]
    assert (judged["exact"].tolist(), judged["first_error"].tolist()) == ([exact], [first_error])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "is no sum of two numbers of 3 digits"),
        ("3,5,7+4,4,6", "is no sum of two numbers"),
        ("357+446=", "is no sum of two numbers"),
        ("3,5+4,4=", "is no sum of two numbers of 3 digits"),
        ("3,5,7+4,4=", "is no sum of two numbers of 3 digits"),
        ("3,5,\u0667+4,4,6=", "is no sum of two numbers"),
        ("3,5,7+4,4,6=0,7,9,3", r"is wrong; it is \[0, 8, 0, 3\]"),
        ("3,5,7+4,4,6=8,0,3", r"is wrong; it is \[0, 8, 0, 3\]"),
    ],
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        Addition(3).parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,+= "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind on text that a model made up."""
    try:
        row = Addition(1).parse(text)
    except ValueError:
        return
    assert len(row["a"]) == len(row["b"]) == 1


@pytest.mark.parametrize("digits", [0, -1, True, "3", 2.0, 10**6])
def test_bad_sizes(digits):
    """Catches: a size that fails only while rows are drawn, or an error without a way out."""
    with pytest.raises(ValueError, match="digits="):
        Addition(digits)


# ---------------------------------------------------------------- the decision


HEADS = {  # position of the decision, the carry dropped or invented
    "357+446": (2, [0, 7, 9, 3]),  # 5+4 hands the carry of 7+6 on
    "352+446": (2, [0, 8, 0, 8]),  # and none of 2+6
    "957+046": (1, [0, 9, 9, 3]),  # both 9+0 and 5+4 do
    "954+045": (1, [1, 0, 0, 0]),  # nines down to the units: no carry
    "917+046": (1, [1, 0, 6, 3]),  # only 9+0, behind it 1+4
    "354+145": (2, [0, 5, 0, 0]),
    "350+131": (0, None),  # no nine
    "353+136": (0, None),  # units alone: nothing is behind them
}


@pytest.mark.parametrize("text", HEADS)
def test_decision_and_detour_by_hand(text):
    """Catches: a decision at the nine itself, at units whose carry is known, or for a carry that shows in the next
    pair; a detour that does not follow the nines, or goes beyond them."""
    task, columns = Addition(3), of(text)
    position, detour = HEADS[text]
    assert task.decisions(columns, "forward").tolist() == [position]
    assert task.decisions(columns, "reversed").tolist() == [0]
    found = task.detours(columns, np.random.default_rng(0)).tolist()
    assert found == [detour] if position else found == columns["answer"].tolist()


@pytest.mark.parametrize("digits", [2, 3])
def test_a_detour_is_the_sum_with_one_carry_more_or_less(digits):
    """Catches: a wrong start that no carry explains."""
    task, columns = Addition(digits), every_sum(digits)
    weights = 10 ** np.arange(digits, -1, -1)
    away = np.abs((task.detours(columns, np.random.default_rng(0)) - columns["answer"]) @ weights)
    nine = columns["a"] + columns["b"] == 9
    for decision, apart, row in zip(
        task.decisions(columns, "forward").tolist(), away.tolist(), nine.tolist(), strict=True
    ):
        behind = next((k for k in range(decision, digits) if not row[k]), digits)
        assert apart == (10 ** (digits - behind) if decision else 0)


@pytest.mark.parametrize("digits", [2, 3])
def test_chance_is_that_of_the_best_guesser_who_looks_ahead_by_one_digit(digits):
    """Catches: a chance that is wrong, or beaten by the digits that the guesser may see: its own two, those behind them
    and what is shown of the sum."""
    task, columns = Addition(digits), every_sum(digits)
    decisions, guess = task.decisions(columns, "forward"), task.guess(columns, "forward")
    counts = {}
    for row in range(len(decisions)):
        if (k := decisions[row]) > 0:
            a, b, answer = (columns[name][row].tolist() for name in ("a", "b", "answer"))
            seen = (k, *answer[: k - 1], *a[max(k - 2, 0) : k], *b[max(k - 2, 0) : k])
            counts.setdefault(seen, {}).setdefault(answer[k - 1], []).append(guess[row])
    best = sum(max(map(len, found.values())) for found in counts.values())
    decided = guess[decisions > 0]
    assert best / len(decided) == pytest.approx(task.chance, abs=1e-12)
    assert decided.mean() == pytest.approx(task.chance, abs=1e-12)
    for found in counts.values():
        n = sum(map(len, found.values()))
        assert max(map(len, found.values())) / n == pytest.approx(sum(map(sum, found.values())) / n, abs=1e-12)
    assert (guess[decisions == 0] == 1).all()


BY_SPLIT = {"train": 410 / 720, "validation": 1 / 2, "test": 1 / 2}
"""Of two digits: 310 sums without a carry and 310 with one, and the 100 of nines alone, all of them in train."""


@pytest.mark.parametrize("split", BY_SPLIT)
@pytest.mark.parametrize("digits", [2, 3])
def test_chance_of_a_split_is_that_of_its_rows(digits, split):
    """Catches: the chance of all sums, 55 %, in a split whose nines never go on to the units."""
    task, columns = Addition(digits), every_sum(digits)
    kept = (task.split_of(columns) == split) & (task.decisions(columns, "forward") > 0)
    columns = {name: column[kept] for name, column in columns.items()}
    guess = task.guess(columns, "forward")
    assert guess.mean() == pytest.approx(1 - _carries(task, columns).mean(), abs=1e-12)
    if digits == 2:
        assert guess.mean() == pytest.approx(BY_SPLIT[split], abs=1e-12)


def test_chance_by_hand():
    """Catches: a chance of one half for nines that may go on to the units."""
    assert Addition(1).chance == 1
    assert Addition(2).chance == pytest.approx(0.55)  # 45 of 100 pairs of units carry
    assert Addition(3).chance == pytest.approx((0.505 + 0.9 * 0.55) / 1.9)
    assert 0.5 < Addition(8).chance < 0.51


# ---------------------------------------------------------------- planted adders


def pairs(columns):
    """(n, K): what the two digits at each place add up to."""
    return np.asarray(columns["a"]) + np.asarray(columns["b"])


def adder(columns, shown, k):
    """Solved: works every digit out from the prompt."""
    return columns["answer"][:, k - 1]


def rippler(columns, shown, k):
    """Solved, too, but reads the carries of nines off what is shown: a detour leads it astray."""
    own, _ = _around(columns, k)
    return np.where(own == 9, _digit(own, _carried(columns, shown, k)), columns["answer"][:, k - 1])


def cheat(columns, shown, k, carries=0):
    """Clever Hans: adds up two digits and the carry of the next pair; behind nines, it reads the carry off the digit
    before, and where none tells it guesses `carries`."""
    own, behind = _around(columns, k)
    carry = np.where(behind > 9, 1, 0)
    if 1 <= k < columns["answer"].shape[1] - 1:
        carry = np.where(behind == 9, carries, carry)
    if k > 1:
        carry = np.where(own == 9, _carried(columns, shown, k), carry)
    return _digit(own, carry)


def no_carries(columns, shown, k):
    """Undertrained: each pair alone."""
    return _digit(_around(columns, k)[0], 0)


def _around(columns, k):
    """What the pair above position k adds up to, and the one behind it; 0 where there is none."""
    padded = np.pad(pairs(columns), ((0, 0), (1, 1)))
    return padded[:, k - 1], padded[:, k]


def _carried(columns, shown, k):
    """The carry that the digit before position k, at least 2, must have got."""
    return (shown[:, k - 2] - _around(columns, k - 1)[0]) % 10


def _digit(pair, carry):
    return (pair + carry) % 10


def coin(columns):
    """0 or 1 a row, the same whenever the same sum is asked."""
    return (Addition(columns["a"].shape[1]).instance_hash(columns) & np.uint64(1)).astype(int)


@pytest.mark.parametrize("digits", [2, 3, 4, 8])
def test_the_cheat_is_found(digits):
    """Catches: a model that never looks behind nines called solved (91 % of 3-digit sums are right), undertrained or
    snowballing; a wrong carry that is not followed, or not seen to be."""
    task = Addition(digits)
    columns = task.block(0, "test", 0)
    found = diagnose(Stepwise(task, lambda *args: cheat(*args, carries=coin(args[0]))), task, columns)
    assert found["verdict"]["name"] == "clever-hans + indecipherable token"
    assert found["clever_hans"]["follow_rate"] == 1.0
    assert found["clever_hans"]["last_position"]["free"]["wrong_arm"] < 0.1
    if digits < 4:  # of longer sums, some have two rows of nines
        assert set(found["forced_vs_free"]["forced_others"].values()) == {1.0}
        assert found["forced_vs_free"]["first_error_at_decision"] == 1.0
    assert "wrong carry" in found["verdict"]["text"]


def test_no_carry_is_the_best_guess():
    """Catches: a chance that the best blind guess beats, or falls short of."""
    task = Addition(3)
    columns = {k: np.concatenate([task.block(0, "test", i)[k] for i in range(3)]) for k in ("a", "b", "answer")}
    found = diagnose(Stepwise(task, cheat), task, columns)
    assert found["verdict"]["name"] == "clever-hans + indecipherable token"
    assert found["decision_token"]["accuracy"] == pytest.approx(task.chance, abs=0.03)


@pytest.mark.parametrize("step", [adder, rippler])
def test_who_adds_up_has_solved_it(step):
    """Catches: a solved task called a failure, because a wrong carry is followed."""
    task = Addition(3)
    found = diagnose(Stepwise(task, step), task, task.block(0, "test", 0))
    assert found["verdict"]["name"] == "solved"
    assert found["decision_token"]["accuracy"] == 1.0
    assert found["clever_hans"]["jump_rate" if step is adder else "follow_rate"] > 0.9


def test_who_adds_each_pair_alone_is_undertrained():
    """Catches: missing carries of the next pair, which is no plan, taken for a failure to plan."""
    task = Addition(3)
    found = diagnose(Stepwise(task, no_carries), task, task.block(0, "test", 0))
    assert found["verdict"]["name"] == "undertrained"


def test_who_knows_train_by_heart_has_memorised():
    """Catches: a memoriser called Clever Hans, or solved."""
    task = Addition(3)
    train, held_out = task.block(0, "train", 0), task.block(0, "test", 0)
    known = task.instance_hash(train)

    def step(columns, shown, k):
        return np.where(
            np.isin(task.instance_hash(columns), known), columns["answer"][:, k - 1], cheat(columns, shown, k)
        )

    assert diagnose(Stepwise(task, step), task, held_out, train)["verdict"]["name"] == "memorised"


def test_the_units_first_leave_nothing_to_decide():
    """Catches: a Clever Hans in reversed order, where every carry is known before it is needed."""
    task = Addition(3)
    columns = task.block(0, "test", 0)
    predictor = Stepwise(task, cheat)
    predictor.order = "reversed"
    found = diagnose(predictor, task, columns)
    assert found["decision_token"] is found["clever_hans"] is None
    assert found["verdict"]["name"] in ("snowballing", "undertrained")


# ---------------------------------------------------------------- rows and splits


def test_digits_are_uniform():
    """Catches: numbers without leading zeros, digits tied to one another."""
    drawn = Addition(2).sample(np.random.default_rng(1), 60_000)
    assert_uniform(drawn["a"] @ [1000, 100] + drawn["b"] @ [10, 1], 10_000)


def test_a_sum_is_one_problem_whichever_number_stands_first():
    """Catches: b+a in test for a+b in train; n that counts both; different sums taken for one."""
    task = Addition(3)
    one, turned, other, same = (of(text) for text in ("357+446", "446+357", "356+447", "456+347"))
    for hash_of in (task.instance_hash, task.split_hash):
        assert hash_of(one) == hash_of(turned)
    assert len({int(task.instance_hash(each)[0]) for each in (one, other, same)}) == 3
    assert len({*task.instance_hash(every_sum(2)).tolist()}) == Addition(2).num_problems == 5050


def test_sums_that_add_up_alike_are_in_one_split():
    """Catches: a split by the two numbers alone, after which a table of sums of pairs, 7 12 9, holds the result."""
    task = Addition(3)
    alike = of("357+446", "356+447", "447+356", "448+355", "266+537", "277+526")
    assert [*map(sum, zip(*(alike[name][0].tolist() for name in "ab"), strict=True))] == [7, 9, 13]
    assert len({*task.split_hash({k: v[:4] for k, v in alike.items()}).tolist()}) == 1
    mirrored = of("642+553")  # 11 9 5
    assert task.split_hash(mirrored) == task.split_hash(alike)[:1]
    assert len({*task.split_hash(every_sum(2)).tolist()}) == 100


REMEMBERED = {
    "what each pair adds up to": lambda c: pairs(c),
    "all but the pair behind the nines": lambda c: np.where(behind(c), -1, pairs(c)),
    "the digits, but not of the pair behind the nines": lambda c: np.stack(
        [np.where(behind(c), -1, np.sort(np.stack([c["a"], c["b"]]), axis=0)[i]) for i in (0, 1)], axis=2
    ),
    "the first number": lambda c: np.where(behind(c), -1, c["a"]),
    "the leading digits": lambda c: np.stack([c["a"][:, 0], c["b"][:, 0]], axis=1),
}
"""What a memoriser looks the carry up by: nothing that shows the pair behind the nines, unless it is held out."""


def behind(columns):
    """(n, K) bool: the pair behind the first row of nines."""
    task = Addition(columns["a"].shape[1])
    return np.arange(task.digits) == (task.clue(columns).places % task.digits)[:, None]


@pytest.mark.parametrize("digits", [3, 4])
@pytest.mark.parametrize("remembered", REMEMBERED)
def test_memory_of_train_is_at_chance_held_out(digits, remembered):
    """Catches: splits after which train tells the carry of held-out sums: by the two numbers alone (what each pair adds
    up to is then found in train), or without the mirror image (all but the pair behind the nines: the held-out one is
    missing)."""
    task = Addition(digits)
    train, test = (_decided(task, split) for split in ("train", "test"))
    votes = {}
    for key, carry in zip(_keys(remembered, train), _carries(task, train), strict=True):
        votes.setdefault(key, []).append(carry)
    rng = np.random.default_rng(0)
    found = [np.mean(votes.get(key, [0.5])) for key in _keys(remembered, test)]
    guess = np.where(np.array(found) == 0.5, rng.random(len(found)) < 0.5, np.array(found) > 0.5)
    right = guess == _carries(task, test)
    _, unit = np.unique(task.split_hash(test), return_inverse=True)
    sigma = np.sqrt((np.bincount(unit, weights=right - 0.5) ** 2).sum()) / len(right)
    assert abs(right.mean() - 0.5) < 4 * sigma, (right.mean(), sigma)
    assert sigma < 0.06


def _decided(task, split):
    """Rows whose first nines end before the units, where a carry is as likely as none."""
    blocks = [task.block(0, split, index) for index in range(8)]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    _, end = task._nines(columns)
    kept = (task.decisions(columns, "forward") > 0) & (end < task.digits)
    return {name: column[kept] for name, column in columns.items()}


def _carries(task, columns):
    """Whether a carry comes from behind the nines."""
    first, _ = task._nines(columns)
    return columns["answer"][np.arange(len(first)), first + 1] == 0


def _keys(remembered, columns):
    first, _ = Addition(columns["a"].shape[1])._nines(columns)
    keys = REMEMBERED[remembered](columns).reshape(len(first), -1)
    return [tuple(row) for row in np.column_stack([first, keys]).tolist()]


def test_two_digits_have_few_groups():
    """Catches: a test split of two digits in which nothing is decided, unnoticed; 100 groups are few."""
    task = Addition(2)
    for split in ("train", "validation", "test"):
        columns = task.block(0, split, 0)
        assert 0.05 < (task.decisions(columns, "forward") > 0).mean() < 0.2, split
