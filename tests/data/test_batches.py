"""Padding into prefix | target: whole tensors by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nt_failures.data.batches import IGNORE, join, layout, position_ids, reverse_rows

X = IGNORE
PAD = 14
EQUAL = [{"prefix_ids": [1, 2, 3], "target_ids": [7, 8, 9]}, {"prefix_ids": [4, 5, 6], "target_ids": [10, 11, 12]}]
RAGGED = [{"prefix_ids": [1, 2, 3], "target_ids": [7, 8]}, {"prefix_ids": [4, 5], "target_ids": [10, 11, 12]}]


def check(parts, **expected):
    """Every tensor of `parts` is as written, and there is no other."""
    assert {name: tensor.tolist() for name, tensor in parts.items()} == expected
    assert {tensor.dtype for tensor in parts.values()} == {torch.int64}


def test_equal_lengths():
    """Catches: padding where none is needed, positions counted from 0."""
    check(
        layout(EQUAL, PAD),
        prefix_ids=[[1, 2, 3], [4, 5, 6]],
        prefix_mask=[[1, 1, 1], [1, 1, 1]],
        target_ids=[[7, 8, 9], [10, 11, 12]],
        target_positions=[[1, 2, 3], [1, 2, 3]],
    )


def test_ragged_lengths():
    """Catches: prefixes padded on the right, targets on the left, targets filled up with a real id."""
    check(
        layout(RAGGED, PAD),
        prefix_ids=[[1, 2, 3], [PAD, 4, 5]],
        prefix_mask=[[1, 1, 1], [0, 1, 1]],
        target_ids=[[7, 8, X], [10, 11, 12]],
        target_positions=[[1, 2, X], [1, 2, 3]],
    )


def test_reversed():
    """Catches: the filling reversed to the front, the prefix reversed too, positions left in the task's order."""
    check(
        layout(RAGGED, PAD, reverse=True),
        prefix_ids=[[1, 2, 3], [PAD, 4, 5]],
        prefix_mask=[[1, 1, 1], [0, 1, 1]],
        target_ids=[[8, 7, X], [12, 11, 10]],
        target_positions=[[2, 1, X], [3, 2, 1]],
    )


def test_positions_of_the_rows_are_kept():
    """Catches: positions counted in tokens although the tokenizer spends two on a symbol, or some on commas."""
    rows = [
        {"prefix_ids": [1], "target_ids": [3, 4, 9, 5], "target_positions": [1, 1, 0, 2]},
        {"prefix_ids": [1], "target_ids": [3, 9, 5], "target_positions": [1, 0, 2]},
    ]
    assert layout(rows, PAD)["target_positions"].tolist() == [[1, 1, 0, 2], [1, 0, 2, X]]
    assert layout(rows, PAD, reverse=True)["target_positions"].tolist() == [[2, 0, 1, 1], [2, 0, 1, X]]
    assert layout(rows, PAD, reverse=True)["target_ids"].tolist() == [[5, 9, 4, 3], [5, 9, 3, X]]


def test_join():
    """Catches: labels on the prefix, -100 as an input id, a mask over the filling, positions that count padding."""
    parts = layout(RAGGED, PAD)
    shown = torch.tensor([[13, 8, 13], [13, 11, 12]])
    labels = torch.tensor([[7, X, X], [X, 11, 12]])
    check(
        join(parts, shown, labels, PAD),
        input_ids=[[1, 2, 3, 13, 8, PAD], [PAD, 4, 5, 13, 11, 12]],
        attention_mask=[[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]],
        labels=[[X, X, X, 7, X, X], [X, X, X, X, 11, 12]],
        position_ids=[[0, 1, 2, 3, 4, 4], [0, 0, 1, 2, 3, 4]],
    )


def test_position_ids():
    """Catches: positions that start at the padding, negative ones, ones that run on behind the row."""
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 1, 2, 2]]


@given(st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_reversing_rows(rows):
    """Catches: a flip of the whole width, an off-by-one in the row's length, a row that does not come back when it is
    reversed twice."""
    width = max(len(row) for row in rows)
    filled = torch.tensor([row + [X] * (width - len(row)) for row in rows], dtype=torch.int64)
    expected = [row[::-1] + [X] * (width - len(row)) for row in rows]
    once = reverse_rows(filled, filled)
    assert once.tolist() == expected
    assert torch.equal(reverse_rows(once, once), filled)


def test_the_end_stays_at_the_end_of_a_reversed_row():
    """Catches: an answer that begins with its end when it is written backwards, so that no model has to find out where
    to stop; what belongs to the tokens turned round otherwise than the tokens."""
    # Answers of 3, 2, 1 and 0 symbols, each filled up with the end, token 9, to one more than the longest.
    target = torch.tensor([[1, 2, 3, 9], [4, 5, 9, 9], [6, 9, 9, 9], [9, 9, X, X]])
    positions = torch.tensor([[1, 2, 3, 0], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, X, X]])
    turned = reverse_rows(target, target, 9)
    assert turned.tolist() == [[3, 2, 1, 9], [5, 4, 9, 9], [6, 9, 9, 9], [9, 9, X, X]]
    assert reverse_rows(positions, target, 9).tolist() == [[3, 2, 1, 0], [2, 1, 0, 0], [1, 0, 0, 0], [0, 0, X, X]]
    assert torch.equal(reverse_rows(turned, turned, 9), target)
    assert reverse_rows(target, target).tolist()[0] == [9, 3, 2, 1]  # a tokenizer that knows no such token


def test_reversed_with_an_end():
    """Catches: a layout that knows no end token, or turns positions round without it."""
    rows = [
        {"prefix_ids": [1], "target_ids": [7, 8, 5, 5], "target_positions": [1, 2, 0, 0]},
        {"prefix_ids": [1], "target_ids": [7, 8, 6, 5], "target_positions": [1, 2, 3, 0]},
    ]
    found = layout(rows, PAD, reverse=True, end_token_id=5)
    assert found["target_ids"].tolist() == [[8, 7, 5, 5], [6, 8, 7, 5]]
    assert found["target_positions"].tolist() == [[2, 1, 0, 0], [3, 2, 1, 0]]
    assert layout(rows, PAD, end_token_id=5)["target_ids"].tolist() == [[7, 8, 5, 5], [7, 8, 6, 5]]


def test_a_target_with_the_end_token_in_its_middle():
    """Catches: `3.14` in reversed order trained as `3.14`, where the tokenizer knows the `.` that ends our answers."""
    rows = [{"prefix_ids": [1], "target_ids": [7, 8]}, {"prefix_ids": [1], "target_ids": [7, 5, 8, 6]}]
    with pytest.raises(ValueError, match=r"goes on behind the token 5, .* build the objective with end_token_id=None"):
        layout(rows, PAD, reverse=True, end_token_id=5)
    assert layout(rows, PAD, reverse=True)["target_ids"].tolist() == [[8, 7, X, X], [6, 8, 5, 7]]
    assert layout(rows, PAD, end_token_id=5)["target_ids"].tolist() == [[7, 8, X, X], [7, 5, 8, 6]]


def test_errors_say_what_is_missing():
    """Catches: an obscure failure of max() or of a tensor shape, far from the cause."""
    with pytest.raises(ValueError, match="at least one example"):
        layout([], PAD)
    with pytest.raises(ValueError, match=r"no \['target_ids'\].*remove_unused_columns=False"):
        layout([{"prefix_ids": [1], "completion": "3"}], PAD)
    with pytest.raises(ValueError, match="an example has no prefix_ids"):
        layout([{"prefix_ids": [], "target_ids": [1]}, {"prefix_ids": [1], "target_ids": [1]}], PAD)
    with pytest.raises(ValueError, match="an example has no target_ids"):
        layout([{"prefix_ids": [1], "target_ids": []}, {"prefix_ids": [1], "target_ids": [1]}], PAD)
    with pytest.raises(ValueError, match="an example has no"):
        layout([{"prefix_ids": [], "target_ids": []}], PAD)
