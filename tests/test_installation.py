"""The package as it is installed: from a clone (`pip install -e .`) and whole (`pip install .`)."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"

MAP = """
import datasets
import nt_failures as ntf
from nt_failures.data import builder

def draw():
    yield {"degree": ntf.PathStar().degree}

def add(row):
    return {"nodes": ntf.PathStar().num_nodes, "name": builder.PathStarBuilder.REPO_ID}

datasets.load_dataset("nt_failures/pathstar", num_train=10, num_test=0, cache_dir="cache")
rows = datasets.Dataset.from_generator(draw, cache_dir="cache")
print(rows.map(add)[0], *(file["filename"] for file in rows.map(add).cache_files))
"""


def built(kind, folder):
    """The wheel that `pip` would unpack, built in a copy of this clone, which is named as the package is."""
    clone = folder / "nt_failures"
    shutil.copytree(ROOT / "nt_failures", clone / "nt_failures", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    subprocess.run([sys.executable, "-c", BUILD, kind, str(folder)], cwd=clone, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=["build_editable", "build_wheel"])
def python(request, tmp_path_factory):
    """`python(words, cwd)`: what a fresh environment prints that has the package and, behind it, this one's packages;
    `python.folder` is the folder above the clone."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env")
    env = str(folder / "env")
    packages = Path(sysconfig.get_path("purelib", vars={"base": env, "platbase": env}))
    zipfile.ZipFile(built(request.param, folder)).extractall(packages)
    (packages / "zz_others.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    program = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words, cwd):
        done = subprocess.run([program, *words], cwd=cwd, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    run.folder = folder
    return run


def test_a_folder_of_the_same_name_hides_nothing(python, tmp_path):
    """Catches: `import nt_failures` beside a folder of that name, such as a clone, that gives an empty package."""
    (tmp_path / "nt_failures").mkdir()
    for cwd in (python.folder, tmp_path):
        assert python("-c", "import nt_failures; print(nt_failures.PathStar())", cwd=cwd)[0].startswith("PathStar(")


def test_a_function_that_names_the_package_is_cached(python, tmp_path):
    """Catches: a package that `datasets` pickles with all it holds: no `from_generator`, no cache for `map`."""
    (tmp_path / "use.py").write_text(MAP)
    first, second = (python("use.py", cwd=tmp_path) for _ in range(2))
    assert first[0].startswith("{'degree': 2, 'nodes': 50, 'name': 'nt_failures/pathstar'}")
    assert first[0] == second[0]
    assert "hashed" not in first[1] + second[1]


def test_the_wheel_holds_every_file(tmp_path):
    """Catches: a page or template that a clone has and an installed package lacks."""
    names = {name for name in zipfile.ZipFile(built("build_wheel", tmp_path)).namelist() if ".dist-info/" not in name}
    there = [path for path in (tmp_path / "nt_failures" / "nt_failures").rglob("*") if path.is_file()]
    assert names == {path.relative_to(tmp_path / "nt_failures").as_posix() for path in there}
