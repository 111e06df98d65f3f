"""Classes found by the names of their files, and by dotted paths."""

import pytest

from nt_failures import finder
from nt_failures.objectives import NextToken, Objective, Teacherless
from nt_failures.tasks.path_star import PathStar

MINE = """
import dataclasses
from nt_failures.objectives.next_token import NextToken

@dataclasses.dataclass(frozen=True)
class Mine(NextToken):
    strength: float = 1.0
"""


def test_names_are_files():
    """Catches: the base class or a private file offered as a choice, a file forgotten."""
    assert {"hybrid", "masked_teacher", "next_token", "teacherless"} <= set(finder.names("objectives"))
    assert "path_star" in finder.names("tasks")
    for package in ("objectives", "tasks"):
        names = finder.names(package)
        assert names == sorted(names)
        assert not [name for name in names if name == "base" or name.startswith("_")]


def test_find_and_name_of():
    """Catches: an imported class found in the place of the file's own."""
    assert finder.find("objectives", "next_token") is NextToken
    assert finder.find("objectives", "teacherless") is Teacherless
    assert finder.find("tasks", "path_star") is PathStar
    for package in ("objectives", "tasks"):
        for name in finder.names(package):
            assert finder.name_of(finder.find(package, name)) == name


def test_a_users_own_class(tmp_path, monkeypatch):
    """Catches: a list that has to be edited to add a class, a saved run that cannot name one from outside."""
    (tmp_path / "users_own_objective.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    mine = finder.find("objectives", "users_own_objective.Mine")
    assert finder.name_of(mine) == "users_own_objective.Mine"
    objective = mine(strength=0.5, positions=(2,))
    assert Objective.from_dict(objective.to_dict()) == objective
    assert finder.find("objectives", "nt_failures.objectives.next_token.NextToken") is NextToken


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("objectives", "teacherles", r"unknown name 'teacherles'. Did you mean 'teacherless'\? Known: .*next_token"),
        ("objectives", "zzz", r"unknown name 'zzz'. Known: .*hybrid.*or a dotted path"),
        ("objectives", "base", "unknown name 'base'"),
        ("objectives", "", "unknown name ''"),
        ("objectives", "no_such_package.Thing", "cannot import 'no_such_package'.*PYTHONPATH"),
        ("objectives", "nt_failures.objectives.next_token.Thing", "has no 'Thing'; of this kind it has NextToken"),
        ("objectives", "nt_failures.objectives.next_token.torch", "is no whole class derived from .*Objective"),
        ("objectives", "nt_failures.tasks.path_star.PathStar", "is no whole class derived from .*Objective"),
        ("tasks", "pathstar", "Did you mean 'path_star'"),
    ],
)
def test_errors_name_what_is_known(package, name, message):
    """Catches: a typo answered with a traceback of importlib, a class of another kind taken."""
    with pytest.raises(ValueError, match=message):
        finder.find(package, name)
