"""Draws that depend on the batch alone: an interrupted run masks what a whole one would have masked."""

import pytest
import torch
from transformers import TrainerControl, TrainerState

from nt_failures.objectives import MaskedTeacher, NextToken
from nt_failures.training.seeded_collator import SeededCollator

OBJECTIVE = MaskedTeacher(dummy_token_id=13, pad_token_id=14)


def shown(collate, rows):
    return collate(rows)["input_ids"]


def at_epoch(epoch, seed=0):
    """The collator in an epoch, as the Trainer tells it: the epoch and the part of it that is done."""
    collate = SeededCollator(OBJECTIVE.collate, seed)
    collate.on_epoch_begin(None, TrainerState(epoch=epoch + 0.25), TrainerControl())
    return collate


def test_a_batch_is_drawn_for_alike(examples):
    """Catches: masks that depend on how many batches were collated before, as after a resume."""
    first, second = at_epoch(0), at_epoch(0)
    shown(first, examples[8:16])
    assert torch.equal(shown(first, examples[:8]), shown(second, examples[:8]))


def test_draws_differ_where_they_should(examples):
    """Catches: the same mask in every epoch, for every seed, or on every process."""
    one = shown(at_epoch(0), examples[:8])
    assert not torch.equal(shown(at_epoch(1), examples[:8]), one)
    assert not torch.equal(shown(at_epoch(0, seed=1), examples[:8]), one)
    collate = SeededCollator(lambda rows: torch.rand(4), 0)
    assert not torch.equal(collate(examples[:8]), collate(examples[8:16]))
    assert not torch.equal(collate(examples[:8]), collate(examples[7::-1]))


def test_dropout_does_not_notice(examples):
    """Catches: a generator that is left at the seed of the batch, so that every step drops the same units."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    shown(at_epoch(0), examples[:8])
    assert torch.equal(torch.rand(2), expected)


def test_rows_that_were_not_tokenised_are_named():
    """Catches: a bare KeyError in the first training step of who forgot `tokenize`."""
    collate = SeededCollator(NextToken().collate, 0)
    with pytest.raises(ValueError, match=r"pass the dataset through nt_failures\.tokenize"):
        collate([{"prompt": "1,2/1,2=", "completion": "1,2"}])


def test_workers_learn_the_epoch(examples):
    """Catches: workers that keep the first epoch for ever, and so differ from those of a resumed run."""
    collate = at_epoch(0)
    loader = torch.utils.data.DataLoader(examples[:8], 8, collate_fn=collate, num_workers=1, persistent_workers=True)
    drawn = []
    for epoch in (0, 1):
        collate.on_epoch_begin(None, TrainerState(epoch=epoch), TrainerControl())
        drawn += [batch["input_ids"] for batch in loader]
    assert torch.equal(drawn[0], shown(at_epoch(0), examples[:8]))
    assert torch.equal(drawn[1], shown(at_epoch(1), examples[:8]))
