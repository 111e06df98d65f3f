"""Answers compared with the right ones, symbol by symbol."""

from collections.abc import Sequence

import numpy as np

from nt_failures.registry import shorten


def judged(correct: np.ndarray, lengths: int | np.ndarray, exact: np.ndarray) -> dict[str, np.ndarray]:
    """What `Task.judge` returns, of symbols (n, L) and answers (n,) that are right; `lengths` are of right ones."""
    wrong = ~correct & (np.arange(correct.shape[1]) < np.reshape(lengths, (-1, 1)))
    first_error = np.where(wrong.any(axis=1), wrong.argmax(axis=1), lengths) + 1
    return {"correct": correct, "exact": exact, "first_error": np.where(exact, 0, first_error)}


def padded_answers(answers: Sequence[Sequence[int]], n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers as an array (n, length), -1 where there is nothing, and the length (n,) of each, never rounded.

    ValueError for more or fewer than n answers, or one that is no list of whole numbers.
    """
    if len(answers) != n:
        raise ValueError(f"{len(answers)} answers for {n} instances; give one answer for each.")
    answered, sizes = np.full((n, length), -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for row, answer in enumerate(answers):
        try:
            symbols = np.asarray(answer)
        except ValueError:  # lists of different lengths
            symbols = np.array(None)
        if symbols.ndim != 1 or (symbols.size and symbols.dtype.kind not in "iu"):
            raise ValueError(
                f"answer {row + 1}, {shorten(answer, 80)}, is no list of node labels or other symbols as whole numbers "
                "(-1 for what is none)."
            )
        answered[row, : len(symbols)] = symbols[:length]
        sizes[row] = len(symbols)
    return answered, sizes
