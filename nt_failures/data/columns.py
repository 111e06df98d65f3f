"""A task's arrays as an Arrow table with their text, plain or as messages for chat models, and back."""

import re

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nt_failures.data.token_dataset import COLUMNS, TokenRows
from nt_failures.tasks import chat, described
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import Columns

PROMPT_STYLES = ("text", "chat")


def to_table(task: Task, columns: Columns, prompt_style: str = "text") -> pa.Table:
    """Instances and their text as an Arrow table, without a copy: `edges` is list<list<int32>>, `prompt` string.

    With `prompt_style="chat"` prompt and completion are lists of one message, a dictionary of `role` and `content`, and
    the column `task` says in JSON which task the row is of, so that a reward can judge the answer.
    """
    arrays = {name: _to_arrow(column) for name, column in columns.items()}
    for name, text in task.texts(columns).items():
        offsets, data = pa.py_buffer(text.offsets), pa.py_buffer(text.data)
        arrays[name] = pa.StringArray.from_buffers(len(text.offsets) - 1, offsets, data)
    if prompt_style == "chat":
        if "task" in columns:
            raise ValueError(f"{type(task).__name__} has a column 'task', as rows for chat models have; rename it.")
        arrays |= _chat(task, arrays["prompt"], arrays["completion"])
    return pa.table(arrays)


def _chat(task: Task, prompt: pa.StringArray, completion: pa.StringArray) -> dict[str, pa.Array]:
    """The columns that rows for chat models have in place of their text, and `task`."""
    if task.END in task.symbols:  # the closing tag ends an answer
        completion = pc.replace_substring_regex(completion, f"( {re.escape(task.END)})+$", "")
    return {
        "prompt": _messages("user", chat.question(task), prompt, ""),
        "completion": _messages("assistant", chat.OPEN, completion, chat.CLOSE),
        "task": pa.array([described(task)] * len(prompt), pa.string()),
    }


def _messages(role: str, *parts: str | pa.StringArray) -> pa.ListArray:
    content = pc.binary_join_element_wise(*parts, "")  # the last is what stands between them
    roles = pa.array([role] * len(content), pa.string())
    messages = pa.StructArray.from_arrays([roles, content], ["role", "content"])
    return pa.ListArray.from_arrays(np.arange(len(content) + 1, dtype=np.int32), messages)


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
    text = [field.name for field in table.schema if pa.types.is_string(field.type)]  # of chat models' rows the task
    names = [name for name in table.column_names if name not in ("prompt", "completion", *text, *COLUMNS)]
    return {name: _to_array(table[name].combine_chunks()) for name in names}


def task_columns(rows: object, task: Task) -> dict[str, np.ndarray] | None:
    """The columns of a task in the data set of a DataLoader; None where it has lost them, or is a stream.

    ValueError where they are of another task or size.
    """
    dataset = rows.source if isinstance(rows, TokenRows) else rows
    names = list(task.sample(np.random.default_rng(0), 0))
    if not isinstance(dataset, datasets.Dataset) or not set(names) <= set(dataset.column_names):
        return None
    columns = to_columns(dataset.select_columns(names))
    task.checked_answers(columns)
    return columns


def check_order(rows: object, target_ids: np.ndarray) -> None:
    """ValueError unless these targets (n, T), -100 behind their ends, are those of the data set's first n rows."""
    source = rows.source if isinstance(rows, TokenRows) else rows
    if "target_ids" not in source.column_names:  # a transform makes them
        return
    own = [*source.select_columns("target_ids").with_format(None)[: len(target_ids)]["target_ids"]]
    if [[i for i in row if i >= 0] for row in target_ids.tolist()] != own:
        raise ValueError(
            "evaluation batches do not come in the order of their rows, so that answers would be judged by other rows; "
            "evaluate a data set of those rows in that order (select, shuffle) in place of an own sampler or loader."
        )


FIRST_ROWS = 64
"""Among so many rows of a range some are smaller than the largest."""


def check_first_rows(task: Task, **sets: object) -> None:
    """ValueError for a data set, or one of a dict of them, whose first rows have columns of another task or size."""
    for name, given in sets.items():
        for rows in given.values() if isinstance(given, dict) else [given]:
            if isinstance(rows, datasets.Dataset) and len(rows):
                try:
                    task_columns(rows.select(range(min(FIRST_ROWS, len(rows)))), task)
                except ValueError as error:
                    raise ValueError(f"{name}: {error} Or give the Trainer the task that the rows are of.") from error


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
