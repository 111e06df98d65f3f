"""Columns of text in Arrow's layout, written for all rows at once."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_TEXT = 2**31 - 1
"""Bytes that a column of text can hold: Arrow counts them in int32, which would wrap around."""


class Text(NamedTuple):
    """A column of strings: string i is `data[offsets[i] : offsets[i + 1]]`.

    Example:
        >>> text = Text.from_list(["3,1=", "7="])
        >>> text.offsets.tolist(), text.to_list()
        ([0, 4, 6], ['3,1=', '7='])
    """

    data: np.ndarray
    """uint8, all strings one after the other in UTF-8"""
    offsets: np.ndarray
    """int32, length n + 1"""

    @classmethod
    def from_list(cls, strings: Sequence[str]) -> "Text":
        """The column of some strings: slower than `join_numbers`, and enough for a task of your own."""
        encoded = [string.encode() for string in strings]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        if (size := offsets[-1]) > MAX_TEXT:
            raise ValueError(f"{len(encoded)} strings are {size:,} bytes, above {MAX_TEXT:,}; render fewer rows.")
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets.astype(np.int32))

    def to_list(self) -> list[str]:
        """The column as Python strings."""
        joined = self.data.tobytes()
        return [joined[start:end].decode() for start, end in itertools.pairwise(self.offsets.tolist())]


def join_numbers(numbers: np.ndarray, separators: str | np.ndarray) -> Text:
    """Write each row of numbers (n, k) with separator i behind number i (k of them, or k - 1).

    Separators that differ from row to row are bytes, (n, k) uint8. A number below 0 is left out, with its separator.
    ValueError for more text than int32 offsets can count.
    """
    n, k = numbers.shape
    largest = int(numbers.max(initial=0))
    if (bound := n * k * (len(str(largest)) + 1)) > MAX_TEXT:
        raise ValueError(
            f"{n} rows of {k} numbers are up to {bound:,} characters, above {MAX_TEXT:,}; render fewer rows."
        )
    table = _words(1 << largest.bit_length(), 4 if largest < 1000 else 8)  # MAX_LABELS, 2**20, has seven digits
    if isinstance(separators, str):
        separators = np.frombuffer(separators.encode("ascii"), dtype=np.uint8)
    cells = table[np.ascontiguousarray(numbers)].view(np.uint8).reshape(n, k, table.itemsize)
    cells[:, : separators.shape[-1], -1] = separators
    cells[numbers < 0] = 0
    return _packed(cells)


def join_words(index: np.ndarray, words: Sequence[str]) -> Text:
    """Write for each row of `index` (n, k) these of the words, one behind the other; ValueError as `join_numbers`."""
    n, k = index.shape
    table = np.array([word.encode() for word in words])
    if (bound := n * k * (width := table.dtype.itemsize)) > MAX_TEXT:
        raise ValueError(
            f"{n} rows of {k} words are up to {bound:,} characters, above {MAX_TEXT:,}; render fewer rows."
        )
    return _packed(table.view(np.uint8).reshape(len(words), width)[index])


def _packed(cells: np.ndarray) -> Text:
    """The bytes of each row of `cells`, (n, k, bytes), that are not 0."""
    used = cells != 0
    offsets = np.zeros(len(cells) + 1, dtype=np.int32)
    np.cumsum(used.sum(axis=(1, 2), dtype=np.int32), out=offsets[1:])
    return Text(cells[used], offsets)


@functools.lru_cache(maxsize=4)
def _words(count: int, size: int) -> np.ndarray:
    """The numbers below `count` in decimal digits, filled up with 0: each as the bytes of one number; cached.

    The last byte is a separator's. Numbers are copied faster than rows of bytes.
    """
    return np.arange(count).astype(f"S{size}").view(f"u{size}")
