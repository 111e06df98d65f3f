"""A recipe's mappings and the flags that override parts of them: what is kept, what is dropped, in words."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nt_failures.hub.json_files import check_finite
from nt_failures.models.families import SIZE

OPTIONS = {
    "config_overrides": "model",
    "objective_options": "objective",
    "lr_scheduler_kwargs": "lr_scheduler_type",
    "lora": None,
}
"""Flags that are JSON mappings, and the flag of what each is for: the recipe's are for the recipe's choice of it."""


def merge(
    values: dict[str, Any], flags: Sequence[str], recipe: Mapping[str, Any], parser: argparse.ArgumentParser
) -> list[str]:
    """Make mappings of the JSON among `values`, a flag's keys over the recipe's; a null removes the recipe's key.

    The recipe's stay while its own choice does: the objective, the schedule, the model or another size of its family.
    `parser` has the recipe as its defaults. Returns what was kept and dropped, a line for each flag. ValueError for
    what is no JSON object. Only those of the options are merged that are among `values`.
    """
    notes = []
    for option, choice in OPTIONS.items():
        if option not in values:
            continue
        values[option] = given = _mapping(option, values[option])
        own = _mapping(option, recipe.get(option)) or {}
        stays = choice not in flags or _alike(str(values[choice]), str(parser.get_default(choice)))
        if not own or not {option, choice} & set(flags):
            continue
        changes = (given or {}) if option in flags else {}
        joined = {**(own if stays else {}), **changes}
        removed = {name for name in own if stays and name in changes and changes[name] is None}
        values[option] = joined = {name: value for name, value in joined.items() if name not in removed}
        kept = {name: value for name, value in own.items() if name in joined and joined[name] == value}
        notes.append(note(option, kept, {name: value for name, value in own.items() if name not in kept}))
    return notes


def note(what: str, kept: Mapping[str, Any], dropped: Mapping[str, Any]) -> str:
    """What became of some values of the recipe."""
    named = {"kept": kept, "dropped": dropped}
    lists = [f"{verb} {', '.join(f'{k}={v}' for k, v in some.items())}" for verb, some in named.items() if some]
    return f"of {what} in the recipe: {'; '.join(lists)}"


def _alike(chosen: str, before: str) -> bool:
    sizes = [SIZE.fullmatch(name) for name in (chosen, before)]
    return chosen == before or (all(sizes) and sizes[0][1] == sizes[1][1])


def _mapping(name: str, value: Any) -> dict[str, Any] | None:
    """The mapping that a recipe or a flag gives, as JSON on a command line; None where there is none."""
    if value is None:
        return None
    form = "write it as '{\"key\": value}'"
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}={value[:200]!r} is not JSON ({error}); {form}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name}={value!r} is not a JSON object; {form}.")
    check_finite(name, found)
    return found
