"""Reward functions for reinforcement learning on path-star graphs, with the signature that TRL's `GRPOTrainer` calls.

    trainer = GRPOTrainer(model, reward_funcs=[reward_exact_path, reward_valid_prefix], train_dataset=rows, ...)

The graph is read from the prompt, so one function serves every degree and length, and a mixture of sizes. Prompts and
completions are text, or conversations (lists of messages), of which the last user message and the last message count.
TRL itself is not needed here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks.path_star import PathStar, read_prompt

Messages = Sequence[Mapping[str, Any]]


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
    return [_valid_nodes(row, answer) / task.path_length for task, row, answer in _read(prompts, completions)]


def _read(prompts: Sequence, completions: Sequence) -> list[tuple[PathStar, dict[str, Any], list[int]]]:
    """For each pair the task of the prompt's size, its row with the true path, and the answer as labels."""
    if len(prompts) != len(completions):
        raise ValueError(f"{len(prompts)} prompts for {len(completions)} completions; give one completion for each.")
    found = []
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), start=1):
        try:
            task, row = read_prompt(_prompt_text(prompt))
        except ValueError as error:
            raise ValueError(f"prompt {number} is no path-star prompt: {error}") from error
        found.append((task, row, task.read_answer(_completion_text(completion))))
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


def _valid_nodes(row: dict[str, Any], answer: list[int]) -> int:
    steps = {(None, row["source"]), *row["edges"]}
    before = [None, *answer]
    valid = [step in steps for step in zip(before, answer, strict=False)]
    return [*valid, False].index(False)
