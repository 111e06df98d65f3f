"""What whole numbers can reach by sums, differences, products and quotients, for many rows at once.

Numbers and results are from 1 to `bound`: a difference is of the larger number and the smaller, a quotient exact.
Shapes: n rows, M numbers of each; F = 4 P first equations of a row, over its P pairs of numbers.
"""

import itertools

import numpy as np

OPERATORS = "+-*/"


def results(x: np.ndarray, y: np.ndarray, bound: int) -> np.ndarray:
    """(4, n) results of two numbers (n,) by each of OPERATORS, 0 where it is none from 1 to `bound`."""
    larger, smaller = np.maximum(x, y), np.minimum(x, y)
    quotient, rest = np.divmod(larger, np.maximum(smaller, 1))
    found = np.stack([larger + smaller, larger - smaller, larger * smaller, np.where(rest == 0, quotient, 0)])
    return np.where(found <= bound, found, 0)


def pairs(count: int) -> np.ndarray:
    """(P, 2) all pairs of `count` places, the first place the smaller."""
    return np.array([*itertools.combinations(range(count), 2)])


def first_results(numbers: np.ndarray, bound: int) -> np.ndarray:
    """(4, P, n) what each first equation over the numbers (n, M) gives, 0 for none."""
    first, second = pairs(numbers.shape[1]).T
    return np.stack([results(numbers[:, i], numbers[:, j], bound) for i, j in zip(first, second, strict=True)], axis=1)


def equations(numbers: np.ndarray, bound: int) -> tuple[np.ndarray, ...]:
    """All equations over the numbers (n, M), those with two orders in both.

    Returns:
        The places of the two numbers, (E, 2); the result, 0 where it is none, the first number, the operator as its
        place in OPERATORS, and the second number, each (n, E).
    """
    places = np.concatenate([pairs(numbers.shape[1]), pairs(numbers.shape[1])[:, ::-1]])
    x, y = numbers[:, places[:, 0]], numbers[:, places[:, 1]]
    ordered = np.stack([np.ones_like(x, dtype=bool), x >= y] * 2, axis=2)  # the larger number first of - and /
    found = np.tile(first_results(numbers, bound).transpose(2, 1, 0), (1, 2, 1))
    result = np.where(ordered, found, 0).reshape(len(numbers), 4 * len(places))
    operator = np.broadcast_to(np.tile(np.arange(4), len(places)), result.shape)
    return np.repeat(places, 4, axis=0), result, np.repeat(x, 4, axis=1), operator, np.repeat(y, 4, axis=1)


def combined(numbers: np.ndarray, places: np.ndarray, result: np.ndarray) -> np.ndarray:
    """(n, M - 1) the numbers (n, M) without those at two places (n, 2), and the result (n,) behind them."""
    n, count = numbers.shape
    kept = (np.arange(count) != places[:, :1]) & (np.arange(count) != places[:, 1:])
    return np.column_stack([numbers[kept].reshape(n, count - 2), result])


def reaches(numbers: np.ndarray, target: np.ndarray, bound: int) -> np.ndarray:
    """(n,) bool: some equations over all of the numbers (n, M) give the target (n,)."""
    if numbers.shape[1] == 1:
        return numbers[:, 0] == target
    if numbers.shape[1] == 2:
        return (results(*numbers.T, bound) == target).any(axis=0)
    return _any_way(numbers, target, first_results(numbers, bound), bound)


def leads_on(numbers: np.ndarray, target: np.ndarray, first: np.ndarray, bound: int) -> np.ndarray:
    """(n,) bool: some first equation with the result `first` (n,) leaves the target (n,) within reach."""
    found = first_results(numbers, bound)
    return _any_way(numbers, target, np.where(found == first, found, 0), bound)


def _any_way(numbers: np.ndarray, target: np.ndarray, firsts: np.ndarray, bound: int) -> np.ndarray:
    """(n,) bool: some of the first equations with these results, (4, P, n) and 0 for none, lead to the target."""
    rows, states = [], []
    for pair, results_4n in zip(pairs(numbers.shape[1]), firsts.transpose(1, 0, 2), strict=True):
        operator, some = np.nonzero(results_4n)
        rows.append(some)
        states.append(np.column_stack([np.delete(numbers, pair, axis=1)[some], results_4n[operator, some]]))
    owner = np.concatenate(rows)
    reached = reaches(np.concatenate(states), target[owner], bound)
    return np.bincount(owner[reached], minlength=len(numbers)) > 0
