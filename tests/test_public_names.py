"""The public names of the package, and what lies at its top."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nt_failures
from nt_failures.objectives import OBJECTIVES

TOP = Path(nt_failures.__file__).parent
FOLDERS = ["data", "diagnosis", "evaluation", "experiments", "hub", "models", "objectives", "tasks", "training"]


def for_type_checkers():
    """The names imported under TYPE_CHECKING, and the module each comes from."""
    tree = ast.parse((TOP / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {alias.name: statement.module for statement in block.body for alias in statement.names}


def test_one_list_of_public_names():
    """Catches: a name that is exported and that no editor sees, or the other way round, or from another module."""
    assert for_type_checkers() == {name: f"nt_failures.{module}" for name, module in nt_failures._MODULES.items()}
    assert sorted(nt_failures._MODULES) == nt_failures.__all__


def test_all_objectives_are_public():
    """Catches: a new objective that `nt_failures.<Name>` does not give."""
    for cls in OBJECTIVES.values():
        assert getattr(nt_failures, cls.__name__) is cls
        assert cls.__name__ in nt_failures.__all__


@pytest.mark.parametrize("name", nt_failures.__all__)
def test_a_public_name_is_that_of_its_module(name):
    """Catches: a name whose module has no such thing, or that `dir` does not list."""
    module = importlib.import_module(f"nt_failures.{nt_failures._MODULES[name]}")
    assert getattr(nt_failures, name) is getattr(module, name)
    assert name in dir(nt_failures)


def test_the_import_changes_nothing_but_datasets():
    """Catches: an import that silences the user's warnings, sets up logging, or leaves variables in the environment."""
    code = (
        "import logging, os, warnings\n"
        "state = lambda: (warnings.filters[:], logging.root.handlers[:], logging.root.level, dict(os.environ))\n"
        "import datasets, numpy\n"
        "before = state()\n"
        "import nt_failures\n"
        "assert state() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_top_of_the_package():
    """Catches: a module beside the folders, or a folder that the layers in setup.cfg do not know."""
    there = [path for path in TOP.iterdir() if path.name != "__pycache__"]
    assert sorted(path.name for path in there if path.is_file()) == ["__init__.py", "py.typed", "registry.py"]
    assert sorted(path.name for path in there if path.is_dir()) == FOLDERS
