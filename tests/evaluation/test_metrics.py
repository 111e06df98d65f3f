"""Counting right answers, against numbers worked out by hand."""

import numpy as np
import pytest

from nt_failures.evaluation.metrics import exact, format_percent, path_metrics, right_positions, wilson

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
    assert exact(predicted, target).tolist() == [True, True, False, False]


def test_right_positions_of_words():
    """Catches: positions counted from 0, an error that spreads to its neighbours."""
    target = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    predicted = np.array([[1, 2, 3], [1, 9, 3], [9, 2, 9]])
    positions = np.array([[1, 2, 3]] * 3)
    assert right_positions(predicted, target, positions).tolist() == [
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
    assert right_positions(wrong_piece, target, positions).tolist() == [[False, True, False], [True, False, True]]
    wrong_comma = np.array([[1, 2, 9, 3, 0, 4, 5], [6, 9, 7, 8, X, X, X]])
    assert right_positions(wrong_comma, target, positions).all()
    assert exact(wrong_comma, target).tolist() == [False, False]


def test_right_positions_in_reversed_rows():
    """Positions name the symbol, wherever its tokens stand. Catches: columns for positions."""
    target = np.array([[5, 4, 0, 3, 0, 2, 1]])
    positions = np.array([[3, 3, 0, 2, 0, 1, 1]])
    predicted = np.array([[5, 9, 0, 3, 0, 2, 1]])
    assert right_positions(predicted, target, positions).tolist() == [[True, True, False]]


def test_path_metrics():
    """Catches: shares in percent, one way's numbers under another's name."""
    target, positions = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [1, 2]])
    metrics = path_metrics({"forced": target, "free": np.array([[1, 2], [3, 9]])}, target, positions)
    assert metrics == {
        "forced/exact": 1.0,
        "forced/position_1": 1.0,
        "forced/position_2": 1.0,
        "free/exact": 0.5,
        "free/position_1": 1.0,
        "free/position_2": 0.5,
    }
    assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "50.0%"), (0.9984, "99.8%"), (0.9995, "99.95%"), (0.9999, "99.99%"), (1.0, "100.0%"), (0.0, "0.0%")],
)
def test_shares_in_words(value, text):
    """Catches: 100 % for a model that still errs."""
    assert format_percent(value) == text
