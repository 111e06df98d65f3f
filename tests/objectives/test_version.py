"""A model that was trained under another definition of its objective is refused."""

import dataclasses
import json
import sys
import types

import pytest

from nt_failures.objectives import NextToken, Teacherless, read_objective


def test_another_definition_is_refused(monkeypatch):
    """Catches: a model of the old definition that is loaded, decoded and tabled under the paper's name."""
    saved = json.loads(json.dumps(Teacherless(dummy_token_id=1).to_dict()))
    assert "version" not in saved
    assert read_objective(saved) == Teacherless(dummy_token_id=1)
    monkeypatch.setattr(Teacherless, "VERSION", 2)
    with pytest.raises(ValueError, match="version 1 of teacherless, and teacherless is version 2 now"):
        read_objective(saved)
    again = Teacherless(dummy_token_id=1).to_dict()
    assert again["version"] == 2
    assert read_objective(again) == Teacherless(dummy_token_id=1)


def test_versions_of_an_own_objective(monkeypatch):
    """Catches: versions that count for the library's objectives alone."""

    @dataclasses.dataclass(frozen=True)
    class Mine(NextToken):
        VERSION = 3

    Mine.__module__, Mine.__qualname__ = "mine", "Mine"
    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(Mine=Mine))
    assert read_objective(Mine().to_dict()) == Mine()
    with pytest.raises(ValueError, match=r"version 2 of mine\.Mine"):
        read_objective({**Mine().to_dict(), "version": 2})
