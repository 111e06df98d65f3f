"""Knobs of tasks, of the builder and of `load_dataset`: whatever is given, a value that works or one clear refusal."""

import itertools

import datasets
import numpy as np
from fuzzing import ODD, ODD_INTEGERS, accepted, fuzz
from hypothesis import strategies as st

from nt_failures.data.builder import PathStarBuilder, _shards
from nt_failures.data.task_config import TaskConfig
from nt_failures.tasks.path_star import PathStar

KNOBS = {name: st.one_of(ODD_INTEGERS, ODD) for name in ("degree", "path_length", "num_nodes")}
ROWS = st.one_of(ODD_INTEGERS, ODD)


@fuzz(2000, **KNOBS)
def test_task(degree, path_length, num_nodes):
    """Catches: a knob that is no whole number and is taken, a huge one that hangs, a refusal without the value."""
    task = accepted(lambda: PathStar(degree, path_length, num_nodes), "degree", "path_length", "num_nodes")
    if task is not None:
        assert 1 + degree * (path_length - 1) == 1 + task.num_edges <= num_nodes <= 2**20
        assert task.num_edges <= 43_690


SIZES = st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(0, 8)).map(
    lambda k: PathStar(k[0], k[1], max(2, 1 + k[0] * (k[1] - 1) + k[2]))
)


@fuzz(600, task=SIZES, seed=st.integers(0, 2**70), rows=st.integers(0, 3))
def test_what_is_drawn_is_read_back(task, seed, rows):
    """Catches: text that parses to another graph, a path that is not the one the graph has, a judge that disagrees."""
    columns = task.sample(np.random.default_rng(seed), rows)
    text = task.render(columns)
    prompts, completions = text["prompt"].to_list(), text["completion"].to_list()
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        row = task.parse(prompt + completion)
        assert row["edges"] == [tuple(edge) for edge in columns["edges"][i].tolist()]
        assert (row["source"], row["goal"], row["path"]) == (
            columns["source"][i],
            columns["goal"][i],
            columns["path"][i].tolist(),
        )
        assert task.read_answer(completion) == row["path"]
    assert task.judge(columns, columns["path"].tolist())["exact"].all()


@fuzz(
    800,
    knobs=st.dictionaries(
        st.sampled_from(["num_train", "num_validation", "num_test", "seed", "overlap"]),
        st.one_of(ROWS, st.sampled_from(["allow", "forbid", "Forbid"])),
        min_size=1,
    ),
)
def test_config(knobs):
    """Catches: rows, seeds or an overlap of a wrong kind that only fail in a worker, or that make a cache of their
    own."""
    config = accepted(lambda: TaskConfig(task=PathStar(), **knobs), *knobs, *knobs.values())
    if config is not None:
        assert all(type(count) is int and count > 0 for count in config.num_rows.values() if count is not None)
        assert config.create_config_id({})


@fuzz(300, count=st.integers(1, 10**30))
def test_shards_are_bounded(count):
    """Catches: a list of shards that grows with the number of rows, rows that no shard holds, rows in two of them."""
    shards = _shards(count)
    assert len(shards) <= 6720
    assert (shards[0].start, shards[-1].stop) == (0, -(-count // 4096))
    assert all(a.stop == b.start for a, b in itertools.pairwise(shards))


NAMES = st.sampled_from(
    ["degree", "path_length", "num_nodes", "num_train", "num_test", "seed", "overlap", "degre", "x"]
)


@fuzz(
    300,
    config=st.one_of(st.none(), ODD, st.sampled_from(["deg2-path5-nodes50", "deg2"])),
    knobs=st.dictionaries(NAMES, ODD),
)
def test_builder(config, knobs, tmp_path_factory):
    """Catches: a config or knob of any kind that ends in something else than a ValueError that names it."""
    cache = str(tmp_path_factory.getbasetemp())
    words = (*knobs, *knobs.values(), config)
    builder = accepted(lambda: PathStarBuilder(cache, config_name=config, **knobs), *words)
    assert builder is None or builder.info.features["edges"] is not None


@fuzz(40, knobs=st.dictionaries(NAMES, ODD, min_size=1, max_size=2))
def test_load_dataset(knobs):
    """Catches: what the builder refuses, and `load_dataset` drops or wraps."""
    words = (*knobs, *knobs.values())
    small = {"num_train": 2, "num_test": 0, "streaming": True}
    stream = accepted(lambda: datasets.load_dataset("nt_failures/pathstar", **{**small, **knobs}), *words)
    assert stream is None or set(stream) <= {"train", "test"}


@fuzz(
    400,
    seed=st.one_of(st.integers(-2, 5), ODD),
    split=st.one_of(st.sampled_from(["train", "test", "validation"]), ODD),
    index=st.one_of(st.integers(-2, 3), st.just(10**30), ODD),
    overlap=st.one_of(st.sampled_from(["allow", "forbid"]), ODD),
)
def test_block(seed, split, index, overlap):
    """Catches: an argument of `Task.block` that NumPy refuses in its own words, or takes for another one."""
    columns = accepted(lambda: PathStar(2, 2, 50).block(seed, split, index, overlap), seed, split, index, overlap)
    assert columns is None or len(columns["path"]) == 4096
