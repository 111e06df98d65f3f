"""Drawing distinct numbers for many rows at once: the same numbers as one by one."""

import numpy as np
import pytest

from nt_failures.tasks import _sampling
from nt_failures.tasks._sampling import distinct, picks, shuffle, slices
from nt_failures.tasks.path_star import PathStar

BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.SFC64, np.random.Philox, np.random.MT19937]


def rows_of(rng, n, high, k):
    """Copies of the rows that `picks` gives, whose memory is used again for the next ones."""
    return [row.copy() for some in picks(rng, n, high, k) for row in some]


@pytest.mark.parametrize("n", [200, 33])
@pytest.mark.parametrize(("high", "k"), [(2, 1), (8, 8 - 1), (50, 9), (65536, 3), (3 * 10**9, 4), (2**32 - 5, 2)])
def test_picks_are_numpys(high, k, n):
    """Catches: another stream of numbers, and numbers that NumPy draws again, a quarter of them where high is 3e9."""
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    expected = [theirs.integers(0, high - j, size=n, dtype=np.uint32) for j in range(k)]
    assert np.array_equal(rows_of(ours, n, high, k), expected)
    assert np.array_equal(ours.integers(0, 7, 5, np.uint32), theirs.integers(0, 7, 5, np.uint32))
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("at_once", [1, 4, 6])
@pytest.mark.parametrize("seed", range(10))
def test_numbers_drawn_again_behind_rows_that_were_good(seed, at_once, monkeypatch):
    """Catches: rows given twice, or skipped, where NumPy takes over in the middle; each number is bad in 3 of 10."""
    monkeypatch.setattr(_sampling, "_AT_ONCE", at_once)
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    expected = [theirs.integers(0, 3 * 10**9 - j, size=2, dtype=np.uint32) for j in range(5)]
    assert np.array_equal(rows_of(ours, 2, 3 * 10**9, 5), expected)
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("bit_generator", BIT_GENERATORS)
@pytest.mark.parametrize("drawn", [0, 1])
def test_picks_of_any_generator(bit_generator, drawn):
    """Catches: the two halves of 64 bits in the wrong order, or a half left over from before that is passed by."""
    ours, theirs = np.random.Generator(bit_generator(3)), np.random.Generator(bit_generator(3))
    for rng in (ours, theirs):
        rng.integers(0, 2**32, drawn, np.uint32)
    expected = [theirs.integers(0, 50 - j, size=20, dtype=np.uint32) for j in range(4)]
    assert np.array_equal(rows_of(ours, 20, 50, 4), expected)
    assert np.array_equal(ours.integers(0, 7, 5, np.uint32), theirs.integers(0, 7, 5, np.uint32))


def one_by_one(column, high):
    """Fisher-Yates as everybody knows it, for one column."""
    pool = list(range(high))
    for j, pick in enumerate(column.tolist()):
        pool[j], pool[j + pick] = pool[j + pick], pool[j]
    return pool


@pytest.mark.parametrize("padding", [0, 3])
def test_shuffle_swaps_each_column_on_its_own(padding):
    """Catches: a swap that reads what it has just written, an entry taken from a neighbour's column or the padding."""
    rows = rows_of(np.random.default_rng(1), 30, 7, 6)
    pool = np.repeat(np.arange(7, dtype=np.uint16)[:, None], 30 + padding, axis=1)
    pool[:, 30:] = 99
    shuffle(pool, picks(np.random.default_rng(1), 30, 7, 6), 30)
    assert pool[:, :30].T.tolist() == [one_by_one(column, 7) for column in np.array(rows).T]
    assert (pool[:, 30:] == 99).all()


@pytest.mark.parametrize(
    ("high", "k"),
    [(40, 40), (40, 9), (40, 30), (9, 2), (12, 2), (33, 4), (1, 1), (256, 24), (257, 16), (257, 17), (900, 21)],
)
def test_with_and_without_a_pool(high, k):
    """Catches: the way without a pool, for few labels, forgetting what an earlier draw moved; labels cut to a byte."""
    found = distinct(np.random.default_rng(3), 500, high, k)
    rows = rows_of(np.random.default_rng(3), 500, high, min(k, high - 1))
    assert found.dtype == (np.uint8 if high <= 256 else np.uint16)
    columns = np.array(rows).reshape(-1, 500).T
    assert found.T.tolist() == [one_by_one(column, high)[:k] for column in columns]


@pytest.mark.parametrize("at_once", [1, 250, 2**15])
def test_parts_of_any_size_are_the_same(monkeypatch, at_once):
    """Catches: rows that depend on how many fit into the cache, or are computed at once."""
    task = PathStar(3, 4, 20)
    whole = task.sample(np.random.default_rng(0), 100)
    monkeypatch.setattr(_sampling, "_AT_ONCE", at_once)
    for name, column in task.sample(np.random.default_rng(0), 100).items():
        assert np.array_equal(column, whole[name])
    monkeypatch.setattr(_sampling, "_POOL_BYTES", 600)
    assert len(slices(100, 40)) == 7
    for name, column in task.sample(np.random.default_rng(0), 100).items():
        assert np.array_equal(column, whole[name])
