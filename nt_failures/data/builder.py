"""The `datasets` builder of any Task: rows are drawn in blocks, so row i is the same however it is read.

`load_dataset("nt_failures/pathstar")` (see registration.py) and `PathStarBuilder(...)` are the two ways in.
"""

import abc
import dataclasses
import difflib
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from typing import ClassVar

import datasets
import numpy as np
import pyarrow as pa
from datasets.arrow_reader import make_file_instructions
from datasets.builder import Key

from nt_failures import registry
from nt_failures.data import builder_cache
from nt_failures.data.task_config import DATA_KNOBS, TaskConfig
from nt_failures.tasks.base import BLOCK_ROWS, Columns, Task, sources
from nt_failures.tasks.path_star import PathStar

_MAX_SHARDS = 6720
"""Shards of a large or endless split. A multiple of 1..8, 10, 12, 16, 20, 24, 28, 32 and 64 processes, among which
`datasets.distributed.split_dataset_by_node` then divides it without reading rows in vain."""

_ENDLESS_SHARD_BLOCKS = 256
"""Blocks of one shard of an endless split (the last shard has no end): resuming redraws at most these 2**20 rows."""


class TaskBuilder(datasets.ArrowBasedBuilder, abc.ABC):
    """Base of the builders: one subclass per task, which sets `task_class`, `REPO_ID` and, if wanted, named configs.

    Args:
        cache_dir: where the Arrow files go; default: the cache of `datasets`.
        config_name: a named config to start from; default: the task with its default knobs.
        options: the knobs (the task's fields and those of `TaskConfig`), or arguments of `datasets.DatasetBuilder`.

    Raises:
        ValueError: an unknown config or knob (the nearest known one is named), or a value that is not allowed.

    Example:
        >>> builder = PathStarBuilder(degree=3, path_length=4, num_train=1000, num_test=100)
        >>> builder.download_and_prepare(num_proc=2)
        >>> rows = builder.as_dataset(split="train")
    """

    BUILDER_CONFIG_CLASS = TaskConfig
    REPO_ID: ClassVar[str]

    @property
    @abc.abstractmethod
    def task_class(self) -> type[Task]:
        """The task; a subclass sets it as a class attribute."""

    @classmethod
    def source_hash(cls) -> str:
        """Hash of the code that makes the rows: the task's, and this one's. Part of the cache folder's path."""
        own = [*(base.__module__ for base in cls.__mro__ if issubclass(base, TaskBuilder)), TaskConfig.__module__]
        text = "\n".join([cls.task_class.source_hash(), *sources(own)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __init__(self, cache_dir: str | None = None, **options: object) -> None:
        defaults = {"hash": self.source_hash(), "repo_id": self.REPO_ID, "dataset_name": self.REPO_ID.split("/")[-1]}
        with builder_cache.explained(cache_dir or datasets.config.HF_DATASETS_CACHE):
            try:
                super().__init__(cache_dir, **(defaults | options))
            except json.JSONDecodeError as error:
                raise ValueError(
                    builder_cache.damaged(self._cache_dir, f"its dataset_info.json is no JSON: {error}")
                ) from error

    def _create_builder_config(
        self,
        config_name: str | None = None,
        custom_features: datasets.Features | None = None,
        config_id: str | None = None,
        **knobs: object,
    ) -> tuple[TaskConfig, str]:
        """Replaces the method of `datasets`, which drops knobs that are None and names no alternatives for a typo."""
        if custom_features is not None:
            raise ValueError(f"features= is not a knob of {self.REPO_ID}; build it, then call its `cast(features)`.")
        if config_name is None:
            config = TaskConfig(task=self.task_class())
        elif isinstance(config_name, str) and config_name in self.builder_configs:
            config = self.builder_configs[config_name]
        else:
            raise ValueError(_unknown("config", config_name, self.REPO_ID, self.builder_configs))
        task_knobs = [field.name for field in dataclasses.fields(self.task_class)]
        for knob in knobs:
            if knob not in task_knobs and knob not in DATA_KNOBS:
                raise ValueError(_unknown("knob", knob, self.REPO_ID, [*task_knobs, *DATA_KNOBS]))
        task = dataclasses.replace(config.task, **{k: v for k, v in knobs.items() if k in task_knobs})
        config = dataclasses.replace(config, task=task, **{k: v for k, v in knobs.items() if k in DATA_KNOBS})
        return config, config_id or config.create_config_id({})

    def _info(self) -> datasets.DatasetInfo:
        empty = to_table(self.config.task, self.config.task.sample(np.random.default_rng(0), 0))
        return datasets.DatasetInfo(
            description=inspect.getdoc(self.task_class), features=datasets.Features.from_arrow_schema(empty.schema)
        )

    def download_and_prepare(self, *args: object, **kwargs: object) -> None:
        """Write the splits into the cache, or find them there. Arguments as in `datasets.DatasetBuilder`.

        Raises:
            ValueError: an endless split (`num_train=None`), a split that the task has no instances for, or more rows than
                the disk has room for.
            OSError: the disk is full or read-only; what was written is removed.
        """
        if self.config.num_train is None:
            raise ValueError(
                "num_train=None is an endless split, which no disk holds; give a number of rows, or read it with "
                f"load_dataset({self.REPO_ID!r}, num_train=None, streaming=True)."
            )
        with builder_cache.explained(self._output_dir):
            super().download_and_prepare(*args, **kwargs)

    def _download_and_prepare(self, *args: object, **kwargs: object) -> None:
        builder_cache.clear_leftovers(self._output_dir)
        super()._download_and_prepare(*args, **kwargs)

    def _prepare_split_single(self, *args: object, **kwargs: object) -> Iterator[tuple]:
        with builder_cache.in_worker():
            yield from super()._prepare_split_single(*args, **kwargs)

    def _as_dataset(self, split: object = datasets.Split.TRAIN, in_memory: bool = False) -> datasets.Dataset:
        parts = (self.dataset_name, list(self.info.splits.values()), split)
        expected = make_file_instructions(*parts, prefix_path=self._output_dir).num_examples
        with builder_cache.undamaged(self._output_dir):
            rows = super()._as_dataset(split, in_memory)
        builder_cache.check_rows(rows, expected, self._output_dir)
        return rows

    def _split_generators(
        self, dl_manager: datasets.DownloadManager | datasets.StreamingDownloadManager
    ) -> list[datasets.SplitGenerator]:
        generators, needed = [], 0.0
        for split, num_rows in self.config.num_rows.items():
            # A split that the task has no instances for fails here: a worker's error would reach the user wrapped.
            first = self.config.task.block(self.config.seed, split, 0, self.config.overlap)
            needed += to_table(self.config.task, first).nbytes / BLOCK_ROWS * (num_rows or 0)
            gen_kwargs = {"split": split, "shards": _shards(num_rows), "num_rows": num_rows}
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs=gen_kwargs))
        if not dl_manager.is_streaming:
            builder_cache.check_room(self._output_dir, needed)
        return generators

    def _generate_tables(self, split: str, shards: list[range], num_rows: int | None) -> Iterator[tuple[Key, pa.Table]]:
        config = self.config
        for shard_index, blocks in enumerate(shards):
            tables = _tables(config.task, split, blocks, num_rows, config.seed, config.overlap)
            for table_index, table in enumerate(tables):
                yield Key(shard_index, table_index), table


class PathStarBuilder(TaskBuilder):
    """Path-star graphs: `load_dataset("nt_failures/pathstar")`. Knobs and row: `nt_failures.tasks.PathStar`."""

    task_class = PathStar
    REPO_ID = "nt_failures/pathstar"
    DEFAULT_CONFIG_NAME = PathStar().config_name
    # The sizes of the data released with arXiv 2403.06963, then larger ones on which later work compares.
    BUILDER_CONFIGS = [
        *(TaskConfig(task=PathStar(*s)) for s in [(2, 2, 50), (2, 3, 10), (2, 3, 50), (2, 5, 50), (3, 3, 50)]),
        *(TaskConfig(task=PathStar(*s)) for s in [(5, 3, 50), (5, 5, 50), (10, 5, 50), (20, 5, 100)]),
    ]


def generate_rows(
    task: Task, split: str = "train", num_rows: int | None = None, seed: int = 0, overlap: str = "forbid"
) -> Iterator[dict[str, object]]:
    """The rows of a split one by one, without end for `num_rows=None`; equal to those of the builder.

    For `Dataset.from_generator(generate_rows, gen_kwargs={"task": PathStar(), "num_rows": 1000})`. Note that the
    cache of `from_generator` does not see changes of the code; the builder's does.
    """
    for blocks in _shards(num_rows):
        for table in _tables(task, split, blocks, num_rows, seed, overlap):
            yield from table.to_pylist()


def to_table(task: Task, columns: Columns) -> pa.Table:
    """Instances and their text as an Arrow table, without a copy: `edges` is list<list<int32>>, `prompt` string."""
    arrays = {name: _to_arrow(column) for name, column in columns.items()}
    for name, text in task.render(columns).items():
        offsets, data = pa.py_buffer(text.offsets), pa.py_buffer(text.data)
        arrays[name] = pa.StringArray.from_buffers(len(text.offsets) - 1, offsets, data)
    return pa.table(arrays)


def _to_arrow(values: np.ndarray) -> pa.Array:
    """One list level for each axis behind the first."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


def _tables(task: Task, split: str, blocks: range, num_rows: int | None, seed: int, overlap: str) -> Iterator[pa.Table]:
    """One table per block; the block that holds row `num_rows` is cut there."""
    for index in blocks:
        columns = task.block(seed, split, index, overlap)
        if num_rows is not None:
            columns = {name: column[: num_rows - index * BLOCK_ROWS] for name, column in columns.items()}
        yield to_table(task, columns)


def _shards(num_rows: int | None) -> list[range]:
    """The blocks of a split in order, cut into the units that go to processes, workers and nodes."""
    if num_rows is None:
        starts = range(0, _MAX_SHARDS * _ENDLESS_SHARD_BLOCKS, _ENDLESS_SHARD_BLOCKS)
        return [*(range(s, s + _ENDLESS_SHARD_BLOCKS) for s in starts[:-1]), range(starts[-1], sys.maxsize)]
    num_blocks = -(-num_rows // BLOCK_ROWS)
    size = max(1, -(-num_blocks // _MAX_SHARDS))
    return [range(start, min(start + size, num_blocks)) for start in range(0, num_blocks, size)]


def _unknown(kind: str, given: str, repo_id: str, known: object) -> str:
    near = difflib.get_close_matches(str(given), list(known), n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{registry.shorten(given)} is not a {kind} of {repo_id}.{hint} Known: {', '.join(known)}."
