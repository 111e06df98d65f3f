"""The `datasets` builder of any Task: rows are drawn in blocks, so row i is the same however it is read.

`load_dataset("nt_failures/pathstar")` (see registration.py) and `PathStarBuilder(...)` are the two ways in.
"""

import abc
import dataclasses
import hashlib
import inspect
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import ClassVar

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key

from nt_failures import registry
from nt_failures.data.columns import to_table
from nt_failures.data.compat import ArrowBuilder, stable_hash
from nt_failures.data.task_config import CHAT, DEFAULTS, TaskConfig
from nt_failures.tasks._check import check_task
from nt_failures.tasks._sources import source_hash
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS
from nt_failures.tasks.path_star import PathStar

logger = logging.getLogger(__name__)

_MAX_SHARDS = 6720
"""Shards of a large or endless split: a multiple of 1..8, 10, 12, 16, 20, 24, 28, 32 and 64 processes or nodes."""
_FIRST_ROWS = (64, 512)
"""Where the first block is cut, so that ten rows of a stream do not cost a block; `take` reads one table more."""
_ENDLESS_SHARD_BLOCKS = 256
"""Blocks of one shard of an endless split (the last shard has no end): resuming redraws at most these 2**20 rows."""


_TAKEN = {*DEFAULTS, *inspect.signature(datasets.load_dataset).parameters}
_TAKEN |= {*inspect.signature(datasets.DatasetBuilder).parameters}
"""Names that a builder's keywords have already, so that no field of its task can have them."""


def _fields(task_class: type[Task]) -> list[str]:
    return [field.name for field in dataclasses.fields(task_class)]


class TaskBuilder(ArrowBuilder):
    """Base of the builders: one subclass per task, which sets `task_class` and, if wanted, `REPO_ID`.

    Args:
        cache_dir: where the Arrow files go; default: the cache of `datasets`.
        config_name: a named config to start from; default: the task with its default parameters.
        options: the task's fields, those of `TaskConfig`, or arguments of `datasets.DatasetBuilder`.

    Raises:
        ValueError: an unknown config or parameter (the nearest known one is named), or a value that is not allowed.
            `download_and_prepare`: an endless split (`num_train=None`), or one that the task has no instances for.
        OSError: the disk is full or read-only; what was written is removed.
    """

    BUILDER_CONFIG_CLASS = TaskConfig
    REPO_ID: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        task_class = cls.task_class
        if taken := [name for name in _fields(task_class) if name in _TAKEN]:
            raise ValueError(
                f"{task_class.__name__} has a field {taken[0]!r}, which is a keyword of load_dataset or of every "
                "builder; give the field another name."
            )
        cls.REPO_ID = vars(cls).get("REPO_ID", f"nt_failures/{registry.name_of(task_class)}")
        if task_class.CONFIGS:
            cls.BUILDER_CONFIGS = [TaskConfig(task=task_class(**values)) for values in task_class.CONFIGS.values()]
            cls.DEFAULT_CONFIG_NAME = task_class().config_name

    @property
    @abc.abstractmethod
    def task_class(self) -> type[Task]:
        """The task; a subclass sets it as a class attribute."""

    @classmethod
    def source_hash(cls) -> str:
        """Hash of the code that makes the rows: the task's, and this one's. Part of the cache folder's path."""
        own = [base.__module__ for base in cls.__mro__ if issubclass(base, TaskBuilder)]
        return hashlib.sha256((cls.task_class.source_hash() + source_hash(own)).encode()).hexdigest()[:16]

    def __init__(self, cache_dir: str | None = None, **options: object) -> None:
        defaults = {"hash": self.source_hash(), "repo_id": self.REPO_ID, "dataset_name": self.REPO_ID.split("/")[-1]}
        super().__init__(cache_dir, **(defaults | options))
        check_task(self.config.task)
        for sentence in self.config.too_small():
            logger.warning("%s", sentence)

    def make_config(self, config_name: str | None, parameters: dict[str, object]) -> TaskConfig:
        known = self.builder_configs
        if config_name is None:
            config = TaskConfig(task=self.task_class())
        elif isinstance(config_name, str) and config_name in known:
            config = known[config_name]
        elif isinstance(config_name, str) and config_name.removesuffix(CHAT) in known:
            config = dataclasses.replace(known[config_name.removesuffix(CHAT)], prompt_style="chat")
        else:
            raise ValueError(self._unknown("config", config_name, known))
        of_task = _fields(self.task_class)
        chosen = {name: parameters.pop(name) for name in of_task if name in parameters}
        if unknown := [name for name in parameters if name not in DEFAULTS]:
            raise ValueError(self._unknown("parameter", unknown[0], [*of_task, *DEFAULTS]))
        return dataclasses.replace(config, task=dataclasses.replace(config.task, **chosen), **parameters)

    def _unknown(self, kind: str, name: object, known: Iterable[str]) -> str:
        near = registry.suggestion(name, list(known), cutoff=0.4)
        return f"{registry.shorten(name)} is not a {kind} of {self.REPO_ID}.{near} Known: {', '.join(known)}."

    def _info(self) -> datasets.DatasetInfo:
        task = self.config.task
        row = to_table(task, task.sample(np.random.default_rng(0), 1), self.config.prompt_style)
        features = datasets.Features.from_arrow_schema(row.schema)
        return datasets.DatasetInfo(description=inspect.getdoc(self.task_class), features=features)

    def _split_generators(
        self, dl_manager: datasets.DownloadManager | datasets.StreamingDownloadManager
    ) -> list[datasets.SplitGenerator]:
        config, generators = self.config, []
        if config.num_train is None and not dl_manager.is_streaming:
            raise ValueError(
                "num_train=None is an endless split, which no disk holds; give a number of rows, or read it with "
                f"load_dataset({self.REPO_ID!r}, num_train=None, streaming=True)."
            )
        for split, num_rows in config.num_rows.items():
            # A split that the task has no instances for fails here: a worker's error would reach the user wrapped.
            config.task.block(config.seed, split, 0, config.overlap, rows=1)
            gen_kwargs = {"split": split, "shards": _shards(num_rows), "num_rows": num_rows}
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs=gen_kwargs))
        return generators

    def _generate_tables(self, split: str, shards: list[range], num_rows: int | None) -> Iterator[tuple[Key, pa.Table]]:
        config = self.config
        for shard, blocks in enumerate(shards):
            tables = _tables(config, split, blocks, num_rows)
            yield from ((Key(shard, index), table) for index, table in enumerate(tables))


class PathStarBuilder(TaskBuilder):
    """Path-star graphs: `load_dataset("nt_failures/pathstar")`. Parameters and row: `nt_failures.tasks.PathStar`.

    Example:
        >>> from nt_failures import PathStarBuilder
        >>> builder = PathStarBuilder(degree=3, path_length=4, num_train=1000, num_test=100)
        >>> builder.download_and_prepare()
        >>> builder.as_dataset(split="train")[0]["prompt"]
        '43,45|6,15|44,35|45,25|42,44|42,31|42,43|35,8|31,6/42,15='
    """

    task_class = PathStar
    REPO_ID = "nt_failures/pathstar"


class OwnTaskBuilder(TaskBuilder):
    """The builder of a task that has no builder of its own. It takes the task whole, so fields may have any name.

    Args:
        task: any task, also one of a notebook or a script.
        rows: fields of `TaskConfig`, and `cache_dir` as in `TaskBuilder`.

    Raises:
        ValueError: a task whose class is part of a script or notebook, and cannot be pickled.
    """

    task_class = Task
    REPO_ID = "own"

    def __init__(self, task: Task, **rows: object) -> None:
        cls = type(task)
        self.task, self.task_class, self.REPO_ID = task, cls, f"{cls.__module__}/{cls.__name__}"
        try:  # a class of `__main__` is hashed with its code
            code = stable_hash([self.source_hash(), cls.source_hash(), task])
        except Exception as error:  # whatever pickle meets
            raise ValueError(
                f"{cls.__name__} cannot be pickled ({registry.first_line(error)}), and so its rows not be cached; "
                "define it in a file of its own, and import it from there."
            ) from error
        super().__init__(hash=code, **rows)

    def make_config(self, config_name: str | None, parameters: dict[str, object]) -> TaskConfig:
        return TaskConfig(task=self.task, **parameters)


def _tables(config: TaskConfig, split: str, blocks: range, num_rows: int | None) -> Iterator[pa.Table]:
    """One table per block, of the first block several; the block that holds row `num_rows` is cut there."""
    task = config.task
    for index in blocks:
        rows = BLOCK_ROWS if num_rows is None else min(BLOCK_ROWS, num_rows - index * BLOCK_ROWS)
        start = 0
        for end in [*(end for end in _FIRST_ROWS if index == 0 and end < rows), rows]:
            columns = task.block(config.seed, split, index, config.overlap, rows=end)
            columns = {name: column[start:] for name, column in columns.items()}
            yield to_table(task, columns, config.prompt_style)
            start = end


def _shards(num_rows: int | None) -> list[range]:
    """The blocks of a split in order, cut into the units that go to processes, workers and nodes."""
    if num_rows is None:
        starts = range(0, _MAX_SHARDS * _ENDLESS_SHARD_BLOCKS, _ENDLESS_SHARD_BLOCKS)
        return [*(range(s, s + _ENDLESS_SHARD_BLOCKS) for s in starts[:-1]), range(starts[-1], sys.maxsize)]
    num_blocks = -(-num_rows // BLOCK_ROWS)
    size = max(1, -(-num_blocks // _MAX_SHARDS))
    return [range(start, min(start + size, num_blocks)) for start in range(0, num_blocks, size)]
