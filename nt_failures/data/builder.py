"""The `datasets` builder of any Task: rows are drawn in blocks, so row i is the same however it is read.

`load_dataset("nt_failures/pathstar")` (see registration.py) and `PathStarBuilder(...)` are the two ways in.
"""

import abc
import dataclasses
import hashlib
import inspect
import logging
import math
import sys
from collections.abc import Iterable, Iterator
from typing import ClassVar

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key
from datasets.fingerprint import Hasher

from nt_failures import registry
from nt_failures.data.compat import ArrowBuilder
from nt_failures.data.token_dataset import COLUMNS, TokenRows
from nt_failures.tasks._check import check_task
from nt_failures.tasks._sources import source_hash
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, SPLITS, Columns, check_integer, check_overlap, split_share
from nt_failures.tasks.path_star import PathStar

logger = logging.getLogger(__name__)

_MAX_SHARDS = 6720
"""Shards of a large or endless split: a multiple of 1..8, 10, 12, 16, 20, 24, 28, 32 and 64 processes or nodes."""
_FIRST_ROWS = (64, 512)
"""Where the first block is cut, so that ten rows of a stream do not cost a block; `take` reads one table more."""
_ENDLESS_SHARD_BLOCKS = 256
"""Blocks of one shard of an endless split (the last shard has no end): resuming redraws at most these 2**20 rows."""


@dataclasses.dataclass(kw_only=True)
class TaskConfig(datasets.BuilderConfig):
    """One size of a task, and which rows of it. The fields are keywords of `load_dataset`, beside the task's own.

    Args:
        task: the task. It gives `name` (its `config_name`, which must tell all its parameters apart) and `version`.
        num_train: rows of the train split; None is an endless split, for streaming only.
        num_validation: rows of the validation split. A split without rows is left out.
        num_test: rows of the test split.
        seed: which stream of rows, an integer >= 0. Splits are disjoint between different seeds, too.
        overlap: `"forbid"` for disjoint splits, `"allow"` to draw each split from all instances.

    Raises:
        ValueError: a value is not allowed; the message states it, the rule and the repair.
    """

    task: Task
    num_train: int | None = 200_000
    num_validation: int = 0
    num_test: int = 20_000
    seed: int = 0
    overlap: str = "forbid"

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "num_test", "seed"):
            value = getattr(self, name)
            if name != "num_train" or value is not None:
                check_integer(name, value)
                setattr(self, name, int(value))  # NumPy's integers would be another cache folder than Python's
        check_overlap(self.overlap)
        if not self.num_rows:
            raise ValueError("num_train=0, num_validation=0, num_test=0 leaves no split; give one of them rows.")
        self.name = self.task.config_name
        self.version = datasets.Version(self.task.VERSION)
        super().__post_init__()

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each split that has any, in the order train, validation, test."""
        rows = {split: getattr(self, f"num_{split}") for split in SPLITS}
        return {split: count for split, count in rows.items() if count != 0}

    @property
    def num_problems(self) -> dict[str, float]:
        """About how many different problems each split with rows has to draw from; infinite where it is not known."""
        share = {split: 1.0 if self.overlap == "allow" else split_share(split) for split in self.num_rows}
        problems = self.task.num_problems
        problems = problems if problems < 1e300 else math.inf  # a larger whole number is no float
        return {split: share[split] * problems for split in self.num_rows}

    def too_small(self) -> list[str]:
        """A sentence for each split that repeats its problems because the task has too few."""
        words, problems = self.task.words, self.num_problems
        return [
            f"{split}: {rows:,} rows of only about {problems[split]:,.0f} different {words.problem}s, so each comes "
            f"about {rows / problems[split]:,.0f} times; every n counts different {words.problem}s."
            for split, rows in self.num_rows.items()
            if rows is not None and rows > 1.5 * problems[split]
        ]

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name of the cache folder: `name`, and the parameters that differ from their defaults, however given."""
        del config_kwargs
        changed = {name: getattr(self, name) for name in _DEFAULTS if getattr(self, name) != _DEFAULTS[name]}
        return super().create_config_id(changed, custom_features)


_DEFAULTS = {name: getattr(TaskConfig, name) for name in (*(f"num_{split}" for split in SPLITS), "seed", "overlap")}
"""The parameters that choose rows, with their defaults."""

_TAKEN = {*_DEFAULTS, *inspect.signature(datasets.load_dataset).parameters}
_TAKEN |= {*inspect.signature(datasets.DatasetBuilder).parameters}
"""Names that a builder's keywords have already, so that no field of its task can have them."""


def _fields(task_class: type[Task]) -> list[str]:
    return [field.name for field in dataclasses.fields(task_class)]


class TaskBuilder(ArrowBuilder):
    """Base of the builders: one subclass per task, which sets `task_class`, `REPO_ID` and, if wanted, named configs.

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
        if isinstance(cls.task_class, type) and (taken := [name for name in _fields(cls.task_class) if name in _TAKEN]):
            raise ValueError(
                f"{cls.task_class.__name__} has a field {taken[0]!r}, which is a keyword of load_dataset or of every "
                "builder; give the field another name."
            )

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
        if config_name is None:
            config = TaskConfig(task=self.task_class())
        elif isinstance(config_name, str) and config_name in self.builder_configs:
            config = self.builder_configs[config_name]
        else:
            raise ValueError(self._unknown("config", config_name, self.builder_configs))
        of_task = _fields(self.task_class)
        chosen = {name: parameters.pop(name) for name in of_task if name in parameters}
        if unknown := [name for name in parameters if name not in _DEFAULTS]:
            raise ValueError(self._unknown("parameter", unknown[0], [*of_task, *_DEFAULTS]))
        return dataclasses.replace(config, task=dataclasses.replace(config.task, **chosen), **parameters)

    def _unknown(self, kind: str, name: object, known: Iterable[str]) -> str:
        near = registry.suggestion(name, list(known), cutoff=0.4)
        return f"{registry.shorten(name)} is not a {kind} of {self.REPO_ID}.{near} Known: {', '.join(known)}."

    def _info(self) -> datasets.DatasetInfo:
        row = to_table(self.config.task, self.config.task.sample(np.random.default_rng(0), 1))
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
            tables = _tables(config.task, split, blocks, num_rows, config.seed, config.overlap)
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
    DEFAULT_CONFIG_NAME = PathStar().config_name
    # The sizes of the data released with arXiv 2403.06963, then larger ones on which later work compares.
    BUILDER_CONFIGS = [
        *(TaskConfig(task=PathStar(*s)) for s in [(2, 2, 50), (2, 3, 10), (2, 3, 50), (2, 5, 50), (3, 3, 50)]),
        *(TaskConfig(task=PathStar(*s)) for s in [(5, 3, 50), (5, 5, 50), (10, 5, 50), (20, 5, 100)]),
    ]


class OwnTaskBuilder(TaskBuilder):
    """The builder of a task that has no builder of its own. It takes the task whole, so fields may have any name.

    Args:
        task: any task, also one of a notebook or a script.
        cache_dir: as in `TaskBuilder`.
        rows: fields of `TaskConfig`.

    Raises:
        ValueError: a task whose class is part of a script or notebook, and cannot be pickled.
    """

    task_class = Task
    REPO_ID = "own"

    def __init__(self, task: Task, cache_dir: str | None = None, **rows: object) -> None:
        cls = type(task)
        self.task, self.task_class, self.REPO_ID = task, cls, f"{cls.__module__}/{cls.__name__}"
        try:  # a class of `__main__` is hashed with its code
            code = Hasher.hash([self.source_hash(), cls.source_hash(), task])
        except Exception as error:  # whatever pickle meets
            raise ValueError(
                f"{cls.__name__} cannot be pickled ({registry.first_line(error)}), and so its rows not be cached; "
                "define it in a file of its own, and import it from there."
            ) from error
        super().__init__(cache_dir, hash=code, **rows)

    def make_config(self, config_name: str | None, parameters: dict[str, object]) -> TaskConfig:
        return TaskConfig(task=self.task, **parameters)


def generate_rows(
    task: Task, split: str = "train", num_rows: int | None = None, seed: int = 0, overlap: str = "forbid"
) -> Iterator[dict[str, object]]:
    """The rows of a split one by one, without end for `num_rows=None`; equal to those of the builder."""
    for blocks in _shards(num_rows):
        for table in _tables(task, split, blocks, num_rows, seed, overlap):
            yield from table.to_pylist()


def to_table(task: Task, columns: Columns) -> pa.Table:
    """Instances and their text as an Arrow table, without a copy: `edges` is list<list<int32>>, `prompt` string."""
    arrays = {name: _to_arrow(column) for name, column in columns.items()}
    for name, text in task.texts(columns).items():
        offsets, data = pa.py_buffer(text.offsets), pa.py_buffer(text.data)
        arrays[name] = pa.StringArray.from_buffers(len(text.offsets) - 1, offsets, data)
    return pa.table(arrays)


def _to_arrow(values: np.ndarray) -> pa.Array:
    """One list level for each axis behind the first."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


def to_columns(rows: datasets.Dataset) -> dict[str, np.ndarray]:
    """The columns of instances, without their text: what `Task.sample` had drawn. The inverse of `to_table`.

    Args:
        rows: of a task's dataset, n of them; the lists of a column have the same length in every row.
    """
    table = rows.with_format("arrow")[:]
    names = [name for name in table.column_names if name not in ("prompt", "completion", *COLUMNS)]
    return {name: _to_array(table[name].combine_chunks()) for name in names}


def task_columns(rows: object, task: Task) -> dict[str, np.ndarray] | None:
    """The columns of a task in the data set of a DataLoader; None where it has lost them, or is a stream."""
    dataset = rows.source if isinstance(rows, TokenRows) else rows
    names = list(task.sample(np.random.default_rng(0), 0))
    if not isinstance(dataset, datasets.Dataset) or not set(names) <= set(dataset.column_names):
        return None
    return to_columns(dataset.select_columns(names))


def _to_array(values: pa.Array) -> np.ndarray:
    """One axis for each level of lists."""
    shape = [len(values)]
    while isinstance(values, pa.ListArray | pa.LargeListArray):
        lengths = np.unique(np.diff(values.offsets.to_numpy()))
        if len(lengths) > 1:
            raise ValueError(
                f"the lists of a column have {lengths.min()} to {lengths.max()} entries; give each row as many."
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _tables(task: Task, split: str, blocks: range, num_rows: int | None, seed: int, overlap: str) -> Iterator[pa.Table]:
    """One table per block, of the first block several; the block that holds row `num_rows` is cut there."""
    for index in blocks:
        rows = BLOCK_ROWS if num_rows is None else min(BLOCK_ROWS, num_rows - index * BLOCK_ROWS)
        start = 0
        for end in [*(end for end in _FIRST_ROWS if index == 0 and end < rows), rows]:
            columns = task.block(seed, split, index, overlap, rows=end)
            yield to_table(task, {name: column[start:] for name, column in columns.items()})
            start = end


def _shards(num_rows: int | None) -> list[range]:
    """The blocks of a split in order, cut into the units that go to processes, workers and nodes."""
    if num_rows is None:
        starts = range(0, _MAX_SHARDS * _ENDLESS_SHARD_BLOCKS, _ENDLESS_SHARD_BLOCKS)
        return [*(range(s, s + _ENDLESS_SHARD_BLOCKS) for s in starts[:-1]), range(starts[-1], sys.maxsize)]
    num_blocks = -(-num_rows // BLOCK_ROWS)
    size = max(1, -(-num_blocks // _MAX_SHARDS))
    return [range(start, min(start + size, num_blocks)) for start in range(0, num_blocks, size)]
