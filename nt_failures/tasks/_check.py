"""What a task promises, asked of a few of its instances before any are built: a slip is not to end a training."""

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import Columns

_ROWS = 8
"""Instances that are asked."""


def check_task(task: Task) -> None:
    """Raise ValueError, in one line, where the methods of a task contradict one another.

    More is asked by the contract, `pytest tests/tasks/test_tasks.py --task my_module.MyTask`.
    """
    columns = task.sample(np.random.default_rng(0), _ROWS)
    _check_columns(task, columns)
    _check_answers(task, columns)
    for order in ("forward", "reversed"):
        _check_decisions(task, columns, order)
    _check_texts(task, columns)


def _check_columns(task: Task, columns: Columns) -> None:
    name, sizes = type(task).__name__, {column: len(values) for column, values in columns.items()}
    if set(sizes.values()) != {_ROWS}:
        raise ValueError(f"sample(rng, {_ROWS}) of {name} gives {sizes} rows; give {_ROWS} in every column.")
    if wrong := [column for column, values in columns.items() if np.asarray(values).dtype.kind not in "iub"]:
        raise ValueError(f"column {wrong[0]!r} of {name} holds no whole numbers; give an array of them.")
    others = sorted(task.train_sample(np.random.default_rng(0), 1))
    if others != sorted(columns):
        raise ValueError(f"train_sample of {name} gives {others}, sample {sorted(columns)}; give the same columns.")
    if not task.symbols or task.symbols[-1] != task.DUMMY:
        raise ValueError(f"the symbols of {name} do not end with DUMMY, {task.DUMMY!r}; list it last.")


def _check_answers(task: Task, columns: Columns) -> None:
    name, answers = type(task).__name__, np.asarray(task.answers(columns))
    if answers.shape != (_ROWS, task.answer_length):
        raise ValueError(
            f"the answers of {name} have the shape {answers.shape}; give (n, answer_length), (n, {task.answer_length})."
        )
    if task.END in task.symbols and (answers == task.symbols.index(task.END)).any():
        raise ValueError(
            f"an answer of {name} holds END, {task.END!r}; leave END out of {task.answer_column!r}, it is written for "
            "you, and give -1 in its place."
        )
    lengths = task.lengths(columns)
    has = np.arange(task.answer_length) < lengths[:, None]
    if (lengths < 1).any() or ((answers == -1) == has).any():
        raise ValueError(f"an answer of {name} is empty, or has -1 before its end; -1 stands behind its end alone.")


def _check_decisions(task: Task, columns: Columns, order: str) -> None:
    name, lengths = type(task).__name__, task.lengths(columns)
    decisions, guess = task.decisions(columns, order), task.guess(columns, order)
    if ((decisions < 0) | (decisions > lengths)).any():
        raise ValueError(
            f"the decision of {name}, in {order} order, is at {sorted({*decisions.tolist()})} of answers of "
            f"{sorted({*lengths.tolist()})} symbols; give a position from 1 to the answer's length, or 0 for none."
        )
    if (choices := task.choices(columns, order)) is not None:
        rows = np.flatnonzero(decisions)
        right = np.asarray(task.answers(columns))[rows, decisions[rows] - 1]
        if not (np.asarray(choices)[rows] == right[:, None]).any(axis=1).all():
            raise ValueError(f"the choices of {name} lack the right symbol of a decision; give it, too.")
    if (wrong := guess[(guess <= 0) | (guess > 1)]).size:
        raise ValueError(f"the chance of {name} is {float(wrong[0])}; give a share above 0 and at most 1.")


def _check_texts(task: Task, columns: Columns) -> None:
    name, texts = type(task).__name__, {column: text.to_list() for column, text in task.texts(columns).items()}
    sizes = {column: len(text) for column, text in texts.items()}
    if set(sizes.values()) != {_ROWS}:
        raise ValueError(f"render of {name} gives {sizes} texts for {_ROWS} instances; give one for each.")
    if task.texts(task.with_answers(columns, task.answers(columns)[::-1]))["prompt"].to_list() != texts["prompt"]:
        raise ValueError(
            f"render of {name} makes the prompt of {task.answer_column!r}, the right answers; make it of other "
            "columns, as a model is shown other answers behind the same prompt."
        )
    read = [task.read_answer(text) for text in texts["completion"]]
    if not (exact := np.asarray(task.judge(columns, read)["exact"])).all():
        row = int(np.argmin(exact))
        raise ValueError(
            f"the completion {shorten(texts['completion'][row], 80)} of {name} reads as {read[row]}, which its judge "
            f"calls wrong; the right answer is {task.answers(columns)[row].tolist()}."
        )
