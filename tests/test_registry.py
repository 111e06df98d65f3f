"""Classes found by their names, and by dotted paths."""

import importlib
import inspect
import pkgutil
import sys

import pytest

from nt_failures import objectives, registry
from nt_failures.objectives import OBJECTIVES, NextToken, Objective, find_objective, read_objective
from nt_failures.tasks import TASKS, Task, find_task

MINE = """
import dataclasses
from nt_failures.objectives.next_token import NextToken

@dataclasses.dataclass(frozen=True)
class Mine(NextToken):
    strength: float = 1.0
"""


BOTH = [(OBJECTIVES, Objective), (TASKS, Task)]


@pytest.mark.parametrize(("known", "base"), BOTH)
def test_a_name_is_that_of_the_class_and_of_its_file(known, base):
    """Catches: a class under a name that `to_dict` does not write, a base class offered, a list without an order."""
    assert list(known) == sorted(known)
    for name, cls in known.items():
        assert registry.find(known, base, name) is cls
        assert registry.name_of(cls) == name == cls.__module__.rpartition(".")[2]
        assert issubclass(cls, base)
        assert not inspect.isabstract(cls)


@pytest.mark.parametrize(("known", "base"), BOTH)
def test_every_class_of_a_file_is_in_the_dict(known, base):
    """Catches: an objective in a file of the package that nobody can name."""
    package = importlib.import_module(base.__module__.rpartition(".")[0])
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    made = {c for module in modules for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base)}
    assert {c for c in made if not inspect.isabstract(c)} == set(known.values())


def test_a_helper_beside_the_objectives_is_no_objective(tmp_path):
    """Catches: a registry that lists files: no helper could lie beside what it helps."""
    (tmp_path / "helper_of_objectives.py").write_text("import dataclasses\n")
    sys.path_importer_cache.clear()
    objectives.__path__.append(str(tmp_path))
    try:
        importlib.import_module("nt_failures.objectives.helper_of_objectives")
        with pytest.raises(ValueError, match="unknown name 'helper_of_objectives'"):
            find_objective("helper_of_objectives")
        assert "helper_of_objectives" not in OBJECTIVES
    finally:
        objectives.__path__.remove(str(tmp_path))
        del sys.modules["nt_failures.objectives.helper_of_objectives"]


def test_choices_and_names_of_options():
    """Catches: a misspelt value or option refused without the nearest one, or a far one suggested."""
    registry.check_choice("order", "reversed", ("forward", "reversed"))
    with pytest.raises(
        ValueError, match=r"^order='reverse' is not a choice; give one of 'a', 'reversed'\. Did you mean"
    ):
        registry.check_choice("order", "reverse", ("a", "reversed"))
    with pytest.raises(ValueError, match=r"^order=None is not a choice; give one of 'forward'\.$"):
        registry.check_choice("order", None, ("forward",))
    registry.check_names("Thing has no field", {"size": 1}, ["size"])
    with pytest.raises(ValueError, match=r"^Thing has no field 'sise'\. Did you mean 'size'\? It has colour, size\.$"):
        registry.check_names("Thing has no field", {"size": 1, "sise": 2}, ["colour", "size"])
    with pytest.raises(ValueError, match=r"^Thing has no field 'zz'\. It has size\.$"):
        registry.check_names("Thing has no field", ["zz"], ["size"])


def test_a_users_own_class(tmp_path, monkeypatch):
    """Catches: a list that has to be edited to add a class, a saved run that cannot name one from outside."""
    (tmp_path / "users_own_objective.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    mine = find_objective("users_own_objective.Mine")
    assert registry.name_of(mine) == "users_own_objective.Mine"
    objective = mine(strength=0.5, positions=(2,))
    assert read_objective(objective.to_dict()) == objective
    assert find_objective("nt_failures.objectives.next_token.NextToken") is NextToken


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (find_objective, "teacherles", r"unknown name 'teacherles'. Did you mean 'teacherless'\? Known: .*next_token"),
        (find_objective, "zzz", r"unknown name 'zzz'. Known: .*hybrid.*or a dotted path"),
        (find_objective, "base", "unknown name 'base'"),
        (find_objective, "", "unknown name ''"),
        (find_objective, "no_such_package.Thing", "cannot import 'no_such_package'.*PYTHONPATH"),
        (
            find_objective,
            "nt_failures.objectives.next_token.Thing",
            "Thing' does not exist; of this kind its module has NextToken",
        ),
        (find_objective, "nt_failures.objectives.next_token.torch", "is no whole class derived from .*Objective"),
        (find_objective, "nt_failures.tasks.path_star.PathStar", "is no whole class derived from .*Objective"),
        (find_task, "pathstar", "Did you mean 'path_star'"),
    ],
)
def test_errors_name_what_is_known(find, name, message):
    """Catches: a typo answered with a traceback of importlib, a class of another kind taken."""
    with pytest.raises(ValueError, match=message):
        find(name)
