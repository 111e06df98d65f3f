"""Rows held in memory, so that drawing a batch for each of many seeds costs little."""

from collections.abc import Sequence

import datasets
import torch

from nt_failures.layout import Example


class HeldRows(torch.utils.data.Dataset):
    """The rows of `nt_failures.tokenize` as lists in memory, one copy for all seeds; a row equals that of the data set.

    Fetched from Arrow, a batch of rows costs more than its collation, and many seeds draw as many batches in every step.
    Memory: about 0.5 kB for a row of 30 tokens.
    """

    def __init__(self, rows: datasets.Dataset):
        self.columns = {name: rows.with_format(None)[name][:] for name in rows.column_names}
        self.rows = len(rows)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Example:
        return {name: column[index] for name, column in self.columns.items()}

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return [self[index] for index in indices]
