"""The splits of any task, ready to tokenise: what examples/train.py trains and tests on."""

import dataclasses
from typing import Any

import datasets

from nt_failures.data.builder import TaskBuilder, generate_rows
from nt_failures.data.registration import BUILDERS
from nt_failures.tasks.base import SPLITS, Task


def load_splits(
    task: Task,
    num_train: int = 200_000,
    num_validation: int = 1_000,
    num_test: int = 20_000,
    seed: int = 0,
    overlap: str = "forbid",
    streaming: bool = False,
    num_proc: int | None = None,
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """`train`, `validation` and `test` of a task, built or found in the cache.

    Args:
        task: any task; one without a builder of its own goes through `Dataset.from_generator`.
        streaming: draw `train` as it is read, without end; `num_train` then counts for nothing.
        num_train, num_validation, num_test, seed, overlap: as in `TaskConfig`.
        num_proc: processes that build; rows of a task without a builder are drawn by one.
    """
    rows = {"train": num_train, "validation": num_validation, "test": num_test}
    builder = next((b for b in BUILDERS.values() if b.task_class is type(task)), None)
    shared = {"seed": seed, "overlap": overlap}
    if streaming:
        del rows["train"]
    if builder is None:
        splits = {name: _from_generator(task, name, count, shared) for name, count in rows.items()}
    else:
        splits = _from_builder(builder, task, rows, num_proc, shared)
    if streaming:
        splits["train"] = _stream(builder, task, shared)
    return splits


def _from_builder(
    builder: type[TaskBuilder], task: Task, rows: dict[str, int], num_proc: int | None, shared: dict[str, Any]
) -> dict[str, datasets.Dataset]:
    counts = {f"num_{split}": rows.get(split, 0) for split in SPLITS}
    ready = builder(**dataclasses.asdict(task), **counts, **shared)
    ready.download_and_prepare(num_proc=num_proc)
    return dict(ready.as_dataset())


def _stream(builder: type[TaskBuilder] | None, task: Task, shared: dict[str, Any]) -> datasets.IterableDataset:
    if builder is None:
        kwargs = {"task": task, "split": "train", "num_rows": None, **shared}
        return datasets.IterableDataset.from_generator(generate_rows, gen_kwargs=kwargs)
    endless = builder(**dataclasses.asdict(task), num_train=None, num_test=0, **shared)
    return endless.as_streaming_dataset(split="train")


def _from_generator(task: Task, split: str, count: int, shared: dict[str, Any]) -> datasets.Dataset:
    # The cache of from_generator does not see changed code: the source hash is part of what it fingerprints.
    kwargs = {"task": task, "split": split, "num_rows": count, **shared}
    return datasets.Dataset.from_generator(_hashed_rows, gen_kwargs={"code": task.source_hash(), **kwargs})


def _hashed_rows(code: str, **kwargs: Any):
    del code
    yield from generate_rows(**kwargs)
