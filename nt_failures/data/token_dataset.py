"""Tokenised rows held as arrays, so that a batch is cut out of them at once instead of row by row.

`datasets` makes every row a dict of Python lists, which for a small model takes longer than its forward pass. A DataLoader
asks a dataset that has `__getitems__` for a whole batch; `TokenDataset` answers with `TokenRows`, which reads like the list
of examples that every `collate` takes, and which `layout` pads without a loop.
"""

from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow as pa

COLUMNS = ("prefix_ids", "target_ids", "target_positions")

MAX_BYTES = 2**30
"""Of ids that are held in memory; larger data sets are read from their memory-mapped files, row by row."""

Ragged = tuple[np.ndarray, np.ndarray]
"""All ids of a column one after the other, and where each row starts and the last one ends."""


class TokenRows(Sequence):
    """A batch of rows. `rows[i]` is an example as `tokenize` makes it, a dict of arrays."""

    def __init__(self, columns: dict[str, Ragged], rows: np.ndarray):
        self.columns = columns
        self.rows = rows

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
        return np.where(mask, ids[np.where(mask, where, 0)], fill).astype(np.int64), mask.astype(np.int64)


class TokenDataset:
    """The rows of a tokenised `datasets.Dataset`, in memory, for a DataLoader."""

    def __init__(self, columns: dict[str, Ragged]):
        self.columns = columns

    @classmethod
    def of(cls, dataset: object) -> "TokenDataset | None":
        """The same rows; None for a stream, a dataset in another format, with other columns, or too large for memory."""
        if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] is not None or not len(dataset):
            return None
        if set(dataset.column_names) != set(COLUMNS) or dataset.format["columns"] != dataset.column_names:
            return None
        if not all(_is_list_of_whole(dataset.features[name]) for name in COLUMNS):
            return None
        per_row = dataset.data.nbytes / dataset.data.num_rows
        if per_row * len(dataset) > MAX_BYTES:
            return None
        table = dataset.with_format("arrow")[:]
        columns = {name: _ragged(table[name].combine_chunks()) for name in COLUMNS}
        return None if any(column is None for column in columns.values()) else cls(columns)

    def __len__(self) -> int:
        return len(self.columns[COLUMNS[0]][1]) - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return TokenRows(self.columns, np.array([range(len(self))[index]]))[0]

    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        return TokenRows(self.columns, np.asarray(indices, dtype=np.int64))


def _is_list_of_whole(feature: object) -> bool:
    if not isinstance(feature, datasets.List) or not isinstance(feature.feature, datasets.Value):
        return False
    return feature.length == -1 and feature.feature.dtype in ("int32", "int64")


def _ragged(array: pa.ListArray) -> Ragged | None:
    """None where a row or an id is missing or below 0: for those, `layout` reads the rows and says what is wrong."""
    values = array.values
    if array.null_count or values.null_count:
        return None
    ids = values.to_numpy()
    return None if ids.min(initial=0) < 0 else (ids, array.offsets.to_numpy().astype(np.int64))
