"""Options of objectives: fields with a range, and what is said of a value outside it."""

import dataclasses
import math
import numbers
from typing import Any

from nt_failures.registry import check_choice, shorten


def option(
    default: Any,
    least: float = 0,
    most: float = math.inf,
    whole: bool = False,
    above: bool = False,
    several: bool = False,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of an objective: a number from `least` to `most`, or None where that is the default.

    Args:
        whole: only whole numbers.
        above: `least` itself is out of range.
        several: a sequence of such numbers; without one only where that is the default.
        choices: one of these, in place of a number.

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
    return dataclasses.field(default=default, metadata={"allowed": (least, most, whole, above, several, choices)})


def check_option(field: dataclasses.Field, value: Any) -> None:
    """ValueError for a value out of the range of its `option`, or neither True nor False where the default is one."""
    if type(field.default) is bool and type(value) is not bool:
        raise ValueError(f"{field.name}={value!r} must be True or False; the default is {field.default}.")
    if "allowed" not in field.metadata or (value is None and field.default is None):
        return
    least, most, whole, above, several, choices = field.metadata["allowed"]
    if choices:
        check_choice(field.name, value, choices)
        return

    def fits(one: Any) -> bool:
        of_kind = type(one) is int if whole else isinstance(one, numbers.Real) and type(one) is not bool
        return of_kind and least <= one <= most and one < math.inf and not (above and one == least)

    given = value if several else (value,)
    if not (isinstance(given, tuple) and all(map(fits, given)) and (given or field.default == ())):
        kind = f"{'whole ' * whole}number{'s' * several} {'above' if above else 'from'} {least}"
        to = f" to {most}" if most < math.inf else ""
        what = ("a sequence of" if field.default == () else "a sequence of one or more") if several else "a"
        raise ValueError(f"{field.name}={shorten(value)} must be {what} {kind}{to}; the default is {field.default}.")
