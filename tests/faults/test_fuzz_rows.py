"""Tokenised rows given to collators and objectives: a sound batch and a finite loss, or a refusal that names the
column."""

import pytest
import torch
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st

from nt_failures.data.batches import layout
from nt_failures.objectives import OBJECTIVES, find_objective, read_objective
from nt_failures.objectives.collators import NextTokenCollator, TeacherlessCollator

IDS = st.lists(st.integers(0, 12), min_size=1, max_size=6)
ROW = st.tuples(IDS, IDS).map(
    lambda r: {"prefix_ids": r[0], "target_ids": r[1], "target_positions": [*range(1, len(r[1]) + 1)]}
)
ODD_IDS = st.one_of(
    IDS,
    ODD,
    st.lists(st.one_of(st.integers(-101, 14), ODD), max_size=5),
    st.lists(st.lists(st.integers(0, 5), max_size=2), max_size=2),
)
COLUMNS = st.sampled_from(["prefix_ids", "target_ids", "target_positions"])
ODD_ROW = st.one_of(
    ROW, st.dictionaries(COLUMNS, ODD_IDS), st.tuples(ROW, COLUMNS, ODD_IDS).map(lambda r: {**r[0], r[1]: r[2]}), ODD
)
WORDS = ("prefix_ids", "target_ids", "target_positions", "example")


def sound(batch, rows):
    """The labels are the targets, and columns belong together."""
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert ids.shape == mask.shape == labels.shape
    assert len(ids) == len(rows)
    assert ids.min() >= 0
    for label, row in zip(labels.tolist(), rows, strict=True):
        assert [i for i in label if i != -100] == list(row["target_ids"])


@fuzz(800, rows=st.lists(ROW, min_size=1, max_size=4), reverse=st.booleans())
def test_layout(rows, reverse):
    """Catches: a row that loses a token, or gains one, by padding."""
    parts = layout(rows, 14, reverse)
    for i, row in enumerate(rows):
        assert parts["prefix_ids"][i][parts["prefix_mask"][i].bool()].tolist() == row["prefix_ids"]
        step = -1 if reverse else 1
        for name in ("target_ids", "target_positions"):
            assert [k for k in parts[name][i].tolist() if k != -100] == row[name][::step]


@fuzz(800, rows=st.lists(ODD_ROW, max_size=3), teacherless=st.booleans())
def test_odd_rows(rows, teacherless, tokenizer):
    """Catches: 1.5 that becomes token 1, -100 that drops a label, a missing column that is a KeyError, positions of
    another length."""
    collate = (TeacherlessCollator if teacherless else NextTokenCollator)(tokenizer)
    batch = accepted(lambda: collate(rows), *WORDS)
    if batch is not None:
        sound(batch, rows)


@pytest.fixture(scope="module")
def models(tiny_model, tokenizer_for):
    """Each objective with a tiny model that has its modules."""

    def make(name):
        cls = find_objective(name)
        known = tokenizer_for(cls)
        objective, model = cls.from_tokenizer(known), tiny_model("gpt2", known=known)
        objective.attach(model)
        return objective, model

    return {name: make(name) for name in OBJECTIVES}


@fuzz(360, name=st.sampled_from(list(OBJECTIVES)), rows=st.lists(ROW, min_size=1, max_size=3))
def test_every_objective(name, rows, models):
    """Catches: rows of one token, of different lengths, that break an objective or give a loss that is no number."""
    objective, model = models[name]
    batch = objective.collate(rows)
    with torch.no_grad():
        loss = objective.loss(model, batch)
    assert torch.isfinite(loss.sum)
    lengths = [len(row["target_ids"]) for row in rows]
    assert 0 < int(loss.count) <= sum(length + objective.added_columns(length) for length in lengths)
    assert int(loss.count) == int(batch["labels"].ne(-100).sum())


@fuzz(
    240,
    name=st.sampled_from(list(OBJECTIVES)),
    length=st.one_of(st.integers(-1, 4), st.integers(58, 70), st.just(10**9)),
    prefix=IDS,
)
def test_decode(name, length, prefix, models):
    """Catches: lengths of nothing, or beyond the model's positions, that end in an IndexError or come back as
    something else."""
    objective, model = models[name]
    if 5 <= length <= 64 - len(prefix):
        length = 4
    ids = accepted(lambda: objective.decode(model, torch.tensor([prefix]), length), "length", "sequences")
    assert (ids is not None) == (1 <= length <= 4)
    assert ids is None or ids.shape == (1, length)


OPTIONS = ["order", "positions", "share", "rate", "window", "weight", "heads", "horizon", "smooth_weight", "kl_weight"]
OPTIONS += ["time_weight", "unmasking", "noise", "vocabulary", "spans", "replaced"]
OPTIONS += ["max_distance", "steps", "alpha", "gamma", "pair_fraction", "pad_token_id", "dummy_token_id", "unknown"]
OPTIONS += ["min_distance", "prompt_attention", "ce_weight", "projection_factor"]
OPTIONS += ["chance", "open_token_id", "close_token_id", "teacher"]
HUGE = st.sampled_from([2, 3, 10**6, 10**9, 0.5, float("nan"), float("inf"), True])


@fuzz(
    1500,
    name=st.sampled_from(list(OBJECTIVES)),
    options=st.dictionaries(st.sampled_from(OPTIONS), st.one_of(HUGE, ODD), max_size=2),
)
def test_options(name, options, tokenizer_for):
    """Catches: nan, inf or True taken for a number, and an option that breaks only later."""
    cls = find_objective(name)
    objective = accepted(
        lambda: cls.from_tokenizer(tokenizer_for(cls), **options), *options, *options.values(), "positions"
    )
    if objective is not None:
        assert read_objective(objective.to_dict()) == objective


@fuzz(
    120,
    name=st.sampled_from(list(OBJECTIVES)),
    option=st.sampled_from(["window", "horizon", "max_distance"]),
    size=st.integers(6, 10**9),
    rows=st.lists(ROW, min_size=1, max_size=2),
)
def test_huge_options(name, option, size, rows, models):
    """Catches: a window or horizon beyond the target that is walked to its end, fills the memory, or changes the loss
    by rounding."""
    objective, model = models[name]
    if option not in objective.to_dict():
        option, size = "order", "forward"
    huge = type(objective)(**{**vars(objective), option: size})
    enough = type(objective)(**{**vars(objective), option: 12 if option != "order" else "forward"})
    losses = []
    for one in (huge, enough):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(one.loss(model, one.collate(rows)).sum)
    assert torch.allclose(*losses)
