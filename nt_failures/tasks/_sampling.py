"""Distinct random numbers and random orders for many instances at once: Fisher-Yates on whole rows of an array.

Shapes: n columns, one instance each; k draws of an instance. Draw j swaps entry j with entry j + pick, pick < high - j.
"""

import numpy as np

_POOL_ENTRIES = 2**20
"""Numbers in the arrays that are shuffled at a time: many labels times many instances would fill the memory."""


def shuffle(rng: np.random.Generator, pool: np.ndarray) -> None:
    """Shuffle each column of `pool` (k, n) in place, on its own."""
    _swap(pool, _picks(rng, pool.shape[1], len(pool), len(pool) - 1))


def in_random_order(rng: np.random.Generator, items: np.ndarray) -> np.ndarray:
    """The items (k, n, ...) of each instance in an order of its own, (n, k, ...)."""
    count, n = items.shape[:2]
    places = np.repeat(np.arange(count)[:, None], n, axis=1)
    shuffle(rng, places)
    found = np.take_along_axis(items, places.reshape(count, n, *[1] * (items.ndim - 2)), axis=0)
    return np.ascontiguousarray(found.swapaxes(0, 1))


def distinct(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """(k, n) int32: in each column k distinct numbers below `high`, every ordered choice equally likely."""
    picks = _picks(rng, n, high, min(k, high - 1))
    if 4 * k * k < high:
        return _few(picks, n)
    found = np.empty((k, n), dtype=np.int32)
    step = max(1, _POOL_ENTRIES // high)
    for start in range(0, n, step):
        part = slice(start, start + step)
        pool = np.repeat(np.arange(high, dtype=np.int32)[:, None], found[:, part].shape[1], axis=1)
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
    columns = np.arange(pool.shape[1])
    for j, pick in enumerate(picks):
        taken = pool[j + pick, columns]
        pool[j + pick, columns] = pool[j]
        pool[j] = taken
