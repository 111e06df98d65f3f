"""A grid of runs: a common recipe, and named choices along axes. Every combination becomes a recipe file.

A grid file is a YAML mapping from the axis to its choices, and from a choice to the values that it sets:

    problems:
      deg2-path3-nodes7: {degree: 2, path_length: 3, num_nodes: 7}
    objectives:
      next_token: {objective: next_token, order: forward}
      next_token-reversed: {objective: next_token, order: reversed}
      multi_token_heads: {objective: multi_token_heads, objective_options: {heads: answer_length}}

In place of a number, an option may have the name of one: `answer_length`, the symbols of the task's longest answer, or
one of the recipe's numbers. A whole number may be taken off: `path_length - 1`.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nt_failures.experiments import flags
from nt_failures.experiments.arguments import DataArguments
from nt_failures.experiments.command_line import read_recipe
from nt_failures.tasks import find_task

Axes = dict[str, dict[str, dict[str, Any]]]  # axis -> choice -> the values of a recipe that the choice sets

OBJECTIVE_KEYS = ("objective", "order", "objective_options")
"""All that the recipes of a comparison may differ in."""


def read_axes(path: Path, allowed: Mapping[str, Sequence[str]]) -> Axes:
    """Read a grid file; ValueError for one that does not keep to the form.

    `allowed` are the axes that the file must have, in any order, each with the names that its choices may set.
    """
    axes = read_recipe(path)
    if set(axes) != set(allowed):
        raise ValueError(f"{path} has the axes {', '.join(axes) or 'none'}; it must have {', '.join(allowed)}.")
    for axis, choices in axes.items():
        if not isinstance(choices, dict) or not choices:
            raise ValueError(f"{path}: {axis} must map the name of each choice to its values, at least one.")
        for name, values in choices.items():
            if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"{path}: {axis}: {name!r} cannot name a file; use letters, digits, '_', '-' and '.'.")
            if not isinstance(values, dict) or not values or not set(values) <= set(allowed[axis]):
                may = ", ".join(allowed[axis])
                raise ValueError(f"{path}: {axis}: {name} may set {may}, and must set one of them.")
    names = [name for choices in axes.values() for name in choices]
    stems = ["-".join(chosen) for chosen in itertools.product(*axes.values())]
    for kind, given in (("choices", names), ("combinations", stems)):
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise ValueError(f"{path}: two {kind} are named {twice[0]!r}; give each a name of its own.")
    return axes


def write_recipes(common: Path, axes: Axes, folder: Path) -> dict[tuple[str, ...], Path]:
    """A recipe in `folder` for every combination, by the names of its choices; the last axis varies fastest.

    A choice overrides the common recipe, whose `objective_options` are for its own objective and dropped with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared, paths = read_recipe(common), {}
    for names in itertools.product(*axes.values()):
        values = dict(shared)
        for choices, name in zip(axes.values(), names, strict=True):
            if "objective" in choices[name]:
                values.pop("objective_options", None)
            values |= choices[name]
        if "objective_options" in values:
            options = values["objective_options"]
            values["objective_options"] = {name: _number(value, values) for name, value in options.items()}
        paths[names] = folder / f"{'-'.join(names)}.yaml"
        paths[names].write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return paths


def _number(value: Any, recipe: Mapping[str, Any]) -> Any:
    """The number that a text such as `answer_length - 1` stands for; anything else as it is."""
    found = re.fullmatch(r"(\w+)(?: - (\d+))?", value) if isinstance(value, str) else None
    number = None if found is None else recipe.get(found[1])
    if found is not None and found[1] == "answer_length":
        parser = flags.Parser([find_task(str(recipe.get("task", DataArguments.task)))])
        parser.recipe_defaults(recipe)
        (task,) = parser.parse_args_into_dataclasses([])
        number = task.answer_length
    return number - int(found[2] or 0) if type(number) is int else value
