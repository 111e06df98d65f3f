"""Rows of a dataset as the columns of arrays that tasks work with."""

import datasets
import numpy as np
import pyarrow as pa

TEXT = ("prompt", "completion")


def to_columns(rows: datasets.Dataset) -> dict[str, np.ndarray]:
    """The columns of instances, without their text: what `Task.sample` had drawn. The inverse of `builder.to_table`.

    Args:
        rows: of a task's dataset, n of them; the lists of a column have the same length in every row.
    """
    table = rows.with_format("arrow")[:]
    return {name: _to_array(table[name].combine_chunks()) for name in table.column_names if name not in TEXT}


def _to_array(values: pa.Array) -> np.ndarray:
    """One axis for each level of lists."""
    shape = [len(values)]
    while isinstance(values, pa.ListArray | pa.LargeListArray):
        lengths = np.unique(np.diff(values.offsets.to_numpy()))
        if len(lengths) > 1:
            raise ValueError(
                f"the lists of a column have {lengths.min()} to {lengths.max()} entries; give each row as many."
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(shape)
