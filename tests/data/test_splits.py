"""The splits that examples/train.py trains on: the same rows by every route."""

import dataclasses
import itertools
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
from plain_rows import plain_rows

from nt_failures.data.splits import builder_of, load_splits
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.siblings import Siblings

TASK = PathStar(2, 3, 10)


@dataclasses.dataclass(frozen=True)
class Unregistered(PathStar):
    """A user's task: it has no builder."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


def sizes(splits):
    return {name: rows.num_rows for name, rows in splits.items()}


def write_lines(path, task, columns):
    """A text file of these rows."""
    texts = [column.to_list() for column in task.texts(columns).values()]
    path.write_text("\n".join(map("".join, zip(*texts, strict=True))))
    return str(path)


def test_counts_are_those_asked_for():
    """Catches: counts given to the wrong split."""
    assert sizes(load_splits(TASK, num_train=30, num_validation=20, num_test=10)) == {
        "train": 30,
        "validation": 20,
        "test": 10,
    }


def test_a_task_without_a_builder_gets_the_same_rows():
    """Catches: the generator route drawing other rows, or other splits, than the builder."""
    counts = {"num_train": 8, "num_validation": 4, "num_test": 4, "seed": 3}
    own, registered = load_splits(Unregistered(2, 3, 10), **counts), load_splits(TASK, **counts)
    for name, rows in registered.items():
        assert own[name].to_list() == rows.to_list()


def test_streaming_begins_like_the_fixed_split_and_goes_on():
    """Catches: a stream of other rows, and one that ends with the fixed split's num_train."""
    counts = {"num_train": 5, "num_validation": 2, "num_test": 2}
    fixed, stream = load_splits(TASK, **counts), load_splits(TASK, **counts, streaming=True)
    rows = list(itertools.islice(stream["train"], 5000))
    assert rows[:5] == fixed["train"].to_list()
    assert len(rows) == 5000
    assert stream["train"].num_shards > 64
    assert stream["test"].to_list() == fixed["test"].to_list()


def test_streaming_without_a_builder():
    """Catches: a user's task that cannot be streamed."""
    stream = load_splits(Unregistered(2, 3, 10), num_validation=2, num_test=2, streaming=True)["train"]
    expected = load_splits(TASK, num_train=3, num_validation=2, num_test=2)["train"]
    assert list(itertools.islice(stream, 3)) == expected.to_list()


def test_a_stream_of_an_own_task_is_cut_and_resumed_like_ours():
    """Catches: one shard for all nodes and workers, a resumed run that repeats rows or draws them all again."""
    own, ours = (load_splits(t, num_validation=2, num_test=2, streaming=True)["train"] for t in (Unregistered(), TASK))
    assert own.num_shards == ours.num_shards > 64
    shard = own.shard(num_shards=own.num_shards, index=1)
    rows = list(itertools.islice(shard, 4200))
    iterator = iter(shard)
    for _ in range(4150):
        next(iterator)
    other = load_splits(Unregistered(), num_validation=2, num_test=2, streaming=True)["train"]
    resumed = other.shard(num_shards=own.num_shards, index=1)
    resumed.load_state_dict(shard.state_dict())
    assert list(itertools.islice(resumed, 50)) == rows[4150:]
    assert rows[0] not in list(itertools.islice(own, 4200))


def test_processes_build_the_rows_of_an_own_task(tmp_path):
    """Catches: num_proc without effect, or other rows with it."""
    task, counts = Unregistered(2, 3, 10), {"num_train": 9000, "num_validation": 2, "num_test": 2}
    train = load_splits(task, **counts, num_proc=2)["train"]
    assert len(train.cache_files) == 2
    assert train.to_list() == list(plain_rows(task, num_rows=9000))


@dataclasses.dataclass(frozen=True)
class Named(PathStar):
    """Fields with names that builders have; a config_name that does not tell them apart."""

    seed: int = 0
    name: str = "x"
    split: str = "train"
    num_train: int = 0

    config_name = "mine"

    def render(self, columns):
        prompts = [f"{self.name}→{self.seed}: {prompt}" for prompt in super().render(columns)["prompt"].to_list()]
        return {"prompt": prompts}


def test_fields_of_any_name():
    """Catches: a field that is taken for a parameter of the data set; two sizes that share one cache folder."""
    counts = {"num_train": 3, "num_validation": 1, "num_test": 1}
    for task in (Named(seed=7, name="a"), Named(seed=8, name="b")):
        rows = load_splits(task, **counts)
        assert {len(rows["train"]), len(rows["test"])} == {3, 1}
        assert rows["train"][2]["prompt"].startswith(f"{task.name}→{task.seed}: ")


def test_ten_rows_cost_ten_rows(monkeypatch):
    """Catches: a block of 4,096 that is drawn or written as text for ten rows, of a split or of a stream."""
    block, render, drawn, rendered = Unregistered.block, Unregistered.render, [], []
    monkeypatch.setattr(Unregistered, "block", lambda *given, rows: drawn.append(rows) or block(*given, rows))
    monkeypatch.setattr(Unregistered, "render", lambda *given: rendered.append(len(given[1]["path"])) or render(*given))
    counts = {"num_train": 10, "num_validation": 1, "num_test": 1}
    load_splits(Unregistered(), **counts)
    assert max(drawn) == max(rendered) == 10
    stream = load_splits(Unregistered(), **counts, streaming=True)["train"]
    assert len(list(stream.take(10))) == 10
    assert max(drawn) == 512
    assert max(rendered) == 512 - 64


def test_large_graphs():
    """Catches: an OverflowError for graphs of which there are more than a float can count."""
    assert sizes(load_splits(PathStar(60, 5, 500), num_train=2, num_validation=1, num_test=1))["train"] == 2


def test_a_task_that_cannot_be_pickled():
    """Catches: a traceback of pickle's for a class of a script that names what no pickle can hold."""
    numbers = (number for number in range(9))

    @dataclasses.dataclass(frozen=True)
    class Odd(PathStar):
        def sample(self, rng, n):
            return super().sample(np.random.default_rng(next(numbers)), n)

    with pytest.raises(ValueError, match=r"^Odd cannot be pickled \(.*generator.*\).*; define it in a file of its own"):
        load_splits(Odd(), num_train=2, num_validation=1, num_test=1)


SCRIPT = """
import dataclasses, datasets, numpy as np
import nt_failures as ntf
from nt_failures.data.splits import load_splits
import my_edges
from my_edges import first

LIMIT = 1

def shown(edges):
    return edges[:, ::my_edges.STEP] + 0 * first(LIMIT)

@dataclasses.dataclass(frozen=True)
class Mine(ntf.PathStar):
    def sample(self, rng, n):
        graphs = super().sample(rng, n)
        assert graphs.keys() >= {"edges", "source", "goal"}  # a set, whose order is another in each process
        return {**graphs, "edges": shown(graphs["edges"])}

rows = load_splits(Mine(), num_train=5000, num_validation=1, num_test=1, num_proc=2)["train"]
print(rows[4999]["edges"][0], rows.cache_files[0]["filename"])
"""


@pytest.mark.slow
def test_a_task_of_a_piped_script(tmp_path):
    """Catches: an error where a class has no file; rows of the code of before, or a cache that is never found."""

    def run(script, step):
        (tmp_path / "my_edges.py").write_text(f"STEP = {step}\n\ndef first(x):\n    return x\n")
        env = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-"]
        done = subprocess.run(command, input=script, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, again = run(SCRIPT, 1), run(SCRIPT, 1)
    others = [run(SCRIPT, -1), run(SCRIPT.replace("LIMIT = 1", "LIMIT = 2"), 1), run(SCRIPT + "# the same\n", 1)]
    assert first == again == others.pop()
    assert first.split("]")[0] != others[0].split("]")[0]
    assert len({first, *others}) == 3
    assert str(builder_of(Unregistered()).cache_dir).startswith(str(tmp_path))


def test_overlap_and_seed_reach_the_rows():
    """Catches: parameters that are accepted and dropped."""
    counts = {"num_train": 50, "num_validation": 2, "num_test": 2}
    base = load_splits(TASK, **counts)["train"]["prompt"]
    assert load_splits(TASK, **counts, seed=1)["train"]["prompt"] != base
    assert load_splits(TASK, **counts, overlap="allow")["train"]["prompt"] != base


def test_new_answers_need_splits_that_are_apart(tmp_path):
    """Catches: "of no train row" said of triples that train has, as its rows are of all splits, or of another's."""
    task = Siblings()
    with pytest.raises(ValueError, match="leave overlap out"):
        load_splits(task, num_train=10, num_validation=0, num_test=10, overlap="allow")
    train, validation = (
        write_lines(tmp_path / f"{name}.txt", task, task.block(seed=1, split=name, index=0, rows=20))
        for name in ("train", "validation")
    )
    sizes = {"num_train": 20, "num_validation": 0, "num_test": 10}
    with pytest.raises(ValueError, match="20 of 20 rows of train have answers of another split"):
        load_splits(task, **sizes, files={"train": validation})
    assert len(load_splits(task, **sizes, files={"train": train})["train"]) == 20


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("other_goal", [False, True])
def test_files_that_are_not_apart_from_train(split, other_goal, tmp_path):
    """Catches: a validation file with problems of train; one with its graphs and other goals, of which train tells."""
    columns = TASK.block(0, "train", 0, rows=20)
    if other_goal:  # the other arm of the same graph
        path = TASK.detours(columns, np.random.default_rng(0)).astype(np.int32)
        columns = {**columns, "path": path, "goal": path[:, -1]}
    given = {"num_train": 20, "num_validation": 10, "num_test": 10, f"num_{split}": 20}
    given["files"] = {split: write_lines(tmp_path / "rows.txt", TASK, columns)}
    with pytest.raises(ValueError, match=f"20 of 20 rows of {split} pose a problem of train, or one that a row of"):
        load_splits(TASK, **given)
    assert len(load_splits(TASK, **given, overlap="allow")[split]) == 20
