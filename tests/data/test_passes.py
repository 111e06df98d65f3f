"""A stream that is read again: each pass whole, in an order of its own, and told from the others."""

import datasets
import torch

from nt_failures.data.passes import PASS, Passes


def read(stream, rows, **options):
    loader = torch.utils.data.DataLoader(Passes(stream), batch_size=None, **options)
    return [(row["i"], row[PASS]) for row, _ in zip(loader, range(rows), strict=False)]


def test_each_pass_is_whole_and_numbered():
    """Catches: a row lost between passes, a pass that is not told from the first."""
    stream = datasets.Dataset.from_dict({"i": [3, 4, 5]}).to_iterable_dataset()
    assert read(stream, 7) == [(3, 0), (4, 0), (5, 0), (3, 1), (4, 1), (5, 1), (3, 2)]


def test_a_shuffled_stream_is_shuffled_anew():
    """Catches: the same order in every pass, or another one each time that it is read."""
    stream = datasets.Dataset.from_dict({"i": [*range(20)]}).to_iterable_dataset().shuffle(seed=1, buffer_size=20)
    found = read(stream, 40)
    first, second = ([i for i, number in found if number == k] for k in (0, 1))
    assert sorted(first) == sorted(second) == [*range(20)]
    assert first != second
    assert read(stream, 40) == found


def test_workers_share_every_pass():
    """Catches: a worker that reads all shards, or stops behind the first pass, or deals out the shards of a pass by the
    number of another worker's, so that a row comes twice or not at all."""
    stream = datasets.Dataset.from_dict({"i": [*range(4)]}).to_iterable_dataset(num_shards=2)
    found = read(stream, 4 * 200, num_workers=2)
    assert sorted(found) == [(i, number) for i in range(4) for number in range(200)]


def test_rows_are_left_as_they_are_for_others():
    """Catches: a column that a collator of the user's own does not know, and rows that are no mappings refused."""
    assert [row for row, _ in zip(Passes([(1, 2), (3, 4)], numbered=False), range(3), strict=False)] == [
        (1, 2),
        (3, 4),
        (1, 2),
    ]


def test_nothing_ends():
    """Catches: a search without end for a first row."""
    assert read([], 1) == []
