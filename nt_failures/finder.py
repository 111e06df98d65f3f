"""Find a class by the name of its file: the only registry of the library.

A task, an objective or a diagnosis is one file; the file's name is its command-line name. A name with a dot is a
path to the user's own class, so nothing of ours has to be edited to add one.
"""

import difflib
import importlib
import inspect
import pkgutil


def names(package: str) -> list[str]:
    """Names that `find(package, name)` knows, for example `names("objectives")`."""
    module = importlib.import_module(f"nt_failures.{package}")
    return sorted(m.name for m in pkgutil.iter_modules(module.__path__) if m.name != "base" and m.name[0] != "_")


def find(package: str, name: str) -> type:
    """The class behind `name`.

    Args:
        package: `"tasks"` or `"objectives"`; its `base.py` holds the base class that the answer derives from.
        name: the file's name (`"teacherless"`), or a dotted path to a class (`"my_package.my_module.MyObjective"`).

    Raises:
        ValueError: no such file (the nearest names are listed), or the dotted path is not a class of this kind.
    """
    base = importlib.import_module(f"nt_failures.{package}.base").BASE
    if "." in name:
        module_name, _, class_name = name.rpartition(".")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{package}: {name!r} is no dotted path; write it as my_package.my_module.MyClass.")
        try:
            found = vars(importlib.import_module(module_name)).get(class_name)
        except ImportError as error:
            raise ValueError(f"{package}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?") from error
        if not (inspect.isclass(found) and issubclass(found, base) and not inspect.isabstract(found)):
            raise ValueError(f"{package}: {name!r} is no whole class derived from {base.__module__}.{base.__name__}.")
        return found
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{package}: unknown name {name!r}.{hint} Known: {', '.join(known)}, or a dotted path to your own class."
        )
    module = importlib.import_module(f"nt_failures.{package}.{name}")
    (found,) = {
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__ and c.__name__[0] != "_"
    }
    return found


def name_of(cls: type) -> str:
    """The inverse of `find`: the file's name for our classes, the dotted path for a user's."""
    package, _, module = cls.__module__.rpartition(".")
    return module if package.startswith("nt_failures.") else f"{cls.__module__}.{cls.__qualname__}"
