"""Lookahead tasks: what a problem is and what counts as right. NumPy only. One task, one file."""

import json
from collections.abc import Mapping
from typing import Any

from nt_failures import registry
from nt_failures.tasks import reasoning_gym
from nt_failures.tasks._text import Text
from nt_failures.tasks.addition import Addition
from nt_failures.tasks.base import Task
from nt_failures.tasks.countdown import Countdown
from nt_failures.tasks.facts import Star
from nt_failures.tasks.hops import Hops
from nt_failures.tasks.in_weights_star import InWeightsStar
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.siblings import Siblings
from nt_failures.tasks.sort import Sort
from nt_failures.tasks.tree_star import TreeStar
from nt_failures.tasks.unequal_star import UnequalStar

__all__ = [
    "TASKS",
    "Addition",
    "Countdown",
    "Hops",
    "InWeightsStar",
    "PathStar",
    "Siblings",
    "Sort",
    "Star",
    "Task",
    "Text",
    "TreeStar",
    "UnequalStar",
    "described",
    "find_task",
    "read_task",
]

TASKS: dict[str, type[Task]] = {
    "addition": Addition,
    "countdown": Countdown,
    "hops": Hops,
    "in_weights_star": InWeightsStar,
    "path_star": PathStar,
    "siblings": Siblings,
    "sort": Sort,
    "tree_star": TreeStar,
    "unequal_star": UnequalStar,
}
"""Tasks by their command-line names, each the name of its file."""


def find_task(name: str, from_file: bool = False) -> type[Task]:
    """The task of a name, of `reasoning_gym.NAME`, or of a dotted path to your own class; errors as `registry.find`.

    Example:
        >>> find_task("sort")
        <class 'nt_failures.tasks.sort.Sort'>
    """
    if f"{name}.".startswith(reasoning_gym.PREFIX):
        return reasoning_gym.reasoning_gym_task(name, from_file)
    return registry.find(TASKS, Task, name, from_file)


def described(task: Task) -> str:
    """A task as JSON, which `read_task` reads: its name and its parameters.

    Example:
        >>> described(Sort(length=3))
        '{"task": "sort", "length": 3, "num_labels": 50, "mode": "sort"}'
    """
    return json.dumps({"task": registry.name_of(type(task)), **task.to_dict()})


def read_task(values: Mapping[str, Any]) -> Task:
    """Rebuild a task from `{"task": name, **parameters}`, which `described` writes as JSON.

    A class of your own must be imported already.

    Raises:
        ValueError: an unknown name, or a parameter out of range.

    Example:
        >>> read_task({"task": "path_star", "degree": 3, "path_length": 4, "num_nodes": 20})
        PathStar(degree=3, path_length=4, num_nodes=20)
    """
    parameters = dict(values)
    return find_task(parameters.pop("task"), from_file=True)(**parameters)
