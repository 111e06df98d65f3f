"""A grid of runs: a common recipe, and named choices along axes. Every combination becomes a recipe file.

A grid file is a YAML mapping from the axis to its choices, and from a choice to the values that it sets:

    problems:
      deg2-path3-nodes7: {degree: 2, path_length: 3, num_nodes: 7}
    objectives:
      next_token: {objective: next_token, order: forward}
      next_token-reversed: {objective: next_token, order: reversed}
      multi_token_heads: {objective: multi_token_heads, objective_options: {heads: answer_length}}

A sweep needs no file: `flag_axes` makes an axis of each flag that is given several values.

In place of a number, an option may have the name of one: `answer_length`, the symbols of the task's longest answer, or
one of the recipe's numbers. A whole number may be taken off: `path_length - 1`.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nt_failures.experiments import flags
from nt_failures.experiments.arguments import DataArguments
from nt_failures.experiments.command_line import for_task, read_recipe
from nt_failures.experiments.merging import override
from nt_failures.hub.recipe import read_yaml, yaml_text
from nt_failures.registry import first_line
from nt_failures.tasks import find_task

Axes = dict[str, dict[str, dict[str, Any]]]  # axis -> choice -> the values of a recipe that the choice sets

OBJECTIVE_KEYS = ("objective", "order", "objective_options")
"""All that the entries of a comparison may differ in."""
NOT_SWEPT = dict.fromkeys(OBJECTIVE_KEYS, "objectives are compared by the list of --objectives") | {
    "seed": "it is set for each run; say with --seeds how many there are to be",
    "output_dir": "it is set for each run; --output_dir is the study's",
}
"""Flags that no axis of a sweep may set, and why."""


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


def flag_axes(words: Sequence[str], common: Path) -> Axes:
    """An axis for each word `flag=value,value`, with a choice `flag=value` for each value, written as in a recipe.

    The choice that is the common recipe's own value has no name: so a run without it, and one of a sweep that leaves
    this axis out, is the same run.

    Raises:
        ValueError: a word of another form, a flag or a value that is given twice, a flag that cannot be swept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recipe = Path(folder) / "recipe.yaml"
        ...     _ = recipe.write_text("{learning_rate: 0.001}")
        ...     flag_axes(["learning_rate=1e-3,2e-3"], recipe)
        {'learning_rate': {'': {'learning_rate': 0.001}, 'learning_rate=0.002': {'learning_rate': 0.002}}}
    """
    axes: Axes = {}
    recipe = read_recipe(common)
    for word in words:
        flag, _, text = word.partition("=")
        if not (flag.isidentifier() and text) or flag in axes:
            raise ValueError(f"--grid {word!r}: give each flag once, as FLAG=VALUE,VALUE.")
        if flag in NOT_SWEPT:
            raise ValueError(f"--grid {flag}: {NOT_SWEPT[flag]}.")
        try:
            values = read_yaml(f"[{text}]")
        except yaml.YAMLError as error:
            raise ValueError(
                f"--grid {word!r} cannot be read ({first_line(error)}); write values as in a recipe."
            ) from error
        names = ["" if flag in recipe and value == recipe[flag] else _name(flag, value) for value in values]
        if twice := [_name(flag, value) for value, name in zip(values, names, strict=True) if names.count(name) > 1]:
            raise ValueError(f"--grid {word!r}: two values would be named {twice[0]!r}; give each once.")
        own = {flag: recipe.get(flag)}
        axes[flag] = {name: {flag: value} if name else own for name, value in zip(names, values, strict=True)}
    return axes


def one_at_a_time(axes: Axes) -> Axes:
    """One axis in place of those of `flag_axes`: the common recipe itself, under no name, and each value alone.

    Example:
        >>> one_at_a_time({"model": {"": {"model": "a"}, "model=b": {"model": "b"}}, "lr": {"lr=1": {"lr": 1}}})
        {'changes': {'': {}, 'model=b': {'model': 'b'}, 'lr=1': {'lr': 1}}}
    """
    changes = {name: values for choices in axes.values() for name, values in choices.items() if name}
    return {"changes": {"": {}} | changes}


def shown(value: Any) -> str:
    """A value of a recipe as a table shows it; `-` for none."""
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.12g}" if isinstance(value, float) else json.dumps(value)


def _name(flag: str, value: Any) -> str:
    """The name of a choice, as a part of a file's."""
    return f"{flag}={re.sub(r'[^.+=A-Za-z0-9_-]+', '_', shown(value)).strip('_')}"


def write_recipes(common: Path, axes: Axes, folder: Path) -> dict[tuple[str, ...], Path]:
    """A recipe in `folder` for every combination, by the names of its choices; the last axis varies fastest.

    A choice overrides the common recipe as flags do: `objective_options` are for the recipe's own objective and dropped
    with it, and so are the parameters of its task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared, paths = read_recipe(common), {}
    for names in itertools.product(*axes.values()):
        values = dict(shared)
        for choices, name in zip(axes.values(), names, strict=True):
            _, values, _ = for_task(choices[name].get("task"), values)
            values = override(values, choices[name])
        if options := values.get("objective_options"):
            values["objective_options"] = {name: _number(value, values) for name, value in options.items()}
        paths[names] = folder / f"{'-'.join(filter(None, names))}.yaml"
        paths[names].write_text(yaml_text(values), encoding="utf-8")
    return paths


def _number(value: Any, recipe: Mapping[str, Any]) -> Any:
    """The number that a text such as `answer_length - 1` stands for; anything else as it is."""
    found = re.fullmatch(r"(\w+)(?: - (\d+))?", value) if isinstance(value, str) else None
    number = None if found is None else recipe.get(found[1])
    if found is not None and found[1] == "answer_length":
        parser = flags.Parser([find_task(str(recipe.get("task", DataArguments.task)))])
        parser.recipe_defaults(recipe, {})
        (task,) = parser.parse_args_into_dataclasses([])
        number = task.answer_length
    return number - int(found[2] or 0) if type(number) is int else value
