"""recipe.yaml: the arguments that repeat a run, as one flat mapping; recipes as text and back."""

import re
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


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


for _kind in (_Loader, _Dumper):  # 1e-5 is a number, as in JSON and Python; PyYAML takes it for text without a dot
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?|\d*\.\d+)[eE][-+]?\d+$"), None)


def yaml_text(value: Any) -> str:
    """YAML that `read_yaml` reads back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(text: str) -> Any:
    """What YAML of a recipe says; a yaml.YAMLError, or a ValueError, for what it cannot say.

    Example:
        >>> read_yaml("{learning_rate: 1e-3, run_name: '1e-3'}")
        {'learning_rate': 0.001, 'run_name': '1e-3'}
    """
    return _Loader(text).get_single_data()


def scalar_texts(text: str) -> dict[str, str]:
    """The text of each number, date and truth value of a recipe: YAML makes 202401 of `output_dir: 2024_01`.

    Example:
        >>> scalar_texts("{output_dir: 2024_01, run_name: 1.10, save_strategy: no, task: path_star}")
        {'output_dir': '2024_01', 'run_name': '1.10', 'save_strategy': 'no'}
    """
    others = [f"tag:yaml.org,2002:{kind}" for kind in ("null", "map", "seq", "str")]
    nodes = yaml.compose(text, Loader=_Loader)
    return {name.value: node.value for name, node in (nodes.value if nodes else ()) if node.tag not in others}
