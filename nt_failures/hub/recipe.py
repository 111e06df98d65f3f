"""recipe.yaml: the arguments that repeat a run, as one flat mapping."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

ONCE = (
    *("resume", "resume_from_checkpoint", "overwrite_output_dir", "push_to_hub", "disable_tqdm", "run_name", "project"),
)
"""Arguments of one run, such as how it was resumed or published, that are no part of what repeats it."""


def recipe(arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The recipe that repeats a run, from its `Arguments.to_dict()`."""
    parts = ("data", "task", "model", "objective", "training")
    flat = {name: value for part in parts for name, value in arguments[part].items()}
    return {k: v for k, v in flat.items() if v is not None and k not in ONCE and not k.startswith("hub_")}


def recipe_text(arguments: Mapping[str, Mapping[str, Any]], local: Sequence[str] = ()) -> str:
    """`recipe` as YAML; a comment stands above each name of `local`, whose value was a folder or file, no Hub id."""
    lines = []
    for name, value in recipe(arguments).items():
        if name in local:
            kind = "file" if name.endswith("_file") else "folder"
            lines.append(f"# {name}: a {kind} on the machine of the run, not published and no Hub id; ")
            lines.append("name your own copy.\n")
        lines.append(yaml_text({name: value}))
    return "".join(lines)


def yaml_text(value: Any) -> str:
    """YAML as it is read back by `yaml.safe_load`."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
