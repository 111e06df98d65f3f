"""`load_dataset("nt_failures/pathstar")` and the builder behind it."""

import dataclasses
import functools
import importlib
import itertools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_dataset_builder
from torch.utils.data import DataLoader

import nt_failures
from nt_failures.data import registration
from nt_failures.data.builder import PathStarBuilder, TaskBuilder
from nt_failures.data.task_config import TaskConfig
from nt_failures.tasks._text import Text
from nt_failures.tasks.base import Task
from nt_failures.tasks.path_star import PathStar

NAME = "nt_failures/pathstar"
COLUMNS = ["edges", "source", "goal", "path", "prompt", "completion"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing here may need a connection: a name that reaches the Hub fails at once."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a connection to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def load(tmp_path):
    return functools.partial(load_dataset, NAME, cache_dir=str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    """The cache folder that given parameters lead to; builds nothing."""
    return lambda *name, **given: load_dataset_builder(NAME, *name, cache_dir=str(tmp_path), **given).cache_dir


def _remains(path):
    """What a failed build left below a cache: any file but the locks of `datasets`, any unfinished folder."""
    found = Path(path).rglob("*")
    return [p for p in found if p.suffix == ".incomplete" or (p.is_file() and p.suffix != ".lock")]


def _instances(rows):
    return {
        (frozenset(graph.split("|")), query) for graph, query in (prompt.split("/") for prompt in list(rows["prompt"]))
    }


# Rows ----------------------------------------------------------------------------------------------------------------


def test_default_is_the_papers_data_set(load):
    """Catches: other default sizes, types or columns; a row of train that is also in test; a changed first row."""
    rows = load()
    assert {split: len(part) for split, part in rows.items()} == {"train": 200_000, "test": 20_000}
    assert rows["train"].column_names == COLUMNS
    assert rows["train"].info.config_name == "deg2-path5-nodes50"
    assert str(rows["train"].info.version) == PathStar.VERSION
    integer = datasets.Value("int32")
    assert rows["train"].features == {
        "edges": datasets.List(datasets.List(integer)),
        "source": integer,
        "goal": integer,
        "path": datasets.List(integer),
        "prompt": datasets.Value("string"),
        "completion": datasets.Value("string"),
    }
    assert rows["train"][0] == {
        "edges": [[15, 44], [8, 43], [42, 31], [42, 35], [43, 45], [6, 15], [35, 8], [31, 6]],
        "source": 42,
        "goal": 44,
        "path": [42, 31, 6, 15, 44],
        "prompt": "15,44|8,43|42,31|42,35|43,45|6,15|35,8|31,6/42,44=",
        "completion": "42,31,6,15,44",
    }


def test_text_and_columns_of_a_row_agree(load):
    """Catches: text that is one row off; a block whose last rows are cut in one column only."""
    rows = load(num_train=5000, num_test=0)["train"]
    for row in rows.select([0, 4095, 4096, 4999]):
        read = PathStar().parse(row["prompt"] + row["completion"])
        assert [list(edge) for edge in read["edges"]] == row["edges"]
        assert (read["source"], read["goal"], read["path"]) == (row["source"], row["goal"], row["path"])


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """9000 rows, two blocks and a part of a third, built in one process."""
    cache = str(tmp_path_factory.mktemp("serial"))
    return load_dataset(NAME, split="train", cache_dir=cache, num_train=9000, num_test=1)


def test_rows_come_from_their_block(serial):
    """Catches: rows that depend on how many are asked for. Row i is row i % 4096 of block i // 4096."""
    task = PathStar()
    for block in range(3):
        columns = task.block(0, "train", block)
        part = serial.with_format("numpy")[4096 * block : 4096 * (block + 1)]
        for name, column in columns.items():
            assert np.array_equal(part[name], column[: len(part[name])])


def test_processes_do_not_change_rows(load, serial):
    """Catches: a random stream per process; shards put together in the order in which they were ready."""
    parallel = load(split="train", num_train=9000, num_test=1, num_proc=2)
    assert len(parallel.cache_files) == 2, "the work was not divided"
    assert parallel.to_dict() == serial.to_dict()


def test_subsets_are_prefixes(load, serial):
    """Catches: num_train that enters the random stream."""
    assert load(split="train", num_train=1000, num_test=0).to_dict() == serial[:1000]
    assert load(split="train[:1000]", num_train=9000, num_test=1).to_dict() == serial[:1000]
    assert load(split="train[4000:4200]", num_train=9000, num_test=1).to_dict() == serial[4000:4200]


def test_streams_give_the_same_rows(load, serial):
    """Catches: a stream of its own for streaming; a last block that is not cut; shards that overlap."""
    stream = load(split="train", num_train=9000, num_test=1, streaming=True)
    assert stream.num_shards == 3
    assert list(stream) == serial.to_list()
    shards = [list(stream.shard(num_shards=2, index=i)) for i in range(2)]
    assert shards[0] + shards[1] == serial.to_list()


def test_workers_share_the_rows(load, serial):
    """Catches: a builder that cannot be sent to a worker; workers that all read everything."""
    stream = load(split="train", num_train=9000, num_test=1, streaming=True).select_columns(["prompt"])
    read = [row["prompt"] for row in DataLoader(stream, batch_size=None, num_workers=2)]
    assert sorted(read) == sorted(serial["prompt"])


def test_endless_stream(load, serial):
    """Catches: an end; other rows than the finite split's; shards, workers or a resumed run that repeat rows."""
    stream = load(split="train", num_train=None, streaming=True)
    rows = list(stream.take(9000))
    assert rows == serial.to_list()
    second = next(iter(stream.shard(num_shards=2, index=1)))
    assert second not in rows
    iterator = iter(stream)
    for _ in range(4100):
        next(iterator)
    state = stream.state_dict()
    resumed = load(split="train", num_train=None, streaming=True)
    resumed.load_state_dict(state)
    assert next(iter(resumed)) == rows[4100] == next(iterator)


def test_endless_stream_divides_among_nodes_and_workers(load):
    """Catches: one shard only, so that each of 8 processes draws everything and drops 7/8 of it."""
    stream = load(split="train", num_train=None, streaming=True)
    assert all(stream.num_shards % nodes == 0 for nodes in (2, 3, 4, 5, 6, 7, 8, 16, 32, 64))
    loader = DataLoader(stream.select_columns(["prompt"]), batch_size=None, num_workers=2)
    read = [row["prompt"] for row in itertools.islice(loader, 200)]
    assert len(set(read)) == 200


def test_huge_finite_stream_is_cheap(load):
    """Catches: one shard per block, of which a trillion rows have 244 million."""
    stream = load(split="train", num_train=10**12, streaming=True)
    assert stream.num_shards <= 6720
    assert next(iter(stream))["source"] == 42  # as in the set of 200,000


# Splits --------------------------------------------------------------------------------------------------------------


def test_splits_of_all_seeds_are_disjoint(load):
    """Catches: disjointness within one call only. The space is so small (117,600) that chance would share hundreds."""
    size = {"degree": 2, "path_length": 2, "num_train": 8000, "num_validation": 4000, "num_test": 4000}
    splits = {(seed, name): _instances(part) for seed in (0, 1) for name, part in load(**size, seed=seed).items()}
    assert len(splits) == 6
    for (seed, name), mine in splits.items():
        for (other_seed, other_name), other in splits.items():
            assert name == other_name or not mine & other, (seed, name, other_seed, other_name)
    assert splits[0, "train"] != splits[1, "train"]


def test_overlap_allow_is_the_originals_behaviour(load):
    """Catches: an `overlap` that does not reach the task."""
    rows = load("deg2-path3-nodes10", num_train=8000, num_test=4000, overlap="allow")
    assert _instances(rows["train"]) & _instances(rows["test"])


def test_empty_splits_are_left_out(load):
    """Catches: a split of no rows, which many consumers cannot read, or a split cut to a whole block."""
    assert {name: len(part) for name, part in load(num_train=10, num_test=0).items()} == {"train": 10}
    assert {name: len(part) for name, part in load(num_train=0, num_validation=1, num_test=5000).items()} == {
        "validation": 1,
        "test": 5000,
    }


# Configs and cache ---------------------------------------------------------------------------------------------------


def test_named_configs():
    """Catches: a missing size of the released data; another default."""
    assert datasets.get_dataset_config_names(NAME) == [
        "deg2-path2-nodes50",
        "deg2-path3-nodes10",
        "deg2-path3-nodes50",
        "deg2-path5-nodes50",
        "deg3-path3-nodes50",
        "deg5-path3-nodes50",
        "deg5-path5-nodes50",
        "deg10-path5-nodes50",
        "deg20-path5-nodes100",
        "mixed",
    ]
    assert datasets.get_dataset_default_config_name(NAME) == "deg2-path5-nodes50"
    assert datasets.get_dataset_split_names(NAME, "deg3-path3-nodes50") == ["train", "test"]


def test_graphs_of_several_sizes(load):
    """Catches: a range that is lost in `load_dataset`; columns whose lists differ in length; paths without an end."""
    mixed = load("mixed", num_train=50, num_test=5)["train"]
    assert {len(row) for row in mixed["edges"]} == {70}
    assert {len(text.split(" .")) for text in mixed["completion"]} == {2, 3, 4, 5, 6, 7}
    given = load(degree=(2, 10), path_length=[3, 8], num_nodes=100, num_train=50, num_test=5)["train"]
    assert given["prompt"] == mixed["prompt"]


def test_one_data_set_has_one_folder(folder):
    """Catches: a second copy on disk for parameters that say the same in other words."""
    default = folder()
    assert "/nt_failures___pathstar/deg2-path5-nodes50/2.0.0/" in default
    assert folder("deg2-path5-nodes50") == default
    assert folder(degree=2, path_length=5, num_nodes=50) == default
    assert folder(num_train=200_000, num_test=20_000, num_validation=0, seed=0, overlap="forbid") == default
    assert folder("deg10-path5-nodes50", degree=2) == default
    assert folder(prompt_style="text") == folder("deg2-path5-nodes50-chat", prompt_style="text") == default
    assert folder(prompt_style="chat") == folder("deg2-path5-nodes50-chat") != default
    assert folder(seed=np.int64(0), degree=np.int64(2)) == default
    assert folder(degree=10) == folder("deg10-path5-nodes50") != default
    assert folder(num_train=7, seed=3) == folder(seed=np.int64(3), num_train=np.int64(7))


def test_other_data_has_another_folder(folder):
    """Catches: a parameter that the cache does not see, so that old rows come back."""
    changes = [{}, {"degree": 3}, {"path_length": 4}, {"num_nodes": 51}, {"num_train": 7}, {"num_test": 7}]
    changes += [{"num_validation": 7}, {"seed": 7}, {"overlap": "allow"}, {"num_train": None}, {"seed": 8}]
    changes += [{"prompt_style": "chat"}, {"prompt_style": "chat", "seed": 7}]
    assert len({folder(**parameters) for parameters in changes}) == len(changes)


def test_parameters_over_a_named_config(load):
    """Catches: a named config that hides parameters, or a config name that lies about the size."""
    rows = load("deg3-path3-nodes50", num_nodes=60, num_train=20, num_test=0)["train"]
    assert rows.info.config_name == "deg3-path3-nodes60"
    assert {len(edges) for edges in rows["edges"]} == {6}


def test_second_call_draws_nothing(load, monkeypatch):
    """Catches: a cache that is never found."""
    first = load(num_train=20, num_test=10)
    monkeypatch.setattr(PathStar, "block", None)  # a call would fail
    again = load(num_train=20, num_test=10)
    assert again["train"].to_dict() == first["train"].to_dict()
    assert again["train"]._fingerprint == first["train"]._fingerprint


CODE = (
    "tasks.base",
    "tasks._derived",
    "tasks.path_star",
    "tasks._sampling",
    "tasks._text",
    "data.builder",
    "data.compat",
)


@pytest.mark.parametrize("module", [f"nt_failures.{name}" for name in CODE])
def test_changed_code_has_another_folder(folder, monkeypatch, module):
    """Catches: rows of old code served from the cache."""
    before, read, changed = folder(), Path.read_bytes, Path(sys.modules[module].__file__)
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    assert folder() != before


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "given", "repair"),
    [
        ({"degree": 0}, "degree=0", "degree >= 1"),
        ({"degree": None}, "degree=None", "degree >= 1"),
        ({"path_length": 1}, "path_length=1", "path_length >= 2"),
        ({"degree": 20}, "num_nodes=50", "num_nodes >= 81"),
        ({"num_train": -1}, "num_train=-1", "num_train >= 0"),
        ({"num_train": "x"}, "num_train='x'", ">= 0"),
        ({"num_train": 10.0}, "num_train=10.0", ">= 0"),
        ({"num_test": None}, "num_test=None", ">= 0"),
        ({"num_train": 0, "num_test": 0}, "num_train=0", "give one of them rows"),
        ({"seed": -1}, "seed=-1", "seed >= 0"),
        ({"seed": True}, "seed=True", ">= 0"),
        ({"overlap": "no"}, "overlap='no'", "'forbid'"),
        ({"prompt_style": "messages"}, "prompt_style='messages'", "give one of 'text', 'chat'"),
        ({"name": "deg2-path5-chat"}, "'deg2-path5-chat'", "Known: deg2-path2-nodes50"),
        ({"degre": 3}, "'degre'", "Did you mean 'degree'?"),
        ({"path_len": 3}, "'path_len'", "Did you mean 'path_length'?"),
        ({"num_tests": 3}, "'num_tests'", "Did you mean 'num_test'?"),
        ({"zzz": 3}, "'zzz'", "Known: degree, path_length, num_nodes, num_train"),
        ({"task": PathStar()}, "'task'", "Known: degree"),
        ({"version": "2.0.0"}, "'version'", "Known: degree"),
        ({"name": "deg2-path5-nodes5"}, "'deg2-path5-nodes5'", "Did you mean 'deg2-path5-nodes50'?"),
        ({"features": datasets.Features({"a": datasets.Value("string")})}, "features=", "cast"),
        ({"data_files": "rows.csv"}, "data_files='rows.csv'", "leave data_files out"),
        ({"revision": "main"}, "revision='main'", "leave revision out"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_bad_parameters(load, tmp_path, parameters, given, repair, streaming):
    """Catches: a typo that is ignored, an error that does not help, a half-written folder that the next call finds."""
    with pytest.raises(ValueError) as error:
        load(**parameters, streaming=streaming)
    assert given in str(error.value)
    assert repair in str(error.value)
    assert _remains(tmp_path) == []


def test_endless_needs_streaming(load, tmp_path):
    """Catches: a disk filled up, or None taken for the default number of rows."""
    with pytest.raises(ValueError, match=r"num_train=None.*streaming=True"):
        load(num_train=None)
    assert _remains(tmp_path) == []


@pytest.mark.parametrize("streaming", [False, True])
def test_tiny_space_leaves_no_folder(load, tmp_path, streaming):
    """Catches: `DatasetGenerationError` instead of the reason, and rows of a first split left behind."""
    with pytest.raises(ValueError, match="overlap='allow'"):
        load(degree=1, path_length=2, num_nodes=2, num_train=10, num_validation=10, num_test=0, streaming=streaming)
    assert _remains(tmp_path) == []


def test_ten_rows_do_not_cost_a_block(load, monkeypatch):
    """Catches: thousands of rows written as text for ten."""
    render, rendered = PathStar.render, []
    monkeypatch.setattr(PathStar, "render", lambda *given: rendered.append(len(given[1]["path"])) or render(*given))
    assert len(load(split="train", num_train=10, num_test=5)) == 10
    assert max(rendered) == 10


# Ways in -------------------------------------------------------------------------------------------------------------


def test_class_form_is_the_same_data_set(load, tmp_path):
    """Catches: a class that needs `load_dataset`, or that has another cache."""
    builder = PathStarBuilder(cache_dir=str(tmp_path), degree=3, num_train=50, num_test=20)
    builder.download_and_prepare()
    rows = builder.as_dataset()
    other = load(degree=3, num_train=50, num_test=20)
    assert {name: part.to_dict() for name, part in rows.items()} == {n: part.to_dict() for n, part in other.items()}
    assert rows["train"].cache_files == other["train"].cache_files
    named = PathStarBuilder(cache_dir=str(tmp_path), config_name="deg2-path3-nodes10")
    assert named.config == TaskConfig(task=PathStar(2, 3, 10))


def test_parquet_for_the_hub(tmp_path):
    """Catches: tables that only Arrow files can hold; the publishers write Parquet."""
    builder = PathStarBuilder(cache_dir=str(tmp_path / "cache"), num_train=50, num_test=20)
    builder.download_and_prepare(str(tmp_path / "out"), file_format="parquet")
    table = pq.read_table(tmp_path / "out" / "pathstar-train.parquet")
    assert table.column_names == COLUMNS
    assert table.num_rows == 50


def test_the_page_says_what_a_forgotten_import_looks_like(tmp_path):
    """Catches: an error that the page does not name, after a new version of `datasets`."""
    page = (Path(nt_failures.__file__).parent / "data" / "README.md").read_text(encoding="utf-8")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    env.pop("HF_DATASETS_CACHE", None)
    call = "from datasets import load_dataset; load_dataset('nt_failures/pathstar', num_train=2, num_test=0)"
    said = []
    for imported in ("", "import nt_failures;", ""):
        done = subprocess.run([sys.executable, "-c", imported + call], env=env, capture_output=True, text=True)
        said += [line for line in done.stderr.splitlines() if re.match(r"\w+Error: ", line)]
    assert len(said) == 2
    assert f"`{said[0].split(' (')[0]}`" in page
    assert f"`{said[1].split(' for config')[0]}`" in page


def test_other_names_pass_through():
    """Catches: a wrapper that changes, drops or names anew an argument of other data sets."""
    calls = []
    factory = registration._with_builders(lambda *args, **kwargs: calls.append((args, kwargs)) or "theirs")
    assert factory("their/pathstars", "main", data_dir="x", token=False) == "theirs"
    assert factory("csv") == "theirs"
    assert calls == [(("their/pathstars", "main"), {"data_dir": "x", "token": False}), (("csv",), {})]


def test_other_data_sets_still_load(tmp_path):
    """Catches: a broken `load_dataset` for everybody else."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("a,b\n1,2\n")
    rows = load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert rows["train"].to_list() == [{"a": 1, "b": 2}]


def test_reloading_wraps_once():
    """Catches: one more layer for each reload, and the endless recursion that a wrapped wrapper can become."""
    modules = [importlib.import_module(name) for name in ("datasets.load", "datasets.inspect")]
    before = [module.dataset_module_factory for module in modules]
    assert [function.__module__ for function in before] == ["nt_failures.data.registration"] * 2
    importlib.reload(registration)
    importlib.reload(nt_failures)
    registration.register()
    assert [module.dataset_module_factory for module in modules] == before
    assert len(datasets.get_dataset_config_names(NAME)) == 10


@dataclasses.dataclass(frozen=True)
class _Sum(Task):
    """Another task, with other columns: the sum of `count` digits."""

    count: int = 3
    config_name = property(lambda self: f"count{self.count}")
    symbols = property(lambda self: [*map(str, range(10 * self.count)), "+", "=", self.DUMMY])
    answer_length = property(lambda self: 1)
    chance = property(lambda self: 0.1)

    def sample(self, rng, n):
        digits = rng.integers(0, 10, size=(n, self.count), dtype=np.int16)
        return {"digits": digits, "sum": digits.sum(axis=1), "answer": digits.sum(axis=1, dtype=np.int64)[:, None]}

    def render(self, columns):
        prompts = [("+".join(map(str, digits)) + "=") for digits in columns["digits"].tolist()]
        completions = list(map(str, columns["sum"]))
        return {"prompt": Text.from_list(prompts), "completion": Text.from_list(completions)}

    def instance_hash(self, columns):
        number = columns["digits"].astype(np.uint64) @ (10 ** np.arange(self.count, dtype=np.uint64))
        return (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


class SumBuilder(TaskBuilder):
    """A user's builder: three lines."""

    task_class = _Sum
    REPO_ID = "someone/sum"


@pytest.mark.parametrize("name", ["seed", "overlap", "num_train", "name", "split", "cache_dir", "config_name"])
def test_a_field_with_the_name_of_a_keyword(name):
    """Catches: a field that takes the value meant for the data set, or is never reached."""
    cls = dataclasses.make_dataclass("Clashing", [(name, int, 1)], bases=(_Sum,), frozen=True)
    with pytest.raises(ValueError, match=rf"^Clashing has a field '{name}', which is a keyword of load_dataset[^\n]*$"):
        type("Builder", (TaskBuilder,), {"task_class": cls, "REPO_ID": "someone/clashing"})


def test_builder_of_another_task(tmp_path, monkeypatch):
    """Catches: path-star columns or parameters in the general builder; a mapping that is more than one line long."""
    monkeypatch.setitem(registration.BUILDERS, "someone/sum", SumBuilder)
    rows = load_dataset("someone/sum", cache_dir=str(tmp_path), count=2, num_train=30, num_test=5)
    assert rows["train"].column_names == ["digits", "sum", "answer", "prompt", "completion"]
    assert rows["train"].features["digits"] == datasets.List(datasets.Value("int16"))
    row = rows["test"][4]
    assert row["prompt"] == f"{row['digits'][0]}+{row['digits'][1]}="
    assert row["completion"] == str(sum(row["digits"]))
    with pytest.raises(ValueError, match="Did you mean 'count'"):
        load_dataset("someone/sum", cache_dir=str(tmp_path), counts=2)
    render = _Sum.render
    lists = {name: lambda self, c, name=name: render(self, c)[name].to_list() for name in ("prompt", "completion")}
    monkeypatch.setattr(_Sum, "render", lambda self, columns: {n: of(self, columns) for n, of in lists.items()})
    again = load_dataset("someone/sum", cache_dir=str(tmp_path / "again"), count=2, num_train=30, num_test=5)
    assert again["train"].to_list() == rows["train"].to_list()
    monkeypatch.setattr(_Sum, "render", lambda self, columns: {"prompt": [12], "completion": ["3"]})
    with pytest.raises(ValueError, match=r"render of _Sum gives \[12\] for 'prompt'; .*nt_failures\.tasks\.Text"):
        load_dataset("someone/sum", cache_dir=str(tmp_path), count=3)
    with pytest.raises(TypeError, match="abstract"):
        TaskBuilder(cache_dir=str(tmp_path))


class Row(Task):
    """A task without named sizes, whose builder is made for the test below."""

    symbols, answer_length = [*"0123456789=", Task.DUMMY], 1

    def sample(self, rng, n):
        return {"answer": np.zeros((n, 1), np.int32), "key": rng.integers(0, 10**6, n)}

    def render(self, columns):
        return {"prompt": [f"{key}=" for key in columns["key"]]}


def test_a_task_without_named_sizes_may_have_a_builder(tmp_path):
    """Catches: a builder of one's own that cannot be made, as nothing has named its repository."""
    made = type("RowBuilder", (TaskBuilder,), {"task_class": Row, "__module__": __name__})(str(tmp_path))
    assert made.REPO_ID.startswith("nt_failures/")
    assert made.config.task == Row()


def test_how_many_problems_a_split_has():
    """Catches: a share of the problems for splits that are drawn independently of each other, or all for those that
    share them."""
    apart = TaskConfig(task=PathStar(2, 3, 10), num_train=9, num_test=9)
    assert apart.num_problems["train"] == 0.75 * 30_240
    alike = TaskConfig(task=PathStar(2, 3, 10), num_train=9, num_test=9, overlap="allow")
    assert alike.num_problems == {"train": 30_240, "test": 30_240}
