"""The splits of any task, ready to tokenise: what a run trains and tests on."""

from collections.abc import Mapping

import datasets
import numpy as np

from nt_failures.data.builder import OwnTaskBuilder, TaskBuilder
from nt_failures.data.columns import to_columns
from nt_failures.data.lines import load_lines
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
    files: Mapping[str, str | None] | None = None,
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """`train`, `validation` and `test` of a task, built or found in the cache, or read from files.

    Args:
        task: any task.
        streaming: draw `train` as it is read, without end; `num_train` then counts for nothing.
        num_train, num_validation, num_test, seed, overlap, prompt_style: as in `TaskConfig`.
        num_proc: processes that build.
        files: by split, a file for `load_lines`, of which the first rows are taken, as many as the split has; the
            other splits are drawn.

    Raises:
        ValueError: beside those of the builder and of `load_lines`, with `overlap="forbid"`: a file that shares
            problems with train, or may share them with an endless one. Of a task in which new answers count
            (`Task.num_answers`): train rows that are not of the task's own train split.
    """
    counts = {"train": None if streaming else num_train, "validation": num_validation, "test": num_test}
    files = {split: path for split, path in (files or {}).items() if path and counts[split] != 0}
    if streaming and files and ("train" in files or overlap == "forbid"):
        raise ValueError(
            f"streaming draws training rows without end, so {', '.join(files)} cannot be read from a file apart from "
            "them; leave streaming out, or give overlap='allow' and no file for train."
        )
    if overlap == "allow" and task.num_answers is not None:
        raise ValueError(f"{task} tells new answers by their split, so its splits must be apart; leave overlap out.")
    options = {"seed": seed, "overlap": overlap, "prompt_style": prompt_style}
    drawn = {f"num_{split}": 0 if split in files else count or 0 for split, count in counts.items()}
    splits = {}
    if any(drawn.values()):
        fixed = builder_of(task, **options, **drawn)
        fixed.download_and_prepare(num_proc=num_proc)
        splits = dict(fixed.as_dataset())
    for split, path in files.items():
        rows = load_lines(path, task, prompt_style)
        splits[split] = rows.select(range(min(counts[split], len(rows))))
    if files and overlap == "forbid":
        _check_apart(task, splits)
    if streaming:
        splits["train"] = builder_of(task, **options, num_train=None, num_test=0).as_streaming_dataset(split="train")
    return splits


def builder_of(task: Task, **rows: object) -> TaskBuilder:
    """The builder of a task, its own where it has one; `rows` are fields of `TaskConfig`."""
    own = builder_class(type(task))
    return OwnTaskBuilder(task, **rows) if own is None else own(**task.to_dict(), **rows)


def _check_apart(task: Task, splits: dict[str, datasets.Dataset]) -> None:
    """ValueError where a row of another split belongs together with one of train, by the task's `split_hash`.

    Where new answers count, train may have none but those of the task's own train split, by which they are told.
    """
    hashes = {name: task.split_hash(to_columns(rows)) for name, rows in splits.items()}
    for name in hashes.keys() - {"train"}:
        if shared := int(np.isin(hashes[name], hashes.get("train", [])).sum()):
            raise ValueError(
                f"{shared:,} of {len(hashes[name]):,} rows of {name} pose a problem of train, or one that a row of "
                "train tells of; give files that are apart, or overlap='allow', as the paper's released data has it."
            )
    if task.num_answers is not None and "train" in splits:
        of_split = task.split_of(to_columns(splits["train"]))
        if others := int((of_split != "train").sum()):
            raise ValueError(
                f"{others:,} of {len(of_split):,} rows of train have answers of another split of {task}, by which new "
                "answers are told; give rows of its train split."
            )
