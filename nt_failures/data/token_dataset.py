"""Tokenised rows held as arrays, so that a batch is cut out of them at once instead of row by row.

`datasets` makes every row a dict of Python lists, which for a small model takes longer than its forward pass.
`TokenDataset` gives a DataLoader whole batches: `TokenRows`, which read like the list of examples that `collate` takes.
"""

from collections.abc import Mapping, Sequence

import datasets
import numpy as np
import pyarrow as pa

from nt_failures.registry import shorten

COLUMNS = ("prefix_ids", "target_ids", "target_positions")
LISTS = [datasets.List(datasets.Value(dtype)) for dtype in ("int32", "int64")]
"""Types of a column."""
MAX_BYTES = 2**30
"""Ids held in memory, at most; larger data sets are read from their memory-mapped files, row by row."""

Ragged = tuple[np.ndarray, np.ndarray]
"""All ids of a column one after the other, and where each row starts and the last one ends."""


class TokenRows(Sequence):
    """A batch of rows. `rows[i]` is an example as `tokenize` makes it, a dict of arrays."""

    def __init__(self, columns: dict[str, Ragged], rows: np.ndarray, source: datasets.Dataset | None = None):
        self.columns = columns
        self.rows = rows
        self.source = source
        """the data set with all of its columns, where it is known"""

    @staticmethod
    def from_examples(examples: Sequence) -> "TokenRows":
        """A list of examples as `TokenRows`; other columns than those of `tokenize` are left out.

        Raises:
            ValueError: examples with different columns, or a column that holds anything but whole numbers from 0.
        """
        if isinstance(examples, TokenRows):
            return examples
        if not all(isinstance(example, Mapping) and example.keys() == examples[0].keys() for example in examples):
            raise ValueError("examples are not mappings with the same columns; give rows of nt_failures.tokenize(...).")
        names = [name for name in COLUMNS if name in examples[0]]
        columns = {name: _joined(name, [example[name] for example in examples]) for name in names}
        return TokenRows(columns, np.arange(len(examples)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> "dict[str, np.ndarray] | TokenRows":
        if isinstance(index, slice):
            return TokenRows(self.columns, self.rows[index])
        row = self.rows[index]
        return {name: ids[starts[row] : starts[row + 1]] for name, (ids, starts) in self.columns.items()}

    def padded(self, column: str, fill: int, left: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids (B, W) and their mask (B, W), int64, W the longest row's length, filled up on the left or the right."""
        ids, starts = self.columns[column]
        first, lengths = starts[self.rows], starts[self.rows + 1] - starts[self.rows]
        places = np.arange(lengths.max(initial=0))
        if left:
            places = places - (len(places) - lengths[:, None])
        where = first[:, None] + places
        if (lengths == where.shape[1]).all():
            return ids[where].astype(np.int64), np.ones(where.shape, dtype=np.int64)
        mask = (places >= 0) & (places < lengths[:, None])
        padded = np.full(where.shape, fill, dtype=np.int64)
        padded[mask] = ids[where[mask]]
        return padded, mask.astype(np.int64)


class TokenDataset(TokenRows):
    """All rows of a tokenised `datasets.Dataset`, in memory, for a DataLoader."""

    @classmethod
    def of(cls, dataset: object) -> "TokenDataset | None":
        """The same rows; None for a stream, another format, other columns, or more than fits into memory."""
        if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] is not None or not len(dataset):
            return None
        if not set(COLUMNS) <= set(dataset.format["columns"]):
            return None
        if not all(dataset.features[name] in LISTS for name in COLUMNS):
            return None
        ids = dataset.select_columns(list(COLUMNS))
        if ids.data.nbytes / ids.data.num_rows * len(ids) > MAX_BYTES:
            return None
        table = ids.with_format("arrow")[:]
        columns = {name: _ragged(table[name].combine_chunks()) for name in COLUMNS}
        return None if None in columns.values() else cls(columns, np.arange(len(dataset)), dataset)

    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        return TokenRows(self.columns, np.asarray(indices, dtype=np.int64))


def _ragged(array: pa.ListArray) -> Ragged | None:
    """None where a row or an id is missing or below 0: for those, `layout` reads the rows and says what is wrong."""
    values = array.values
    if array.null_count or values.null_count:
        return None
    ids = values.to_numpy()
    return None if ids.min(initial=0) < 0 else (ids, array.offsets.to_numpy().astype(np.int64))


def _joined(column: str, rows: Sequence) -> Ragged:
    """The rows of a column, of lists, arrays or tensors; ValueError unless all hold whole numbers from 0."""
    try:
        arrays = [np.asarray(row) for row in rows]
    except (TypeError, ValueError):  # lists of lists
        arrays = [np.array(None)]
    flat = all(array.ndim == 1 and (array.dtype.kind in "iu" or not array.size) for array in arrays)
    ids = np.concatenate([array.astype(np.int64) for array in arrays]) if flat else np.array([-1])
    if ids.min(initial=0) < 0:
        raise ValueError(f"{column} must be a list of whole numbers from 0 in every example; given {shorten(rows)}.")
    return ids, np.cumsum([0, *map(len, arrays)])
