"""The splits of any task, ready to tokenise: what a run trains and tests on."""

import datasets
from datasets.fingerprint import Hasher

from nt_failures.data.builder import generate_rows
from nt_failures.data.registration import BUILDERS
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
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """`train`, `validation` and `test` of a task, built or found in the cache.

    Args:
        task: any task; one without a builder of its own goes through `Dataset.from_generator`.
        streaming: draw `train` as it is read, without end; `num_train` then counts for nothing.
        num_train, num_validation, num_test, seed, overlap: as in `TaskConfig`.
        num_proc: processes that build; rows of a task without a builder are drawn by one.
    """
    counts = {"train": None if streaming else num_train, "validation": num_validation, "test": num_test}
    builder = next((builder for builder in BUILDERS.values() if builder.task_class is type(task)), None)
    if builder is None:
        return {split: _generated(task, split, count, seed, overlap) for split, count in counts.items()}
    options = {**task.to_dict(), "seed": seed, "overlap": overlap}
    fixed = builder(**options, **{f"num_{split}": count or 0 for split, count in counts.items()})
    fixed.download_and_prepare(num_proc=num_proc)
    splits = dict(fixed.as_dataset())
    if streaming:
        splits["train"] = builder(**options, num_train=None, num_test=0).as_streaming_dataset(split="train")
    return splits


def _generated(
    task: Task, split: str, num_rows: int | None, seed: int, overlap: str
) -> datasets.Dataset | datasets.IterableDataset:
    kwargs = {"task": task, "split": split, "num_rows": num_rows, "seed": seed, "overlap": overlap}
    if num_rows is None:
        return datasets.IterableDataset.from_generator(generate_rows, gen_kwargs=kwargs)
    # The cache of from_generator does not see changed code; the task's source hash does.
    fingerprint = Hasher.hash([task.source_hash(), kwargs])
    return datasets.Dataset.from_generator(generate_rows, gen_kwargs=kwargs, fingerprint=fingerprint)
