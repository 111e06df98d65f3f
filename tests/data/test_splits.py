"""The splits that examples/train.py trains on: the same rows by every route."""

import dataclasses
import itertools

import datasets
import pytest

from nt_failures.data.splits import load_splits
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 3, 10)


@dataclasses.dataclass(frozen=True)
class Unregistered(PathStar):
    """A user's task: it has no builder."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


def sizes(splits):
    return {name: rows.num_rows for name, rows in splits.items()}


def test_counts_are_those_asked_for():
    """Catches counts given to the wrong split."""
    assert sizes(load_splits(TASK, num_train=30, num_validation=20, num_test=10)) == {
        "train": 30,
        "validation": 20,
        "test": 10,
    }


def test_a_task_without_a_builder_gets_the_same_rows():
    """Catches the generator route drawing other rows, or other splits, than the builder."""
    counts = {"num_train": 8, "num_validation": 4, "num_test": 4, "seed": 3}
    own, registered = load_splits(Unregistered(2, 3, 10), **counts), load_splits(TASK, **counts)
    for name, rows in registered.items():
        assert own[name].to_list() == rows.to_list()


def test_streaming_begins_like_the_fixed_split_and_goes_on():
    """Catches a stream of other rows, and one that ends with the fixed split's num_train."""
    counts = {"num_train": 5, "num_validation": 2, "num_test": 2}
    fixed, stream = load_splits(TASK, **counts), load_splits(TASK, **counts, streaming=True)
    rows = list(itertools.islice(stream["train"], 5000))
    assert rows[:5] == fixed["train"].to_list()
    assert len(rows) == 5000
    assert stream["train"].num_shards > 64
    assert stream["test"].to_list() == fixed["test"].to_list()


def test_streaming_without_a_builder():
    """Catches a user's task that cannot be streamed."""
    stream = load_splits(Unregistered(2, 3, 10), num_validation=2, num_test=2, streaming=True)["train"]
    expected = load_splits(TASK, num_train=3, num_validation=2, num_test=2)["train"]
    assert list(itertools.islice(stream, 3)) == expected.to_list()


def test_overlap_and_seed_reach_the_rows():
    """Catches parameters that are accepted and dropped."""
    counts = {"num_train": 50, "num_validation": 2, "num_test": 2}
    base = load_splits(TASK, **counts)["train"]["prompt"]
    assert load_splits(TASK, **counts, seed=1)["train"]["prompt"] != base
    assert load_splits(TASK, **counts, overlap="allow")["train"]["prompt"] != base
