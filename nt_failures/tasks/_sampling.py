"""Distinct random numbers and random orders for many instances at once: Fisher-Yates on whole rows of an array.

Shapes: n columns, one instance each; k draws of an instance. Draw j swaps entry j with entry j + pick, pick < high - j.
"""

import numpy as np

_POOL_BYTES = 2**21
"""Of the arrays that hold all numbers of some instances, of which 2**20 labels would fill the memory."""


def in_random_order(rng: np.random.Generator, tails: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Edges between nodes, (k, n) int32 each, those of each instance in an order of its own, (n, k, 2).

    No node is below 0.
    """
    k, n = tails.shape
    short = max(tails.max(initial=0), heads.max(initial=0)) < 2**16
    label, edge = (np.uint16, np.uint32) if short else (np.int32, np.int64)
    pool = np.stack([tails, heads], axis=-1, dtype=label, casting="unsafe").view(edge)[:, :, 0]  # an edge is one number
    _swap(pool, _picks(rng, n, k, k - 1))
    return np.ascontiguousarray(pool.T).view(label).reshape(n, k, 2).astype(np.int32)


def distinct(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) int32: in each column k distinct numbers below `high`, every ordered choice equally likely."""
    picks = _picks(rng, n, high, min(k, high - 1))
    if 4 * k * k < high:
        return _few(picks, n)
    found, numbers = np.empty((k, n), dtype=np.int32), np.arange(high, dtype=np.uint16 if high <= 2**16 else np.int32)
    step = max(1, _POOL_BYTES // numbers.nbytes)
    for start in range(0, n, step):
        part = slice(start, start + step)
        pool = np.repeat(numbers[:, None], found[:, part].shape[1], axis=1)
        _swap(pool, [row[part] for row in picks])
        found[:, part] = pool[:k]
    return found


def _few(picks: list[np.ndarray], n: int) -> np.ndarray:
    """What the shuffle of a whole pool gives, without the pool: few draws move few of its entries."""
    moved: list[tuple[np.ndarray, np.ndarray]] = []  # the entry at a place became this number, oldest first

    def entry(places: np.ndarray) -> np.ndarray:
        numbers = places.copy()
        for place, number in moved:
            numbers = np.where(places == place, number, numbers)
        return numbers

    found = np.empty((len(picks), n), dtype=np.int32)
    for j, pick in enumerate(picks):
        place = j + pick.astype(np.int32)
        found[j] = entry(place)
        moved.append((place, entry(np.full(n, j, dtype=np.int32))))
    return found


def _picks(rng: np.random.Generator, n: int, high: int, k: int) -> list[np.ndarray]:
    """Numbers below high - j for the draws j = 0, ..., k - 1, n of each."""
    return [rng.integers(0, high - j, n, dtype=np.uint32) for j in range(k)]


def _swap(pool: np.ndarray, picks: list[np.ndarray]) -> None:
    """Draw by draw, in each column of `pool` (k, n) on its own."""
    flat, n = pool.reshape(-1), pool.shape[1]  # one index is faster than two
    columns = np.arange(n)
    for j, pick in enumerate(picks):
        left, at = flat[j * n :], pick * np.int64(n) + columns
        taken = left[at]
        left[at] = pool[j]
        pool[j] = taken
