"""Distinct random numbers and random orders for many instances at once: Fisher-Yates on whole rows of an array.

Shapes: n columns, one instance each; k draws of an instance. Draw j takes entry j + pick of a column, pick < high - j.
Fresh memory costs more than arithmetic here (a page fault takes as long as a thousand draws), so draws are used row by
row as they come, labels are as narrow as they can be, and rows share scratch space.
"""

import sys
from collections.abc import Iterable, Iterator

import numpy as np

_POOL_BYTES = 2**20
"""Size of the array that is shuffled at a time; more would leave the processor's cache."""

_AT_ONCE = 2**15
"""Numbers that are computed at a time: enough to make NumPy's calls worth while, few enough for the cache."""


def picks(rng: np.random.Generator, n: int, high: int, k: int) -> Iterator[np.ndarray]:
    """Numbers below high - j for the draws j = 0, ..., k - 1: some rows (g, n) int64 at a time, in reused memory.

    They equal `rng.integers(0, high - j, n, np.uint32)` row by row: `bits * (high - j) >> 32` of 32 random bits each
    (D. Lemire, Fast random integer generation in an interval, 2019). Where that method has to draw a number again,
    which happens once in 2**32 / high numbers or less, NumPy draws these rows and those after them.
    """
    before = rng.bit_generator.state
    halves = n % 2 == 0 and before.get("has_uint32") == 0 and sys.byteorder == "little"
    at_once = max(min(rows_at_once(n), k), 1)
    wide, low = np.empty((at_once, n), dtype=np.uint64), np.empty((at_once, n), dtype=np.uint32)
    sizes_K1 = np.arange(high, high - k, -1, dtype=np.uint64)[:, None]
    for j in range(0, k, at_once):
        size_G1 = sizes_K1[j : j + at_once]
        g = len(size_G1)
        # A generator of 64 bits gives its low 32 first, then its high ones, unless a half is left over from before.
        bits = rng.bit_generator.random_raw(g * n // 2).view(np.uint32).reshape(g, n) if halves else _bits(rng, (g, n))
        np.multiply(bits, size_G1.astype(np.uint32), out=low[:g])
        if (low[:g].min(axis=1, initial=2**32 - 1) < 2**32 % size_G1[:, 0]).any():
            break
        wide[:g] = bits
        wide[:g] *= size_G1
        wide[:g] >>= 32
        yield wide[:g].view(np.int64)
    else:
        return
    rng.bit_generator.state = before
    for again in range(k):
        row = rng.integers(0, high - again, size=(1, n), dtype=np.uint32)
        if again >= j:
            yield row.astype(np.int64)


def _bits(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 2**32, size=shape, dtype=np.uint32)


def rows_at_once(n: int) -> int:
    """How many rows of n numbers are computed at a time."""
    return max(1, _AT_ONCE // max(n, 1))


def shuffle(pool: np.ndarray, rows: Iterable[np.ndarray], n: int) -> None:
    """Swap in place, for j = 0, 1, ..., entry j of each column of `pool` with entry j + pick, the pick from row j.

    `rows` are those of `picks`. Columns of `pool` from n on are padding and stay.
    """
    width = pool.shape[1]
    rest, column, taken = pool.reshape(-1), np.arange(n), np.empty(n, dtype=pool.dtype)
    scratch = np.empty((rows_at_once(n), n), dtype=np.int64)
    for some in rows:
        places = np.multiply(some, width, out=scratch[: len(some)])
        places += column
        for where in places:
            head = rest[:n]
            rest.take(where, out=taken, mode="wrap")  # in range anyway; `raise` would copy `taken` once more
            rest[where] = head
            head[:] = taken
            rest = rest[width:]


def shuffle_parts(
    rows: Iterator[np.ndarray], n: int, column_bytes: int
) -> Iterator[tuple[slice, Iterable[np.ndarray]]]:
    """Columns to shuffle together, and their rows of picks: parts of a pool, each of which fits the cache."""
    parts = slices(n, column_bytes)
    if len(parts) == 1:
        yield parts[0], rows
        return
    kept = [row.astype(np.uint16) for some in rows for row in some]
    for part in parts:
        yield part, (row[None, part].astype(np.int64) for row in kept)


def distinct(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) numbers: in each column k distinct ones below `high` <= 2**16, every ordered choice equally likely.

    They are uint8 where that is enough, else uint16.
    """
    dtype = np.min_scalar_type(high - 1)
    rows = picks(rng, n, high, min(k, high - 1))
    few = 24 if dtype == np.uint8 else 16  # by measurement: the work grows as k * k, that of a pool as high
    if k < high and (k <= few or high > 2 * k * k):
        return _few_distinct(rows, n, k, dtype)
    found = padded(k, n, dtype)[:, :n]
    pool_type = np.dtype(np.uint16)  # moves faster than single bytes do
    for columns, part in shuffle_parts(rows, n, high * pool_type.itemsize):
        size = columns.stop - columns.start
        pool = np.repeat(np.arange(high, dtype=pool_type)[:, None], size, axis=1)
        shuffle(pool, part, size)
        found[:, columns] = pool[:k]
    return found


def _few_distinct(rows: Iterable[np.ndarray], n: int, k: int, dtype: np.dtype) -> np.ndarray:
    """The first k rows of the pool 0, 1, 2, ... after `shuffle`, without making the pool: few draws touch little of it.

    Entry p still holds p unless an earlier draw took it; then it holds what that draw put in its place. So only the
    entries picked and the first k are followed.
    """
    entries = np.empty((k, 2, n), dtype=dtype)  # the entry that draw j picks, and entry j
    entries[:, 1] = np.arange(k, dtype=dtype)[:, None]
    j = 0
    for some in rows:
        steps_G1 = np.arange(j, j + len(some))[:, None]
        np.add(some, steps_G1, out=entries[j : j + len(some), 0], casting="unsafe")
        j += len(some)
    held = entries.copy()
    for j in range(k - 1):
        later = held[j + 1 :]
        change = later ^ held[j, 1]
        change *= (entries[j + 1 :] == entries[j, 0]).view(np.uint8)
        later ^= change
    return held[:, 0]


def padded(k: int, n: int, dtype: np.dtype) -> np.ndarray:
    """Fresh (k, n + padding): rows a power of two apart would all want the same lines of the processor's cache."""
    return np.empty((k, n + 16), dtype=dtype)


def slices(n: int, column_bytes: int) -> list[slice]:
    """The columns of a pool, in order, in parts that fit the processor's cache."""
    step = max(1, _POOL_BYTES // column_bytes)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
