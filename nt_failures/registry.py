"""Find a class by its name in a package's dictionary, or by a dotted path to a user's own class."""

import dataclasses
import difflib
import importlib
import inspect
import sys
from collections.abc import Collection, Mapping
from types import MemberDescriptorType, ModuleType


class NotImported(ValueError):
    """A file names a class of a module that the user has not imported."""


class OtherDefinition(ValueError):
    """A file was written under another definition of the class that it names."""


def check_decorated(cls: type) -> None:
    """ValueError if a class sets fields that a dataclass does not see: without its decorator, or without a type."""
    for kind in cls.__mro__:
        bases = [base for base in kind.__mro__[1:] if dataclasses.is_dataclass(base)]
        if not bases:
            continue
        annotated = inspect.get_annotations(kind)
        inherited = {field.name for base in bases for field in dataclasses.fields(base)}
        own = {name for name, value in vars(kind).items() if not isinstance(value, MemberDescriptorType)}  # of slots
        lost = (own & inherited) - annotated.keys()
        if "__dataclass_fields__" not in vars(kind):
            lost |= {name for name, of in annotated.items() if "ClassVar" not in str(of)}
        if lost:
            raise ValueError(
                f"{kind.__name__} sets {', '.join(sorted(lost))}, which would change nothing; give each its type, as "
                "in `size: int = 3`, and write @dataclasses.dataclass(frozen=True) above the class."
            )


def find(known: Mapping[str, type], base: type, name: str, from_file: bool = False) -> type:
    """The class behind `name`: an entry of `known`, or a user's own class derived from `base`.

    Importing a module runs it. So a dotted path is imported where the user typed it, and never because a file says so.

    Args:
        known: classes by their command-line names, such as `objectives.OBJECTIVES`.
        base: what the class must derive from.
        name: a key of `known` (`"teacherless"`), or a dotted path (`"my_package.my_module.MyObjective"`).
        from_file: the name was read from a file, so the user's module must be imported already.

    Raises:
        ValueError: an unknown name (the nearest is suggested), or a dotted path to no concrete class of this kind.
        NotImported: a file names a class whose module is not imported.

    Example:
        >>> from nt_failures.objectives import OBJECTIVES, Objective
        >>> find(OBJECTIVES, Objective, "next_token")
        <class 'nt_failures.objectives.next_token.NextToken'>
    """
    kind = f"{base.__name__.lower()}s"
    if "." in name:
        return _find_own(kind, base, name, from_file)
    if name not in known:
        raise ValueError(
            f"{kind}: unknown name {shorten(name)}.{suggestion(name, known)} Known: {', '.join(known)}, or a dotted "
            "path to your own class."
        )
    return known[name]


def _find_own(kind: str, base: type, name: str, from_file: bool) -> type:
    module_name, _, class_name = name.rpartition(".")
    if not _is_dotted(name):
        raise ValueError(f"{kind}: {shorten(name)} is no dotted path; write it as my_package.my_module.MyClass.")
    module = own_module(kind, name, module_name, from_file)
    own = {c.__name__: c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base) and c is not base}
    if class_name not in vars(module):
        if from_file and module_name == "__main__":
            where = "a class of a script or notebook that is not this one"
            raise NotImported(f"{kind}: a file names {shorten(name)}, {where}; run its definition here, too.")
        has = f"; of this kind its module has {', '.join(sorted(own))}" if own else ""
        raise ValueError(f"{kind}: {shorten(name)} does not exist{has}.")
    cls = vars(module)[class_name]
    if not (inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls)):
        raise ValueError(
            f"{kind}: {shorten(name)} is no whole class derived from {base.__module__}.{base.__name__}; derive it from "
            "that, with all of its abstract methods."
        )
    return cls


def own_module(kind: str, name: str, module_name: str, from_file: bool) -> ModuleType:
    """The module that the class of a name lies in; NotImported where a file names it and it is not imported yet."""
    if from_file and module_name not in sys.modules:
        raise NotImported(
            f"{kind}: a file names {shorten(name)}, whose module is not imported, and no file may have it run; if you "
            f"trust that module, `import {module_name}` first (on the command line: --import_module {module_name})."
        )
    return import_own(module_name)


def name_of(cls: type) -> str:
    """The inverse of `find`: the name of one of our classes, which is its file's; the dotted path of a user's.

    A class that our file makes when it is asked for has the names of both, `reasoning_gym.chain_sum`.
    """
    package, _, module = cls.__module__.rpartition(".")
    if not package.startswith("nt_failures."):
        return f"{cls.__module__}.{cls.__qualname__}"
    return module if cls.__name__ in vars(sys.modules[cls.__module__]) else f"{module}.{cls.__name__}"


def import_own(module: str) -> ModuleType:
    """A module that the user named; ValueError if there is none."""
    if not _is_dotted(module):
        raise ValueError(f"cannot import {shorten(module)}: it is no module's name; write it as my_package.my_module.")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"cannot import {shorten(module)} ({str(error)[:300]}); is it on PYTHONPATH?") from error


def _is_dotted(name: str) -> bool:
    return len(name) <= 500 and all(part.isidentifier() and part.isprintable() for part in name.split("."))


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """ValueError unless the value of a parameter is one of the choices."""
    if value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ValueError(
            f"{name}={shorten(value, 80)} is not a choice; give one of {allowed}.{suggestion(value, choices)}"
        )


def check_names(lacking: str, names: Collection[str], known: Collection[str]) -> None:
    """ValueError unless all names are known; `lacking` begins its text, such as `GPT2Config has no field`."""
    if unknown := sorted(set(names) - set(known)):
        near = suggestion(unknown[0], known)
        raise ValueError(f"{lacking} {shorten(unknown[0])}.{near} It has {', '.join(known)}.")


def suggestion(name: object, known: Collection[str], cutoff: float = 0.6) -> str:
    """` Did you mean 'x'?` for the nearest of the known names, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


def shorten(value: object, limit: int = 200) -> str:
    """A value for an error message: its `repr`, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def plural(n: float, thing: str) -> str:
    """`1 graph`, `2,000 graphs`: a whole number and what it counts, whose plural is with an s."""
    count = f"{n:,.0f}"
    return f"{count} {thing}{'s' * (count != '1')}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
