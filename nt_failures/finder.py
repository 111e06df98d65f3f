"""Find a class by the name of its file: the only registry of the library.

A task, an objective or a diagnosis is one file; the file's name is its command-line name. A name with a dot is a
path to the user's own class, so nothing of ours has to be edited to add one.

To import a module is to run it. So a dotted path is imported where the user typed it, and never because a file says so
that may come from anybody: `find(..., from_file=True)` takes our own names, and classes the user has imported already.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
from types import ModuleType


class NotImported(ValueError):
    """A file names a class of a module that the user has not imported."""


def shown(name: object) -> str:
    """What was given, as Python writes it: on one line, and cut where it goes on for long."""
    text = repr(name)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def names(package: str) -> list[str]:
    """Names that `find(package, name)` knows, for example `names("objectives")`."""
    module = importlib.import_module(f"nt_failures.{package}")
    return sorted(m.name for m in pkgutil.iter_modules(module.__path__) if m.name != "base" and m.name[0] != "_")


def find(package: str, name: str, from_file: bool = False) -> type:
    """The class behind `name`.

    Args:
        package: `"tasks"` or `"objectives"`; its `base.py` holds the base class that the answer derives from.
        name: the file's name (`"teacherless"`), or a dotted path to a class (`"my_package.my_module.MyObjective"`).
        from_file: the name was read from a file, so no module of the user's is imported for it.

    Raises:
        ValueError: no such file (the nearest names are listed), or the dotted path is not a class of this kind, or a
            file names one whose module is not imported.
    """
    base = importlib.import_module(f"nt_failures.{package}.base").BASE
    if "." in name:
        module_name, _, class_name = name.rpartition(".")
        if not _dotted(name):
            raise ValueError(f"{package}: {shown(name)} is no dotted path; write it as my_package.my_module.MyClass.")
        if from_file and module_name not in sys.modules:
            raise NotImported(
                f"{package}: a file names {shown(name)}, whose module is not imported, and no file may have it run; if you "
                f"trust that module, `import {module_name}` first (on the command line: --import_module {module_name})."
            )
        module = import_own(module_name)
        found = vars(module).get(class_name)
        if found is None:
            own = [
                c.__name__
                for c in vars(module).values()
                if inspect.isclass(c) and issubclass(c, base) and c is not base
            ]
            has = f"; of this kind it has {', '.join(sorted(own))}" if own else ""
            raise ValueError(f"{package}: the module {module_name} has no {shown(class_name)}{has}.")
        if not (inspect.isclass(found) and issubclass(found, base) and not inspect.isabstract(found)):
            raise ValueError(
                f"{package}: {shown(name)} is no whole class derived from {base.__module__}.{base.__name__}; derive "
                "it from that, with all of its abstract methods."
            )
        return found
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{package}: unknown name {shown(name)}.{hint} Known: {', '.join(known)}, or a dotted path to your own class."
        )
    module = importlib.import_module(f"nt_failures.{package}.{name}")
    (found,) = {
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__ and c.__name__[0] != "_"
    }
    return found


def import_own(module: str) -> ModuleType:
    """A module that the user named; ValueError if there is none."""
    if not _dotted(module):
        raise ValueError(f"cannot import {shown(module)}: it is no module's name; write it as my_package.my_module.")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"cannot import {shown(module)} ({str(error)[:300]}); is it on PYTHONPATH?") from error


def _dotted(name: str) -> bool:
    return len(name) <= 500 and all(part.isidentifier() and part.isprintable() for part in name.split("."))


def name_of(cls: type) -> str:
    """The inverse of `find`: the file's name for our classes, the dotted path for a user's."""
    package, _, module = cls.__module__.rpartition(".")
    return module if package.startswith("nt_failures.") else f"{cls.__module__}.{cls.__qualname__}"
