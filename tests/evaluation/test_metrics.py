"""Counting right answers, against numbers worked out by hand."""

import numpy as np
import pytest

from nt_failures.evaluation.metrics import (
    Accuracies,
    Scored,
    Shares,
    count_problems,
    format_chance,
    format_percent,
    format_rounded,
    mean_guess,
    positions_of,
    wilson,
)

X = -100


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (50, 100, 0.4038, 0.5962),  # 1/2 -+ 1.96 / 103.84 * sqrt(25 + 0.96)
        (0, 10, 0.0, 0.2775),  # 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),  # 1 / 4.8415
        (9, 10, 0.5958, 0.9821),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(successes, n, low, high):
    """Catches: the normal interval (0/10 would give 0..0), one-sided z, a bound outside 0..1."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 200, 2000, 19_999])
def test_an_interval_ends_where_shares_do(n):
    """Catches: an end of 0.9999999999999999 on a card, where everything is right."""
    assert wilson(n, n)[1] == 1.0
    assert wilson(0, n)[0] == 0.0


def test_wilson_interval_of_another_level():
    """Catches: z left out of a term. 2.5758^2 = 6.6349; 6.6349 / 16.6349."""
    assert wilson(0, 10, z=2.575829) == pytest.approx((0.0, 0.3989), abs=5e-5)


def test_exact():
    """Catches: the filling counted as wrong, or a wrong token excused."""
    target = np.array([[1, 2, 3], [1, 2, X], [1, 2, X], [1, 2, 3]])
    predicted = np.array([[1, 2, 3], [1, 2, 9], [1, 9, X], [1, 2, X]])
    positions = np.where(target == X, X, [1, 2, 3])
    assert Scored.of_ids(predicted, target, positions).exact.tolist() == [True, True, False, False]


def test_right_positions_of_words():
    """Catches: positions counted from 0, an error that spreads to its neighbours."""
    target = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    predicted = np.array([[1, 2, 3], [1, 9, 3], [9, 2, 9]])
    positions = np.array([[1, 2, 3]] * 3)
    assert Scored.of_ids(predicted, target, positions).right.tolist() == [
        [True, True, True],
        [True, False, True],
        [False, True, False],
    ]


def test_right_positions_of_pieces():
    """A symbol is right when all its tokens are. Catches: token columns for symbols, commas counted with a symbol."""
    # 12,3,45 as 1 2 , 3 , 4 5 and 6,78 as 6 , 7 8, with the comma as token 0
    target = np.array([[1, 2, 0, 3, 0, 4, 5], [6, 0, 7, 8, X, X, X]])
    positions = np.array([[1, 1, 0, 2, 0, 3, 3], [1, 0, 2, 2, X, X, X]])
    wrong_piece = np.array([[1, 9, 0, 3, 0, 4, 9], [6, 0, 9, 8, X, X, X]])
    assert Scored.of_ids(wrong_piece, target, positions).right.tolist() == [[False, True, False], [True, False, False]]
    wrong_comma = np.array([[1, 2, 9, 3, 0, 4, 5], [6, 9, 7, 8, X, X, X]])
    found = Scored.of_ids(wrong_comma, target, positions)
    assert found.right.tolist() == found.has.tolist() == [[True, True, True], [True, True, False]]
    assert found.exact.tolist() == [False, False]


def test_right_positions_in_reversed_rows():
    """Positions name the symbol, wherever its tokens stand. Catches: columns for positions."""
    target = np.array([[5, 4, 0, 3, 0, 2, 1]])
    positions = np.array([[3, 3, 0, 2, 0, 1, 1]])
    predicted = np.array([[5, 9, 0, 3, 0, 2, 1]])
    assert Scored.of_ids(predicted, target, positions).right.tolist() == [[True, True, False]]


def test_a_position_that_a_row_lacks_is_never_right_and_not_counted():
    """Catches: an untrained model that is right at the last positions, because few answers have them; a share of all
    rows; an interval of more problems than have the position."""
    # Answers of 3, 2, 2 and 1 symbols; the first two rows pose the same problem.
    target = np.array([[1, 2, 3], [1, 2, X], [4, 5, X], [6, X, X]])
    positions = np.array([[1, 2, 3], [1, 2, X], [1, 2, X], [1, X, X]])
    predicted = np.array([[9, 9, 9], [1, 9, X], [4, 5, X], [6, X, X]])
    found = Scored.of_ids(predicted, target, positions)
    assert found.has.tolist() == [[True] * 3, [True, True, False], [True, True, False], [True, False, False]]
    assert found.right.tolist() == [[False] * 3, [True, False, False], [True, True, False], [True, False, False]]
    assert found.exact.tolist() == [False, False, True, True]
    shares = {1: 3 / 4, 2: 1 / 3, 3: 0.0}
    assert found.shares() == Shares(0.5, shares, {2: 3, 3: 1})
    assert found.shares(np.array([7, 7, 8, 9])) == Shares(0.5, shares, {2: 2, 3: 1})


def test_a_symbol_that_no_row_has_is_no_position():
    """Catches: a division by zero, nan in a JSON file, where position 3 of a longer task is in none of the rows."""
    answers = np.array([[4, 5, -1], [6, -1, -1]])
    found = Scored.of_symbols(np.array([[4, 5, -1], [6, 7, -1]]), answers)
    assert found.right.tolist() == [[True, True, False], [True, False, False]]
    assert found.exact.tolist() == [True, True]  # what stands behind the end is the judge's business
    assert found.shares() == Shares(1.0, {1: 1.0, 2: 1.0}, {2: 1})


JUDGED = {
    "correct": np.array([[True, True, True], [True, False, True], [False, True, True], [True, True, False]]),
    "exact": np.array([True, False, True, False]),
}


def test_what_a_judge_says_is_scored():
    """Catches: positions of an answer that is right, if not the only one, called wrong; positions behind the end of
    the right answer counted."""
    found = Scored.of_judge(JUDGED, np.array([3, 3, 3, 2]))
    assert found.exact.tolist() == [True, False, True, False]
    assert found.has.tolist() == [[True] * 3] * 3 + [[True, True, False]]
    assert found.right.tolist() == [[True] * 3, [True, False, True], [True] * 3, [True, True, False]]


def test_new_answers_are_counted_once():
    """Catches: a right answer of train, or a wrong one, counted as new; one that is written twice counted twice."""
    judged = {**JUDGED, "unseen": np.array([True, False, True, True]), "written": np.array([7, 7, 9, 7], np.uint64)}
    found = Scored.of_judge(judged, np.array([3, 3, 3, 3])).shares()
    assert (found.exact, found.unseen, found.creativity) == (0.5, 0.75, 0.5)
    names = Accuracies(4, None, found).named()
    assert (names["free/unseen"], names["free/creativity"]) == (0.75, 0.5)
    assert "free/unseen" not in Accuracies(4, None, Scored.of_judge(JUDGED, np.array([3] * 4)).shares()).named()


def test_first_errors_in_both_orders():
    """Catches: reversed answers read from the front, a position that a row lacks taken for its first error, a right
    answer that goes on too long called free of errors."""
    has = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    right = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    found = Scored(right, np.array([False, False, False, False, True]), has)
    assert found.first_errors("forward").tolist() == [2, 1, 1, 3, 0]
    assert found.first_errors("reversed").tolist() == [3, 4, 3, 3, 0]


def test_problems_and_guesses_are_counted():
    """Catches: rows counted for problems; the rounding of a mean in a chance that is the same in every row."""
    rows = np.array([True, True, False, True])
    assert (count_problems(None, rows), count_problems(np.array([5, 5, 6, 7]), rows)) == (3, 2)
    assert mean_guess(np.full(7, 0.1)) == 0.1 != np.full(7, 0.1).mean()
    assert mean_guess(np.array([0.5, 0.25])) == 0.375


def test_accuracies_and_their_names():
    """Catches: shares in percent, one decoding's numbers under another's name, position 10 before 2, a name read as
    another."""
    target, positions = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [1, 2]])
    forced = Scored.of_ids(target, target, positions).shares()
    free = Scored.of_ids(np.array([[1, 2], [3, 9]]), target, positions).shares()
    found = Accuracies(2, forced, free)
    assert found.named() == {
        "forced/exact": 1.0,
        "forced/position_1": 1.0,
        "forced/position_2": 1.0,
        "free/exact": 0.5,
        "free/position_1": 1.0,
        "free/position_2": 0.5,
    }
    assert {type(value) for value in found.named().values()} == {float}
    assert Accuracies.from_names({**found.named(), "loss": 1.0, "decision": 0.5}, 2) == found
    some = Accuracies(9, Shares(0.5, {1: 0.5, 2: 0.25}, {2: 4}), Shares(0.5, {1: 0.5, 2: 0.25}, {2: 4}), rows=12)
    assert some.named()["n/position_2"] == 4
    assert "n/position_1" not in some.named()
    assert Accuracies.from_names(some.named(), 9, 12) == some
    named = {"free/position_10": 0.1, "free/position_2": 0.2, "free/position_x": 3, "x/free/position_1": 4}
    assert list(positions_of(named, "free").items()) == [(2, 0.2), (10, 0.1)]


def test_symbols_are_scored_as_ids_are():
    """Catches: an answer that is exact though a symbol is missing, which reads as -1."""
    answers = np.array([[3, 1, 2], [3, 1, 2]])
    found = Scored.of_symbols(np.array([[3, 1, 2], [3, 1, -1]]), answers)
    assert found.right.tolist() == [[True] * 3, [True, True, False]]
    assert found.exact.tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.5, "50.0%"), (0.9984, "99.8%"), (0.9995, "99.95%"), (0.9999, "99.99%"), (0.99999, "99.99%")),
        *((1.0, "100.0%"), (0.0, "0.0%"), (0.00001, "0.01%"), (0.0004, "0.04%"), (0.0005, "0.1%")),
        *((0.9494, "94.9%"), (0.9497, "94.97%"), (0.94999, "94.99%"), (0.95, "95.0%")),
    ],
)
def test_shares_in_words(value, text):
    """Catches: 100 % for a model that errs once in 20,000, 0 % for one that is right once, 95 % for one that is not
    solved."""
    assert format_percent(value) == text


@pytest.mark.parametrize(
    ("value", "text", "whole"),
    [
        (0.5, "50.0%", "50%"),
        (0.04, "4.0%", "4%"),
        (0.001, "0.1%", "1 in 1,000"),
        (0.0004, "1 in 2,500", "1 in 2,500"),
        (0.0, "0.0%", "0%"),
    ],
)
def test_no_chance_is_called_nothing(value, text, whole):
    """Catches: a chance of 0.0 % at a decision that a guess can get right."""
    assert (format_chance(value), format_chance(value, 0)) == (text, whole)


@pytest.mark.parametrize(
    ("value", "text"), [(100, "100"), (149.7, "150"), (467_813, "470,000"), (0.01234, "0.012"), (2.84e12, "2.8e+12")]
)
def test_numbers_are_rounded_as_people_write_them(value, text):
    """Catches: a hundred written as 1e+02."""
    assert format_rounded(value) == text
