"""Distinct numbers and shuffles, uniform, for all columns of an array at once: Fisher-Yates on whole rows.

Shapes: n columns, one instance each; k draws of an instance. Draw j takes entry j + pick of a column, pick below high - j.
Fresh memory costs more than arithmetic here (a page fault takes as long as a thousand draws), so rows share scratch space.
"""

import numpy as np

_POOL_BYTES = 2**20
"""Of the array that is shuffled at a time; more would leave the processor's cache."""


def draws(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) uint32 bits, of which row j picks `bits * (high - j) >> 32`: uniform below high - j.

    The picks are those of `rng.integers(0, high - j, n, np.uint32)` row by row, which takes the same bits one number at a
    time (D. Lemire, Fast random integer generation in an interval, 2019). Where a number has to be drawn again, which
    happens once in 2**32 / high or less, NumPy draws them all, and bits that lead to its picks are returned.
    """
    before = rng.bit_generator.state
    bits = rng.integers(0, 2**32, size=(k, n), dtype=np.uint32)
    for row, size in zip(bits, range(high, high - k, -1), strict=True):
        if (row * np.uint32(size)).min(initial=2**32 - 1) < 2**32 % size:
            rng.bit_generator.state = before
            sizes = range(high, high - k, -1)
            return np.array([_bits_of(rng.integers(0, s, size=n, dtype=np.uint32), s) for s in sizes], dtype=np.uint32)
    return bits


def _bits_of(picks: np.ndarray, size: int) -> np.ndarray:
    """The lowest bits that pick these numbers out of 0..size-1."""
    return ((picks.astype(np.uint64) << np.uint64(32)) + np.uint64(size - 1)) // np.uint64(size)


def shuffle(pool: np.ndarray, bits: np.ndarray) -> None:
    """Swap in place, for j = 0, 1, ..., entry j of each column of `pool` (high, n) with the one that row j of `bits` picks."""
    high, n = pool.shape
    flat = pool.reshape(-1)
    column, where, taken = np.arange(n), np.empty(n, dtype=np.int64), np.empty(n, dtype=pool.dtype)
    for j, row in enumerate(bits):
        rest = flat[j * n :]
        np.multiply(row, high - j, out=where, dtype=np.int64)
        where >>= 32
        where *= n
        where += column
        rest.take(where, out=taken, mode="clip")  # in range anyway; other modes copy `taken` once more
        rest[where] = rest[:n]
        rest[:n] = taken


def distinct(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) uint16: in each column k distinct numbers below `high`, every ordered choice equally likely."""
    bits = draws(rng, n, high, min(k, high - 1))
    if high > 2 * k * k:
        return _distinct_of_many(bits, high)
    found = np.empty((k, n), dtype=np.uint16)
    for columns in slices(n, high * found.itemsize):
        pool = np.repeat(np.arange(high, dtype=np.uint16)[:, None], columns.stop - columns.start, axis=1)
        shuffle(pool, bits[:, columns])
        found[:, columns] = pool[:k]
    return found


def _distinct_of_many(bits: np.ndarray, high: int) -> np.ndarray:
    """What `shuffle` leaves in the first rows of the pool 0, 1, 2, ..., without a pool: few draws touch few entries of it.

    Entry p still holds p unless an earlier draw took it; then it holds what that draw put in its place.
    """
    steps = np.arange(len(bits))[:, None]
    picked = (bits.astype(np.int64) * (high - steps) >> 32) + steps
    found, moved = picked.copy(), []
    for j, row in enumerate(found):
        held = np.full_like(row, j)
        for earlier, what in zip(picked[:j], moved, strict=True):
            np.copyto(row, what, where=earlier == picked[j])
            np.copyto(held, what, where=earlier == j)
        moved.append(held)
    return found.astype(np.uint16)


def slices(n: int, column_bytes: int) -> list[slice]:
    """The columns of a pool, in order, in parts that fit the processor's cache."""
    step = max(1, _POOL_BYTES // column_bytes)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
