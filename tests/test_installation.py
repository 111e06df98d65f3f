"""The package as it is installed: from a clone (`pip install -e .`) and whole (`pip install .`)."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import nt_failures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"

TINY = "--model gpt2-1x16 --max_steps 2 --eval_steps 2 --num_train 32 --num_validation 16 --num_test 40 --use_cpu true"

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
    for name in ("nt_failures", "examples/recipes"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    return build(kind, clone, folder)


def build(kind, clone, folder):
    """The file that setuptools writes."""
    subprocess.run([sys.executable, "-c", BUILD, kind, str(folder)], cwd=clone, check=True, capture_output=True)
    (file,) = folder.glob("*.tar.gz" if kind == "build_sdist" else "*.whl")
    return file


def contents(wheel):
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


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


@pytest.mark.parametrize("by_sdist", [False, True])
def test_the_wheel_holds_every_file(by_sdist, tmp_path):
    """Catches: a page, template or recipe that a clone has and an installed package lacks, or the source archive from
    which `python -m build` makes its wheel."""
    wheel = built("build_sdist" if by_sdist else "build_wheel", tmp_path)
    if by_sdist:
        shutil.unpack_archive(wheel, tmp_path / "unpacked")
        (source,) = (tmp_path / "unpacked").iterdir()
        wheel = build("build_wheel", source, tmp_path)
    package, recipes = (tmp_path / "nt_failures" / name for name in ("nt_failures", "examples/recipes"))
    files = {f"nt_failures/{path.relative_to(package).as_posix()}" for path in package.rglob("*") if path.is_file()}
    files |= {f"nt_failures/experiments/recipes/{p.relative_to(recipes).as_posix()}" for p in recipes.rglob("*.yaml")}
    assert contents(wheel) == files


def test_the_quickstart_runs_without_a_clone(python, tmp_path):
    """Catches: recipes that only a clone has, a run that reads a file of the clone."""
    said, _ = python("-m", "nt_failures.experiments.run", "--recipe", "quickstart", *TINY.split(), cwd=tmp_path)
    assert "2 <- decision" in said
    assert "after 2 steps" in said
    (results,) = tmp_path.glob("outputs/*/results.json")
    run = json.loads(results.read_text(encoding="utf-8"))
    assert run["versions"]["nt_failures"] == nt_failures.__version__


def test_one_version():
    """Catches: a citation of another version than the package says of itself, and a change log without it."""
    version = nt_failures.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "examples" / "CHANGELOG.md").read_text(encoding="utf-8")
