"""Rows read back as the columns that were drawn."""

import datasets
import numpy as np
import pytest

from nt_failures.data.columns import to_columns, to_table
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 10)


@pytest.fixture
def drawn():
    return TASK.sample(np.random.default_rng(3), 50)


@pytest.mark.parametrize("rows", [range(50), range(7, 20), [3, 1, 49]], ids=["all", "a part", "some"])
def test_columns_are_what_was_drawn(drawn, rows):
    """Catches: another order, the rows before a slice, axes that are lost or swapped, text among the columns."""
    found = to_columns(datasets.Dataset(to_table(TASK, drawn)).select(rows))
    assert set(found) == {"edges", "source", "goal", "path"}
    for name, column in drawn.items():
        assert np.array_equal(found[name], column[list(rows)])
        assert found[name].dtype == column.dtype


def test_lists_of_other_lengths_are_refused():
    """Catches: rows of several lengths read as rows of one, each shifted into its neighbour."""
    with pytest.raises(ValueError, match="have 1 to 2 entries"):
        to_columns(datasets.Dataset.from_dict({"x": [[1], [2, 3]]}))
