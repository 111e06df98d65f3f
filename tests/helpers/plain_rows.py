"""The rows of a split by a plain loop: what builders and streams must give, however they are read."""

import itertools

from nt_failures.data.columns import to_table


def plain_rows(task, split="train", num_rows=None, seed=0):
    """Row by row, without end for `num_rows=None`."""
    rows = (row for index in itertools.count() for row in to_table(task, task.block(seed, split, index)).to_pylist())
    return itertools.islice(rows, num_rows)
