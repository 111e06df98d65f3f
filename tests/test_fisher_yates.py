"""Drawing distinct numbers for many rows at once: the same numbers as one by one."""

import numpy as np
import pytest

from nt_failures.tasks import _fisher_yates
from nt_failures.tasks._fisher_yates import distinct, draws, shuffle, slices
from nt_failures.tasks.path_star import PathStar


def picks(bits, high):
    sizes = np.arange(high, high - len(bits), -1, dtype=np.uint64)
    return bits.astype(np.uint64) * sizes[:, None] >> np.uint64(32)


@pytest.mark.parametrize(("high", "k"), [(2, 1), (8, 8 - 1), (50, 9), (65536, 3), (3 * 10**9, 4), (2**32 - 5, 2)])
def test_picks_are_numpys(high, k):
    """Catches: another stream of numbers, and the numbers that NumPy draws again, a quarter of them where high is 3e9."""
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    expected = [theirs.integers(0, high - j, size=200, dtype=np.uint32) for j in range(k)]
    assert np.array_equal(picks(draws(ours, 200, high, k), high), expected)
    assert ours.bit_generator.state == theirs.bit_generator.state


def one_by_one(bits, high):
    """Fisher-Yates as everybody knows it, for one column."""
    pool = list(range(high))
    for j, number in enumerate(bits.tolist()):
        other = j + (number * (high - j) >> 32)
        pool[j], pool[other] = pool[other], pool[j]
    return pool


def test_shuffle_swaps_each_column_on_its_own():
    """Catches: a swap that reads what it has just written, an entry taken from a neighbour's column."""
    bits = draws(np.random.default_rng(1), 30, 7, 6)
    pool = np.repeat(np.arange(7, dtype=np.uint16)[:, None], 30, axis=1)
    shuffle(pool, bits)
    assert pool.T.tolist() == [one_by_one(column, 7) for column in bits.T]


@pytest.mark.parametrize(("high", "k"), [(40, 40), (40, 9), (9, 2), (12, 2), (33, 4), (1, 1)])
def test_with_and_without_a_pool(high, k):
    """Catches: the way without a pool, taken where 2 * k**2 < high, forgetting what an earlier draw moved."""
    found = distinct(np.random.default_rng(3), 500, high, k)
    bits = draws(np.random.default_rng(3), 500, high, min(k, high - 1))
    assert found.dtype == np.uint16
    assert found.T.tolist() == [one_by_one(column, high)[:k] for column in bits.T]


def test_parts_of_any_size_are_the_same(monkeypatch):
    """Catches: rows that depend on how many fit into the cache."""
    task = PathStar(3, 4, 20)
    whole = task.sample(np.random.default_rng(0), 100)
    monkeypatch.setattr(_fisher_yates, "_POOL_BYTES", 600)
    assert len(slices(100, 40)) == 7
    for name, column in task.sample(np.random.default_rng(0), 100).items():
        assert np.array_equal(column, whole[name])
