"""JSON files of a run: read, written whole, checked for NaN and infinity. Imports no torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; ValueError that names the file if it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested beyond reason
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all: a reader never sees half a file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2, default=np.generic.item) + "\n", encoding="utf-8")
    part.replace(path)


def portable(value: Any) -> Any:
    """The same value with absolute paths, which mean something on one machine only, shortened to their last name."""
    if isinstance(value, Mapping):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def not_finite(value: Any) -> list[str]:
    """Where in a nested value of JSON a number is NaN or infinite, each place written with dots."""
    found, left = [], [("", value)]
    while left:
        where, one = left.pop(0)
        inner = one.items() if isinstance(one, Mapping) else enumerate(one) if isinstance(one, (list, tuple)) else ()
        left += [(f"{where}.{name}".lstrip("."), part) for name, part in inner]
        if isinstance(one, float) and not math.isfinite(one):
            found.append(where)
    return found


def check_finite(name: str, value: Any) -> None:
    """ValueError if a nested value of JSON holds a number that is not finite; it names the first."""
    if bad := not_finite(value):
        raise ValueError(f"{name}: {bad[0]} is no finite number; give one, or leave it out.")
