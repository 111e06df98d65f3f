"""What a hash of source code sees: the user's own modules, however deep they are imported, and no others."""

import importlib
import sys

import pytest

from nt_failures.tasks import find_task
from nt_failures.tasks._sources import source_hash

TASK = """
import dataclasses
import importlib
import numpy
import my_shapes.deep
import installed.part
import targeted.part
from my_sizes import SIZE
from my_star import *
from nt_failures import PathStar

found = importlib.import_module("my_found")

@dataclasses.dataclass(frozen=True)
class Mine(PathStar):
    def sample(self, rng, n):
        from my_late.inner import draw
        return draw(self, rng, n)
"""

FILES = {
    "my_task.py": TASK,
    "my_sizes.py": "SIZE = 3\n",
    "my_star.py": "from my_behind_star import *\n",
    "my_behind_star.py": "ARMS = 2\n",
    "my_found.py": "",
    "my_shapes/__init__.py": "LABELS = 9\n",
    "my_shapes/deep.py": "from . import beside\n",
    "my_shapes/beside.py": "from .deeper.deepest import constant\n",
    "my_shapes/deeper/deepest.py": "constant = 1\n",  # a folder without __init__.py
    "my_late/__init__.py": "raise AssertionError('imported only to be hashed')\n",
    "my_late/inner.py": "import my_behind_late\nfrom ....nowhere import nothing\n",
    "my_behind_late.py": "this is no Python\n",
    "site-packages/installed/__init__.py": "",
    "site-packages/installed/part.py": "from installed import other\n",
    "site-packages/installed/other.py": "import my_unseen\n",
    "target/targeted/__init__.py": "",  # as by `pip install --target`
    "target/targeted/part.py": "import my_unseen\n",
    "target/targeted-1.0.dist-info/METADATA": "",
    "my_unseen.py": "",
    "my_stranger.py": "",
    "site-packages/packaged/__init__.py": "import installed.part\n",
    "site-packages/packaged/task.py": TASK.replace("my_sizes", "packaged.sizes"),
    "site-packages/packaged/sizes.py": "SIZE = 3\n",
}
SEEN = [name for name in FILES if not name.startswith(("site-packages", "target", "my_unseen", "my_stranger"))]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The folder of FILES, in which modules can be imported."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    monkeypatch.syspath_prepend(str(tmp_path / "target"))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def changes(folder, task):
    """The files by whose change the hash of a task changes."""
    seen, before = [], task.source_hash()
    for name in FILES:
        (folder / name).write_text(FILES[name] + "# changed\n")
        if task.source_hash() != before:
            seen.append(name)
        (folder / name).write_text(FILES[name])
    assert task.source_hash() == before
    return seen


def test_every_own_module_is_seen(files):
    """Catches: rows of old code after a change of a module behind another, of a constant, of a late import; a module
    that is run to be hashed; a new data set for each update of an installed package."""
    assert changes(files, find_task("my_task.Mine")) == SEEN


def test_an_installed_task_sees_its_own_package(files):
    """Catches: an update of a package of tasks that meets the rows of the version before."""
    seen = changes(files, find_task("packaged.task.Mine"))
    assert {name for name in seen if "site-packages" in name} == {
        f"site-packages/packaged/{name}.py" for name in ("task", "sizes", "__init__")
    }


def test_a_module_that_does_not_exist_any_more(files):
    """Catches: an error, or the hash of before, where a file was removed since it was imported."""
    importlib.import_module("my_sizes")
    before = source_hash(["my_sizes"])
    (files / "my_sizes.py").unlink()
    assert source_hash(["my_sizes"]) != before
