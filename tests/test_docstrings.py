"""The examples in the docstrings of the package do what they show, and each public object has one."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import datasets
import pytest

import nt_failures

EXTRAS = {"peft", "trl", "lm_eval", "gradio", "mamba_ssm"}
ROOT = Path(nt_failures.__file__).parents[1]
FINDER = doctest.DocTestFinder(recurse=False)


def modules():
    """All modules but the script of a Space, and those of extras that are not installed."""
    for found in pkgutil.walk_packages(nt_failures.__path__, "nt_failures."):
        if found.name != "nt_failures.evaluation.path_accuracy.app":
            try:
                yield importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name.partition(".")[0] not in EXTRAS:
                    raise


def public():
    """Classes and functions that the package or one of its folders exports, or that a page imports from a module."""
    named = [(nt_failures, nt_failures.__all__)]
    folders = [found.name for found in pkgutil.walk_packages(nt_failures.__path__, "nt_failures.") if found.ispkg]
    named += [(folder, vars(folder)) for folder in map(importlib.import_module, folders)]
    for page in ROOT.rglob("*.md"):
        for module, names in re.findall(r"from (nt_failures[.\w]*) import ([\w, ]+)", page.read_text(encoding="utf-8")):
            named.append((importlib.import_module(module), names.replace(" ", "").split(",")))
    values = [getattr(module, name) for module, names in named for name in names if not name.startswith("_")]
    ours = [value for value in values if inspect.isclass(value) or inspect.isfunction(value)]
    return {f"{v.__module__}.{v.__qualname__}": v for v in ours if v.__module__.startswith("nt_failures.")}


PUBLIC = public()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_examples():
    """Catches: an example with a name that is gone, or another result than it shows."""
    results = {module.__name__: doctest.testmod(module) for module in modules()}
    assert {name: result for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) > 200


def test_the_public_objects_are_found():
    """Catches: a list of public objects that has become empty or small, so that the next test says nothing."""
    short = {name.rpartition(".")[2] for name in PUBLIC}
    assert {*nt_failures.__all__} <= short
    assert {"Hops", "find_task", "read_objective", "option", "clever_hans", "PathAccuracy"} <= short


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_object_has_an_example(name):
    """Catches: an example that is missing, or no longer collected, as text that only looks like one."""
    assert any(test.examples for test in FINDER.find(PUBLIC[name], name))


def test_each_test_names_the_wrong_program_that_it_catches():
    """Catches: a test of which nobody knows what it is for."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert "Catches:" in (ast.get_docstring(node) or ""), f"{path}: {node.name}"
