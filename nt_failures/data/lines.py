"""Rows of a file, such as the data released with arXiv 2403.06963, as a dataset with a task's columns."""

import json
from pathlib import Path

import datasets
import numpy as np
from datasets.table import InMemoryTable

from nt_failures.data.columns import PROMPT_STYLES, to_table
from nt_failures.registry import check_choice, shorten
from nt_failures.tasks.base import Task
from nt_failures.tasks.path_star import read_prompt

JSON_LINES = (".jsonl", ".json", ".ndjson")
"""How the name of a file of JSON Lines ends; any other file is text."""


def load_lines(path: str | Path, task: Task | None = None, prompt_style: str = "text") -> datasets.Dataset:
    """Read a file of problems with their answers, one a line, in the file's order.

    A line of text is a prompt and behind it the answer, as in the released files, `edges/source,goal=path`. A line of
    JSON (`.jsonl`) has a `prompt` and a `completion`, as `dataset.to_json("rows.jsonl")` writes them; its other entries
    are not read. Each line is checked: a graph of another size, or an answer that is wrong, is an error.

    Args:
        path: the file, in UTF-8, with or without a byte order mark. Blank lines are left out.
        task: what the lines are of; any task that has `parse`. Default: path-star graphs of the size of the first line.
        prompt_style: `"text"`, or `"chat"` for rows with messages.

    Returns:
        The columns of the task, such as `edges`, `source`, `goal` and `path`, and `prompt` and `completion`: the rows
        that `load_dataset("nt_failures/pathstar")` has, ready for `tokenize`.

    Raises:
        ValueError: no line, or one that is none of the task's; the message has its number. OSError: no such file.

    Example:
        >>> import pathlib, tempfile
        >>> from nt_failures import load_lines
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "deg_2_path_3_nodes_10_test.txt"
        >>> _ = path.write_text("2,8|5,2|5,9|9,3/5,8=5,2,8\\n1,6|1,5|5,3|6,2/1,2=1,6,2\\n")
        >>> load_lines(path)[1]["path"]
        [1, 6, 2]
    """
    check_choice("prompt_style", prompt_style, PROMPT_STYLES)
    path, rows = Path(path), []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8 ({error}).") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = _text(line) if path.suffix in JSON_LINES else line
            if task is None:
                task = read_prompt(text.partition("=")[0] + "=")[0]
            rows.append(_row(task, text))
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from error
    if not rows:
        raise ValueError(f"{path.name} holds no line; each has a prompt and its answer.")
    drawn = task.sample(np.random.default_rng(0), 0)
    columns = {name: np.array([row[name] for row in rows], dtype=empty.dtype) for name, empty in drawn.items()}
    return datasets.Dataset(InMemoryTable(to_table(task, columns, prompt_style)))


def _text(line: str) -> str:
    """Prompt and completion of a line of JSON, one behind the other."""
    entry = json.loads(line)
    parts = [entry.get(name) for name in ("prompt", "completion")] if isinstance(entry, dict) else [None]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{shorten(line, 80)} has no `prompt` and `completion` that are text.")
    return "".join(parts)


def _row(task: Task, text: str) -> dict[str, object]:
    row = task.parse(text)
    if lacking := [name for name, value in row.items() if value is None]:
        raise ValueError(f"{shorten(text, 80)} has no {lacking[0]}; give the answer behind the prompt.")
    return row
