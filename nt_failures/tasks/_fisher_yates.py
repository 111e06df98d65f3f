"""Distinct numbers and shuffles, uniform, for all columns of an array at once: Fisher-Yates on whole rows.

Shapes: n columns, one instance each; k draws of an instance, row j of them with j rows fixed before it.
"""

import numpy as np

_POOL = 2**20
"""Entries of the pool that are worked on together; more would leave the processor's cache."""


def picks(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) int64, row j uniform in j..high-1: the very numbers of `rng.integers(j, high, n, np.uint32)` row by row.

    NumPy maps 32 random bits to a range one number at a time; here it is done for all of them (D. Lemire, Fast random
    integer generation in an interval, 2019): the upper half of bits x size of the range. Where a number would have to be
    drawn again, which happens once in 2**32 / size, all are drawn by NumPy itself.
    """
    sizes_k = np.arange(high, high - k, -1, dtype=np.uint64)
    before = rng.bit_generator.state
    products_kn = rng.integers(0, 2**32, size=(k, n), dtype=np.uint32) * sizes_k[:, None]
    lowest_k = products_kn.astype(np.uint32).min(axis=1, initial=2**32 - 1)
    if (lowest_k < 2**32 % sizes_k).any():
        rng.bit_generator.state = before
        return np.array([rng.integers(j, high, size=n, dtype=np.uint32) for j in range(k)], dtype=np.int64)
    products_kn >>= np.uint64(32)
    return products_kn.view(np.int64) + np.arange(k)[:, None]


def shuffle(pool: np.ndarray, picked: np.ndarray) -> None:
    """Swap in place, for j = 0, 1, ..., entry j of each column of `pool` with entry `picked[j]` of it."""
    n = pool.shape[1]
    flat = pool.reshape(-1)
    for j, where in enumerate(picked * n + np.arange(n)):
        swapped = flat.take(where)
        flat[where] = pool[j]
        pool[j] = swapped


def distinct(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) uint16: in each column k distinct numbers below `high`, every ordered choice equally likely."""
    picked = picks(rng, n, high, min(k, high - 1))
    found = np.empty((k, n), dtype=np.uint16)
    for columns in _slices(n, high):
        if high > 2 * k * k:
            found[:, columns] = _distinct_of_many(picked[:, columns])
            continue
        pool = np.repeat(np.arange(high, dtype=np.uint16)[:, None], columns.stop - columns.start, axis=1)
        shuffle(pool, picked[:, columns])
        found[:, columns] = pool[:k]
    return found


def shuffled(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Each column of `rows` (k, n), in place, in an order of its own."""
    k, n = rows.shape
    picked = picks(rng, n, k, k - 1)
    for columns in _slices(n, k):
        pool = np.ascontiguousarray(rows[:, columns])
        shuffle(pool, picked[:, columns])
        rows[:, columns] = pool
    return rows


def _distinct_of_many(picked: np.ndarray) -> np.ndarray:
    """What `shuffle` leaves in the first rows of the pool 0, 1, 2, ..., without a pool: few draws touch few entries of it.

    Entry p still holds p unless an earlier draw i took p; then it holds what entry i held at that time.
    """
    found, moved = picked.copy(), []
    for j, row in enumerate(found):
        held = np.full_like(row, j)
        for earlier, what in zip(picked[:j], moved, strict=True):
            np.copyto(row, what, where=earlier == picked[j])
            np.copyto(held, what, where=earlier == j)
        moved.append(held)
    return found


def _slices(n: int, high: int) -> list[slice]:
    step = max(1, _POOL // high)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
