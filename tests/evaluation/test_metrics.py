"""Counting right answers, against numbers worked out by hand."""

import numpy as np
import pytest

from nt_failures.evaluation.metrics import Accuracies, Scored, format_percent, positions_of, wilson

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
    assert Scored.of_ids(wrong_piece, target, positions).right.tolist() == [[False, True, False], [True, False, True]]
    wrong_comma = np.array([[1, 2, 9, 3, 0, 4, 5], [6, 9, 7, 8, X, X, X]])
    assert Scored.of_ids(wrong_comma, target, positions).right.all()
    assert Scored.of_ids(wrong_comma, target, positions).exact.tolist() == [False, False]


def test_right_positions_in_reversed_rows():
    """Positions name the symbol, wherever its tokens stand. Catches: columns for positions."""
    target = np.array([[5, 4, 0, 3, 0, 2, 1]])
    positions = np.array([[3, 3, 0, 2, 0, 1, 1]])
    predicted = np.array([[5, 9, 0, 3, 0, 2, 1]])
    assert Scored.of_ids(predicted, target, positions).right.tolist() == [[True, True, False]]


def test_accuracies_and_their_names():
    """Catches: shares in percent, one decoding's numbers under another's name, position 10 before 2, a name read as
    another."""
    target, positions = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [1, 2]])
    forced = Scored.of_ids(target, target, positions).shares
    free = Scored.of_ids(np.array([[1, 2], [3, 9]]), target, positions).shares
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
    [(0.5, "50.0%"), (0.9984, "99.8%"), (0.9995, "99.95%"), (0.9999, "99.99%"), (1.0, "100.0%"), (0.0, "0.0%")],
)
def test_shares_in_words(value, text):
    """Catches: 100 % for a model that still errs."""
    assert format_percent(value) == text
