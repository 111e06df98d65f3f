"""The examples in the docstrings of the package do what they show."""

import doctest
import importlib
import pkgutil

import datasets
import pytest

import nt_failures

EXTRAS = {"peft", "trl", "lm_eval", "gradio", "mamba_ssm"}
WITH_EXAMPLE = ["PathStar", "PathStarBuilder", "Task", "add_tokens", "load_lines", "tokenize", "word_level_tokenizer"]


def modules():
    """All modules but the script of a Space, and those of extras that are not installed."""
    for found in pkgutil.walk_packages(nt_failures.__path__, "nt_failures."):
        if found.name != "nt_failures.evaluation.path_accuracy.app":
            try:
                yield importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name.partition(".")[0] not in EXTRAS:
                    raise


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


def test_examples():
    """Catches: an example with a name that is gone, or another result than it shows."""
    results = {module.__name__: doctest.testmod(module) for module in modules()}
    assert {name: result for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) > 20


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_public_names_have_an_example(name):
    """Catches: an example that is no longer collected, as text that only looks like one."""
    public = getattr(nt_failures, name)
    finder = doctest.DocTestFinder(recurse=False)
    assert any(test.examples for test in finder.find(public, name))
