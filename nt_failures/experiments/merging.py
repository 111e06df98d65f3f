"""A recipe's mappings and the flags that override parts of them: what is kept, what is dropped, in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nt_failures.experiments.arguments import ModelArguments, ObjectiveArguments
from nt_failures.hub.json_files import check_finite
from nt_failures.models.families import SIZE

OPTIONS = {
    "config_overrides": "model",
    "objective_options": "objective",
    "lr_scheduler_kwargs": "lr_scheduler_type",
    "lora": None,
}
"""Flags that are JSON mappings, and the flag of what each is for: the recipe's are for the recipe's choice of it."""
DEFAULTS = {"model": ModelArguments.model, "objective": ObjectiveArguments.objective, "lr_scheduler_type": "linear"}
"""Of these flags, the last one being of `transformers.TrainingArguments`."""


def merge(values: dict[str, Any], flags: Sequence[str], recipe: Mapping[str, Any]) -> list[str]:
    """Make mappings of the JSON among `values`, a flag's keys over the recipe's; a null removes the recipe's key.

    The recipe's stay while its own choice does: the objective, the schedule, the model or another size of its family.
    Returns what was kept and dropped, a line for each flag. ValueError for what is no JSON object.
    """
    joined, notes = override(recipe, {name: values[name] for name in flags if name in values}), []
    for option, choice in OPTIONS.items():
        if option not in values:
            continue
        own, changed = mapping(option, recipe.get(option)), {option, choice} & set(flags)
        values[option] = mapping(option, joined.get(option, {}) if own and changed else values[option])
        if values[option] is None and option in ("config_overrides", "objective_options"):
            values[option] = {}  # a key of a recipe with nothing below it
        if own and changed:
            kept = {k: v for k, v in own.items() if k in values[option] and values[option][k] == v}
            notes.append(note(option, kept, {k: v for k, v in own.items() if k not in kept}))
    return notes


def override(recipe: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with a choice's values over its own, of whose mappings as much stays as under flags (`merge`).

    Example:
        >>> recipe = {"objective": "hybrid", "objective_options": {"share": 0.5}, "lora": {"r": 8}}
        >>> override(recipe, {"objective": "teacherless", "lora": {"lora_alpha": 4}})
        {'objective': 'teacherless', 'lora': {'r': 8, 'lora_alpha': 4}}
    """
    values = {**recipe, **choice}
    for option, of in OPTIONS.items():
        own = mapping(option, recipe.get(option))
        if own and {option, of} & set(choice) and values[option] is not None:
            stays = of not in choice or _alike(str(choice[of]), str(recipe.get(of, DEFAULTS[of])))
            values[option] = _joined(own, mapping(option, choice.get(option)) or {}, stays)
            if not (stays or values[option]):
                del values[option]
    return values


def _joined(own: Mapping[str, Any], given: Mapping[str, Any], stays: bool) -> dict[str, Any]:
    """What is given, over the recipe's own where that stays; there a null removes."""
    removed = {name for name in own if stays and name in given and given[name] is None}
    return {name: value for name, value in {**(own if stays else {}), **given}.items() if name not in removed}


def note(what: str, kept: Mapping[str, Any], dropped: Mapping[str, Any]) -> str:
    """What became of some values of the recipe."""
    named = {"kept": kept, "dropped": dropped}
    lists = [f"{verb} {', '.join(f'{k}={v}' for k, v in some.items())}" for verb, some in named.items() if some]
    return f"of {what} in the recipe: {'; '.join(lists)}"


def _alike(chosen: str, before: str) -> bool:
    sizes = [SIZE.fullmatch(name) for name in (chosen, before)]
    return chosen == before or (all(sizes) and sizes[0][1] == sizes[1][1])


def mapping(name: str, value: Any) -> dict[str, Any] | None:
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
