"""A hash of source code: of modules, and of all modules of the user's own that they import, however deep."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType


def source_hash(modules: Iterable[str]) -> str:
    """Hash of the files of these modules, of those that they import, and of those that these import in turn.

    What is imported counts where it is the user's own: not the standard library, and no installed package but the
    importing module's own. Of nt_failures, what lies beside the importing module counts. Nothing is imported for this.
    A module without a file, such as `__main__` in a notebook, counts by what it imports alone.
    """
    code: dict[str, bytes] = {}
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if name not in code:
            path = _file(name)
            code[name] = path.read_bytes() if path else b""
            waiting += [other for other in _imports(name, code[name]) if _is_own(other, name)]
    digests = [hashlib.sha256(code[name]).digest() for name in sorted(code) if code[name]]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def definition(kind: type) -> str:
    """The `VERSION` of a task or an objective; of the user's own, whose code changes without one, its hash, too."""
    own = not kind.__module__.startswith("nt_failures.")
    return f"{kind.VERSION}{f', code {source_hash([kind.__module__])[:12]}' if own else ''}"


def _imports(name: str, code: bytes) -> Iterator[str]:
    """Names of modules in the imports of the code, wherever in it; some are names of functions or classes instead.

    Of an imported module, also what it holds at the moment, for code that cannot be read.
    """
    for node in _statements(code):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        else:
            with contextlib.suppress(ImportError):  # more dots than there are packages
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), _package(name))
                yield from _with_parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)
    for value in list(vars(sys.modules[name]).values()) if name in sys.modules else []:
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, (type, FunctionType)):
            yield value.__module__


@functools.lru_cache(maxsize=512)
def _statements(code: bytes) -> list[ast.Import | ast.ImportFrom]:
    """The imports of the code; parsed once, as every builder asks for them."""
    with contextlib.suppress(SyntaxError, ValueError):  # not Python, or not of this version
        return [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return []


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _package(name: str) -> str:
    """The package that a module lies in; a package lies in itself."""
    spec = _spec(name)
    return name.rpartition(".")[0] if spec is None else spec.parent


def _is_own(name: str, importer: str) -> bool:
    top = name.partition(".")[0]
    if top == "nt_failures":
        return name.rpartition(".")[0] == _package(importer)
    if top in sys.stdlib_module_names or (path := _file(name)) is None:
        return False
    # A module lies as deep as its name says in the folder that holds its package, or a package one deeper.
    folder = path.parents[name.count(".") + (path.stem == "__init__")]
    return top == importer.partition(".")[0] or not _holds_installed(folder)


@functools.cache
def _holds_installed(folder: Path) -> bool:
    """Whether packages are installed there: an environment's folder, or one of `pip install --target`."""
    return bool({"site-packages", "dist-packages"} & {*folder.parts}) or any(folder.glob("*.dist-info"))


def _file(name: str) -> Path | None:
    """The file of a module, imported or not; None where there is none."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        spec = _spec(name)
        file = spec.origin if spec is not None and spec.has_location else None
    return Path(file) if file is not None and Path(file).is_file() else None


def _spec(name: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, which would import the packages that the module lies in."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(name)
    package = _spec(parent)
    places = package.submodule_search_locations if package is not None else None
    return None if places is None else PathFinder.find_spec(name, places)
