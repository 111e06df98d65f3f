"""Pearson's chi-square, for statistics of a generator."""

import numpy as np


def assert_uniform(values, cells):
    """The values 0..cells-1 are equally frequent: the statistic is at most 5 standard deviations above its mean."""
    counts = np.bincount(np.ravel(values), minlength=cells)
    assert len(counts) == cells
    expected = counts.sum() / cells
    assert np.sum((counts - expected) ** 2 / expected) < cells - 1 + 5 * np.sqrt(2 * (cells - 1))
