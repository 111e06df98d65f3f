"""Options of objectives: fields with a range, and what is said of a value outside it."""

import dataclasses
import math
import numbers
from typing import Any


def option(default: Any, least: float = 0, most: float = math.inf, whole: bool = False, above: bool = False) -> Any:
    """A field of an objective: a number from `least` to `most`, or None where that is the default.

    Args:
        whole: only whole numbers.
        above: `least` itself is out of range.

    Raises:
        ValueError: as the objective is made, for a value out of range; it names the option, its range and its default.

    Example:
        >>> from nt_failures.objectives import NextToken
        >>> @dataclasses.dataclass(frozen=True)
        ... class Focal(NextToken):
        ...     gamma: float = option(2.0)
        >>> Focal(gamma=-1)
        Traceback (most recent call last):
        ValueError: gamma=-1 must be a number from 0; the default is 2.0.
    """
    return dataclasses.field(default=default, metadata={"range": (least, most, whole, above)})


def check_option(field: dataclasses.Field, value: Any) -> None:
    """ValueError for a value out of the range of its `option`, or neither True nor False where the default is one."""
    if type(field.default) is bool and type(value) is not bool:
        raise ValueError(f"{field.name}={value!r} must be True or False; the default is {field.default}.")
    if "range" not in field.metadata or (value is None and field.default is None):
        return
    least, most, whole, above = field.metadata["range"]
    of_kind = type(value) is int if whole else isinstance(value, numbers.Real) and type(value) is not bool
    if not (of_kind and least <= value <= most and value < math.inf and not (above and value == least)):
        kind = f"a {'whole ' if whole else ''}number {'above' if above else 'from'} {least}"
        to = f" to {most}" if most < math.inf else ""
        raise ValueError(f"{field.name}={value!r} must be {kind}{to}; the default is {field.default}.")
