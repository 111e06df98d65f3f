"""Batches cut out of arrays equal those put together from rows."""

import datasets
import numpy as np
import pytest
import torch

from nt_failures.data import token_dataset
from nt_failures.data.batches import layout
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.objectives import Hybrid, NextToken
from nt_failures.training.seeded_collator import SeededCollator


@pytest.fixture(params=["even", "ragged"])
def rows(request, tokenized, ragged):
    return tokenized if request.param == "even" else datasets.Dataset.from_list(ragged, tokenized.features)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("reverse", [False, True])
def test_layout_is_the_same(rows, reverse):
    """Catches: rows mixed up, padding on the wrong side or with the wrong id, positions padded like ids."""
    chosen = [3, 0, 5, 5]
    whole = TokenDataset.of(rows)
    expected = layout([rows[i] for i in chosen], pad_token_id=7, reverse=reverse)
    equal(layout(whole.__getitems__(chosen), pad_token_id=7, reverse=reverse), expected)
    equal(layout([whole[i] for i in chosen], pad_token_id=7, reverse=reverse), expected)
    assert len(whole) == len(rows)


def test_a_batch_reads_like_a_list_of_examples(rows):
    """Catches: an objective of the user's that walks over its examples and finds none, or others."""
    batch = TokenDataset.of(rows).__getitems__([2, 4])
    assert [{name: ids.tolist() for name, ids in row.items()} for row in batch] == [rows[2], rows[4]]
    assert batch[-1]["target_ids"].tolist() == rows[4]["target_ids"]
    assert len(batch[1:]) == 1
    with pytest.raises(IndexError):
        TokenDataset.of(rows)[len(rows)]


def test_draws_do_not_depend_on_the_way(rows):
    """Catches: another seed for the same batch, so that a resumed or repeated run draws otherwise than before."""
    collate = SeededCollator(Hybrid(dummy_token_id=13).collate, seed=4)
    for chosen in ([0, 1, 2], [7], [5, 5, 6]):
        assert collate.batch_seed(TokenDataset.of(rows).__getitems__(chosen)) == collate.batch_seed(
            [rows[i] for i in chosen]
        )


def test_selected_and_shuffled_rows(tokenized):
    """Catches: the rows of the file instead of those of the selection."""
    chosen = tokenized.select([4, 2, 9]).shuffle(seed=1)
    assert [row["prefix_ids"].tolist() for row in map(TokenDataset.of(chosen).__getitem__, range(3))] == chosen[
        "prefix_ids"
    ][:]


def test_what_is_left_as_it_is(tokenized, monkeypatch):
    """Catches: a user's transform, missing columns, stream or broken row passed over; memory filled with a large data
    set."""
    whole = tokenized.to_list()
    negative, missing = (
        datasets.Dataset.from_list([{**whole[0], "target_ids": ids}]) for ids in ([-1, 2, 3], [None, 2])
    )
    others = [
        tokenized.with_format("torch"),
        tokenized.with_transform(lambda batch: batch),
        tokenized.remove_columns("target_positions"),
        tokenized.with_format(None, columns=["prefix_ids", "target_ids"]),
        tokenized.to_iterable_dataset(),
        tokenized.select([]),
        negative,
        missing,
        whole,
    ]
    assert [TokenDataset.of(dataset) for dataset in others] == [None] * len(others)
    monkeypatch.setattr(token_dataset, "MAX_BYTES", 100)
    assert TokenDataset.of(tokenized) is None


def test_other_columns_are_left_where_they_are(tokenized, monkeypatch):
    """Catches: a task's own columns that make the fast way slow, end up in a batch, are lost, or count as memory."""
    more = tokenized.add_column("goal", np.arange(32)).add_column("path", [[i, i + 1] for i in range(32)])
    whole = TokenDataset.of(more.select([4, 2]))
    assert [{name: ids.tolist() for name, ids in row.items()} for row in whole.__getitems__([1, 0])] == [
        tokenized[2],
        tokenized[4],
    ]
    assert whole.source["goal"][:] == [4, 2]
    size = TokenDataset.of(tokenized).source.data.nbytes
    monkeypatch.setattr(token_dataset, "MAX_BYTES", size)
    assert TokenDataset.of(more) is not None


def test_collators_take_both(tokenized):
    """Catches: labels or inputs that differ between the two ways."""
    objective = NextToken(order="reversed", positions=(2,))
    equal(
        objective.collate(TokenDataset.of(tokenized).__getitems__(range(8))), objective.collate(tokenized.to_list()[:8])
    )
