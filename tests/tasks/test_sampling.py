"""Drawing distinct numbers and orders for many instances at once: the same as one by one."""

import numpy as np
import pytest

from nt_failures.tasks import _sampling
from nt_failures.tasks._sampling import distinct, in_random_order


def one_by_one(picks, high):
    """Fisher-Yates as everybody knows it, for one column."""
    pool = list(range(high))
    for j, pick in enumerate(picks):
        pool[j], pool[j + pick] = pool[j + pick], pool[j]
    return pool


def columns_of_picks(seed, n, high, k):
    """What NumPy draws for each instance: k numbers below high, high - 1, ..."""
    rng = np.random.default_rng(seed)
    return np.reshape([rng.integers(0, high - j, n, dtype=np.uint32) for j in range(k)], (k, n)).T.tolist()


@pytest.mark.parametrize(("high", "k"), [(40, 40), (40, 9), (9, 2), (33, 4), (1, 1), (257, 17)])
@pytest.mark.parametrize("size", [1, 2400, 2**21])
def test_distinct_numbers(high, k, size, monkeypatch):
    """Catches: a number twice, an entry of a neighbour's column, numbers that depend on how many fit into the
    memory."""
    monkeypatch.setattr(_sampling, "_POOL_BYTES", size)
    found = distinct(np.random.default_rng(3), 50, high, k)
    drawn = columns_of_picks(3, 50, high, min(k, high - 1))
    assert found.T.tolist() == [one_by_one(picks, high)[:k] for picks in drawn]


@pytest.mark.parametrize(("high", "k"), [(37, 3), (101, 5), (5, 1), (2**20, 9)])
def test_few_of_many_numbers(high, k):
    """Catches: other numbers for few draws than the shuffle of the whole pool gives, a number that comes back because
    an entry was moved away from its place, or was moved twice; a million labels for every row in the memory."""
    assert 4 * k * k < high
    for seed in range(20):
        found = distinct(np.random.default_rng(seed), 40, high, k)
        assert found.shape == (k, 40)
        assert found.dtype == np.int32
        drawn = columns_of_picks(seed, 40, high, k)
        pools = [one_by_one(picks, high)[:k] for picks in (drawn if high < 1000 else drawn[:1])]
        assert found.T.tolist()[: len(pools)] == pools
        assert all(len({*column}) == k for column in found.T.tolist())


def test_entries_that_were_moved_are_found_again(monkeypatch):
    """Catches: a draw from a place whose entry an earlier draw has moved there, taken for the place's own number."""
    # Of 0..36: 0 and 5 swap, so 5 stands first; place 5 now has 0. Draw 1 takes place 5: 0. Draw 2 takes place 5: 1.
    picks = iter([5, 4, 3])
    monkeypatch.setattr(_sampling, "_picks", lambda rng, n, high, k: [np.array([next(picks)]) for _ in range(k)])
    assert distinct(np.random.default_rng(0), 1, 37, 3).T.tolist() == [[5, 0, 1]]


@pytest.mark.parametrize(("k", "n"), [(7, 30), (1, 3), (4, 0)])
@pytest.mark.parametrize("first", [(0, 1000), (0, 2**16), (2**16, 0)])
def test_each_column_has_an_order_of_its_own(k, n, first):
    """Catches: a swap that reads what it has just written, one order for all columns, tails with heads of others,
    labels that are cut to 16 bits."""
    edges = np.arange(k * n, dtype=np.int32).reshape(k, n)
    found = in_random_order(np.random.default_rng(1), edges + first[0], edges + first[1]) - first
    orders = [one_by_one(picks, k) for picks in columns_of_picks(1, n, k, k - 1)]
    assert found[:, :, 0].tolist() == [[place * n + i for place in order] for i, order in enumerate(orders)]
    assert (found[:, :, 1] == found[:, :, 0]).all()


def test_the_generator_goes_on_where_it_ends():
    """Catches: numbers drawn that are not used, by which the next instances would differ."""
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    distinct(ours, 20, 50, 4)
    for j in range(4):
        theirs.integers(0, 50 - j, 20, dtype=np.uint32)
    assert ours.random() == theirs.random()
