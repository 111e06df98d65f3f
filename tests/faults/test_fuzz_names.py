"""Odd names of models, data sets, classes, modules, trackers and folders: found, or refused in one line that shows
them.

Nothing outside is read, written or run for them: paths that leave their folder, names of modules of Python's own, names
longer than the system takes, control characters, null characters, nothing at all.
"""

import contextlib
import os
import sys

import datasets
import pytest
from fuzzing import accepted, fuzz
from hypothesis import strategies as st

from nt_failures import registry
from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.experiments import output_dir
from nt_failures.experiments.command_line import parse
from nt_failures.hub.load import load
from nt_failures.models.families import from_scratch
from nt_failures.models.load import load_model
from nt_failures.objectives import OBJECTIVES, Objective, find_objective, read_objective
from nt_failures.tasks import TASKS, find_task
from nt_failures.tasks.path_star import PathStar

PARTS = [
    "..",
    ".",
    "/",
    "~",
    "\\",
    "-",
    "--",
    "\0",
    "\n",
    "\x1b[2J",
    "%00",
    "%2e%2e",
    " ",
    ":",
    "*",
    "$HOME",
    "@main",
    "1",
]
PARTS += [
    "next_token",
    "path_star",
    "gpt2-1x16",
    "gpt2-999x0",
    "nt_failures",
    "os.system",
    "this.s",
    "antigravity",
    "con",
]
PARTS += ["é", "\u202e", "\ud800", "😀", "http://x", "name.py", "a.b", "{}", "'", "a" * 300]


def _joined(mark):
    return st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(mark.join)


NAMES = st.one_of(*map(_joined, ("", "/", ".")), st.text(max_size=8), st.sampled_from(["", "x" * 5000, "../" * 2000]))


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working folder; afterwards nothing is in it, or beside it, and no module of Python's own was run."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
    assert not {"this", "antigravity"} & set(sys.modules)


def refused(call, name):
    """As `accepted`; the refusal shows the beginning of the name, on one line that no terminal obeys."""

    def shown():
        try:
            return call()
        except ValueError as error:
            text = str(error)
        assert text.isprintable(), repr(text)
        assert len(text) < 2000
        raise ValueError(text)

    return accepted(shown, *beginnings(name))


def beginnings(name):
    """How a message may begin to show a name."""
    start = name[:3]
    return repr(start)[1:-1], ascii(start)[1:-1], "".join(c if c.isprintable() else ascii(c)[1:-1] for c in start)


@fuzz(500, name=NAMES)
def test_models(name, empty):
    """Catches: a name of 5,000 characters that ends in the system's words; the whole of it shown; a path followed."""
    if accepted(lambda: from_scratch(name), *beginnings(name)):
        return
    for read in (load, lambda name: load_model(name, word_level_tokenizer(PathStar(2, 3, 10)), 40)):
        with contextlib.suppress(OSError):  # a name that a repository can have; there is no network
            assert refused(lambda read=read: read(name), name) is None


@fuzz(700, find=st.sampled_from([find_objective, find_task]), name=NAMES)
def test_classes_named_by_files(find, name, empty):
    """Catches: a module imported because a file names it."""
    before = set(sys.modules)
    found = refused(lambda: find(name, from_file=True), name)
    assert found is None or found in [*OBJECTIVES.values(), *TASKS.values()]
    assert not {module.split(".")[0] for module in set(sys.modules) - before} - {"nt_failures"}
    accepted(lambda: read_objective({"objective": name}), *beginnings(name))


TYPED = NAMES.filter(lambda name: not {"this", "antigravity"} & {name.split(".")[0]})
"""Whoever types these two has them run."""


@fuzz(700, name=TYPED)
def test_classes_and_modules_that_are_typed(name, empty):
    """Catches: a TypeError for `..`, a class of another kind, a package that is taken for a class."""
    found = refused(lambda: find_objective(name), name.split(".")[0])
    assert found is None or issubclass(found, Objective)
    module = refused(lambda: registry.import_own(name), name.split(".")[0])
    assert module is None or module.__name__ == name


@fuzz(300, name=NAMES)
def test_data_sets(name, empty):
    """Catches: a configuration that is a path."""
    found = refused(lambda: datasets.load_dataset("nt_failures/pathstar", name, streaming=True), name)
    assert found is None or name == ""  # which `datasets` takes for none given


@fuzz(60, name=NAMES, flag=st.sampled_from(["model", "task", "objective", "report_to"]))
def test_flags(name, flag, empty):
    """Catches: `--model=--`, which argparse reads as a list; a default folder that no system takes, or that leaves
    `outputs`."""
    if flag in ("task", "objective") and {"this", "antigravity"} & {name.split(".")[0]}:
        return
    args = refused(lambda: parse(["--use_cpu", f"--{flag}={name}"]), name)
    if args is not None and refused(lambda: output_dir.check(args) or "good", "outputs/") == "good":
        assert os.path.normpath(args.training.output_dir).split("/")[0] == "outputs"


@fuzz(60, name=NAMES)
def test_output_dirs(name, empty):
    """Catches: a name that the system refuses in its own words, and one that is looked at only after the training."""
    args = parse(["--use_cpu", "--output_dir=here"])
    args.training.output_dir = name
    refused(lambda: output_dir.check(args), name)
