"""The splits of any task, ready to tokenise: what a run trains and tests on."""

import datasets

from nt_failures.data.builder import OwnTaskBuilder, TaskBuilder
from nt_failures.data.registration import builder_class
from nt_failures.tasks.base import Task


def load_splits(
    task: Task,
    num_train: int = 200_000,
    num_validation: int = 1_000,
    num_test: int = 20_000,
    seed: int = 0,
    overlap: str = "forbid",
    streaming: bool = False,
    num_proc: int | None = None,
    prompt_style: str = "text",
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """`train`, `validation` and `test` of a task, built or found in the cache.

    Args:
        task: any task.
        streaming: draw `train` as it is read, without end; `num_train` then counts for nothing.
        num_train, num_validation, num_test, seed, overlap, prompt_style: as in `TaskConfig`.
        num_proc: processes that build.
    """
    counts = {"train": None if streaming else num_train, "validation": num_validation, "test": num_test}
    options = {"seed": seed, "overlap": overlap, "prompt_style": prompt_style}
    fixed = builder_of(task, **options, **{f"num_{split}": count or 0 for split, count in counts.items()})
    fixed.download_and_prepare(num_proc=num_proc)
    splits = dict(fixed.as_dataset())
    if streaming:
        splits["train"] = builder_of(task, **options, num_train=None, num_test=0).as_streaming_dataset(split="train")
    return splits


def builder_of(task: Task, **rows: object) -> TaskBuilder:
    """The builder of a task, its own where it has one; `rows` are fields of `TaskConfig`."""
    own = builder_class(type(task))
    return OwnTaskBuilder(task, **rows) if own is None else own(**task.to_dict(), **rows)
