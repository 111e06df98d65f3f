"""Reward functions for reinforcement learning, with the signature that TRL's `GRPOTrainer` calls.

    trainer = GRPOTrainer(model, reward_funcs=[reward_exact_answer], train_dataset=rows, ...)

Prompts and completions are text, or conversations (lists of messages), of which the last user message and the last
message count. A prompt that asks for `<answer>` tags, as those of `prompt_style="chat"` do, has the problem in its last
line, and is answered by what stands in the last pair of tags that is closed, so by nothing where there is none. Any
other is a problem as a whole, answered by the whole completion. TRL itself is not needed here.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import NotImported, first_line, shorten
from nt_failures.tasks import Task, chat, read_task
from nt_failures.tasks.path_star import PathStar, read_prompt

Messages = Sequence[Mapping[str, Any]]


def reward_exact_answer(
    prompts: Sequence[str | Messages], completions: Sequence[Any], task: Sequence[str] | None = None, **columns: Any
) -> list[float]:
    """1.0 where the completion is a right answer, no more and no less, else 0.0, by the judge of the row's own task.

    It serves every task, of yours too, and a mixture of them.

    Args:
        prompts: prompts, as text or conversations.
        completions: answers as text or lists of messages. Anything else scores 0.
        task: the column of that name, which the rows of `prompt_style="chat"` have.
        columns: the other columns, by which an answer is judged, and what else TRL passes.

    Raises:
        ValueError: the rows lack a column, one of `task` describes none, there are more prompts than completions or
            fewer, or a prompt is none.

    Example:
        >>> from nt_failures.tasks import Sort, described
        >>> row = {"task": [described(Sort(length=3))], "labels": [[31, 7, 48]], "answer": [[7, 31, 48]]}
        >>> prompts = ["Sort these. Write your answer between <answer> and </answer>.\\n31,7,48="]
        >>> reward_exact_answer(prompts, ["Easy: <answer>7,31,48</answer>"], **row)
        [1.0]
        >>> reward_exact_answer(prompts, ["7,31,48"], **row)
        [0.0]
    """
    if task is None:
        raise ValueError("the rows have no column 'task'; draw them with prompt_style='chat', and remove no column.")
    found = []
    for number, (_, text) in enumerate(_pairs(prompts, completions, "prompt")):
        of, names = task_of(task[number])
        if missing := [name for name in names if columns.get(name) is None]:
            raise ValueError(f"the rows have no column {missing[0]!r}, by which {of} judges; remove none of them.")
        row = {name: np.array([columns[name][number]]) for name in names}
        found.append(float(of.judge(row, [of.read_answer(text)])["exact"][0]))
    return found


def task_of(described: str) -> tuple[Task, list[str]]:
    """The task of a row, as `tasks.described` writes it, and the columns of its problems; ValueError if it is none."""
    try:
        return _task_of(described)
    except NotImported:
        raise
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(
            f"the column 'task' holds {shorten(described, 80)}, which is no task ({type(error).__name__}: "
            f"{first_line(error)}); each row needs the JSON that nt_failures.tasks.described(task) gives, as rows of "
            "prompt_style='chat' have it."
        ) from error


@functools.lru_cache(maxsize=64)
def _task_of(described: str) -> tuple[Task, list[str]]:
    task = read_task(json.loads(described))
    return task, list(task.sample(np.random.default_rng(0), 0))


def reward_exact_path(prompts: Sequence[str | Messages], completions: Sequence[Any], **columns: Any) -> list[float]:
    """1.0 where the completion is the whole path to the goal, no more and no less, else 0.0, by `PathStar.judge`.

    Args:
        prompts: path-star prompts, `"32,3|16,12|.../32,12="`, or conversations whose last user message is one.
        completions: answers, `"32,34,6,16,12"` with commas or blanks, or lists of messages. Anything else scores 0.
        columns: the other columns of the dataset and what else TRL passes; not used.

    Raises:
        ValueError: a prompt is no path-star graph, or there are more of one than of the other.

    Example:
        >>> reward_exact_path(["0,1|1,2|0,3|3,4/0,2="] * 2, ["0,1,2", "0,3,4"])
        [1.0, 0.0]
    """
    del columns
    found = []
    for task, row, answer in _read(prompts, completions):
        instance = {name: np.array([row[name]]) for name in ("edges", "source", "goal", "path")}
        found.append(float(task.judge(instance, [answer])["exact"][0]))
    return found


def reward_valid_prefix(prompts: Sequence[str | Messages], completions: Sequence[Any], **columns: Any) -> list[float]:
    """Share of the path's length that the completion walks along edges before its first false step, from 0 to 1.

    A step is valid if the first node is the source, and every later one a child of the node before it. A walk to a
    wrong leaf earns all of it: this teaches the look-ups, and only `reward_exact_path` rewards the decision.

    Args and errors: as in `reward_exact_path`.

    Example:
        >>> reward_valid_prefix(["0,1|1,2|0,3|3,4/0,2="] * 3, ["0,1,2", "0,3,4", "0,1,4"])
        [1.0, 1.0, 0.6666666666666666]
    """
    del columns
    return [valid_nodes(row, answer) / task.path_length for task, row, answer in _read(prompts, completions)]


def _read(prompts: Sequence, completions: Sequence) -> list[tuple[PathStar, dict[str, Any], list[int]]]:
    """For each pair the task of the prompt's size, its row with the true path, and the answer as labels."""
    found = []
    for number, (problem, answer) in enumerate(_pairs(prompts, completions, "path-star prompt"), start=1):
        try:
            task, row = read_prompt(problem)
        except ValueError as error:
            raise ValueError(f"prompt {number} is no path-star prompt: {error}") from error
        found.append((task, row, task.read_answer(answer)))
    return found


def _pairs(prompts: Sequence, completions: Sequence, kind: str) -> list[tuple[str, str]]:
    """Each problem and its answer: of a prompt that asks for tags the last line, and what stands between them."""
    if len(prompts) != len(completions):
        raise ValueError(f"{len(prompts)} prompts for {len(completions)} completions; give one completion for each.")
    found = []
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), start=1):
        try:
            problem, answer = _prompt_text(prompt), _completion_text(completion)
        except ValueError as error:
            raise ValueError(f"prompt {number} is no {kind}: {error}") from error
        if chat.OPEN in problem:
            problem, answer = problem.strip().rpartition("\n")[2], chat.read_tagged(answer)
        found.append((problem, answer))
    return found


def _prompt_text(prompt: str | Messages) -> str:
    """The prompt, or the last message of the user."""
    if isinstance(prompt, str):
        return prompt
    messages = [m for m in prompt if isinstance(m, Mapping)] if isinstance(prompt, (list, tuple)) else []
    said = [message.get("content") for message in messages if message.get("role") == "user"]
    if not said or not isinstance(said[-1], str):
        raise ValueError(f"{shorten(prompt, 80)}; give text, or a list of messages of which one is the user's text.")
    return said[-1]


def _completion_text(completion: Any) -> str:
    """The text of a completion; empty, which no judge takes for a path, where there is none."""
    if isinstance(completion, (list, tuple)) and completion and isinstance(completion[-1], Mapping):
        completion = completion[-1].get("content")
    return completion if isinstance(completion, str) else ""


def valid_nodes(row: Mapping[str, Any], answer: Sequence[int]) -> int:
    """Leading nodes of an answer that follow edges of the row's graph from its source."""
    steps = {(None, row["source"]), *map(tuple, row["edges"])}
    before = [None, *answer]
    valid = [step in steps for step in zip(before, answer, strict=False)]
    return [*valid, False].index(False)
