"""What the README and the pages behind it show works: Python is executed, commands are parsed, files exist."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from nt_failures.experiments import command_line, output_dir

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "examples" / "results"
BENCHMARKS = ROOT / "examples" / "benchmarks" / "README.md"
PAGES = [ROOT / "README.md", *ROOT.glob("examples/**/*.md"), ROOT / "tests" / "faults" / "README.md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands():
    lines = "".join("".join(blocks("bash", page.read_text(encoding="utf-8"))) for page in PAGES).splitlines()
    parts = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part]


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    """Catches a snippet that no longer runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["verdict"] in README
    assert names["metrics"]["eval_chance"] == 0.5
    assert (tmp_path / "outputs" / "readme" / "nt_failures.json").is_file()


@pytest.mark.parametrize("command", [c for c in commands() if "examples/train.py" in c])
def test_training_commands_parse(command):
    """Catches a renamed flag or recipe."""
    words = shlex.split(command)
    argv = words[words.index("examples/train.py") + 1 :]
    argv = [str(ROOT / word) if word.endswith(".yaml") else word for word in argv if word != "..."]
    argv += ["--use_cpu", "true"]  # recipes for a GPU ask for bf16, which is refused where there is none
    command_line.parse(argv, default_recipe=ROOT / "examples" / "recipes" / "quickstart.yaml")


TINY = "--model gpt2-1x16 --max_steps 2 --eval_steps 2 --num_train 32 --num_validation 16 --num_test 40 --use_cpu true"


def test_the_tutorial_of_an_own_objective(tmp_path, monkeypatch):
    """Catches: a tutorial that grows long, whose file does not train, load again or pass the contract as it is shown."""
    text = re.split(r"\n###? ", README.split("\n### An objective of your own\n")[1])[0]
    assert len(text.splitlines()) < 60
    (code,), (shell,) = (
        re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL) for language in ("python", "bash")
    )
    _, train, diagnose, contract = map(shlex.split, shell.splitlines())
    (tmp_path / "my_focal.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    flags = [str(ROOT / word) if word.endswith(".yaml") else word for word in train[3:]]
    args = command_line.parse(flags)
    output_dir.check(args)
    assert args.training.output_dir == diagnose[2]
    monkeypatch.setattr(sys, "argv", [train[2], *flags, *TINY.split(), "--output_dir", diagnose[2]])
    runpy.run_path(str(ROOT / train[2]), run_name="__main__")
    assert '"gamma": 1.5' in (tmp_path / diagnose[2] / "nt_failures.json").read_text(encoding="utf-8")

    monkeypatch.delitem(sys.modules, "my_focal")
    monkeypatch.setattr(sys, "argv", [*diagnose[1:], "--num_test", "40"])
    runpy.run_path(str(ROOT / diagnose[1]), run_name="__main__")
    assert list(tmp_path.glob("outputs/diagnosis/*/diagnosis.md"))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, *contract[1:], "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^\d+ passed", done.stdout, flags=re.MULTILINE)


def test_the_two_commands_are_there():
    """Catches a README whose set-up differs from what CI runs."""
    test_command = 'pip install -c constraints.txt -e ".[test]" && pytest'
    assert "pip install -c constraints.txt -e . && accelerate launch examples/train.py" in README
    assert test_command in README
    assert test_command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def anchors(text):
    """The places of a page that a link can name."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_linked_files_exist(page):
    """Catches a figure, file or section that a page shows and the repository lacks."""
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("http"):
            name, _, section = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not section or section in anchors(target.read_text(encoding="utf-8")), link
    named = re.findall(r"(?:examples|nt_failures|dataset_scripts)/[\w/.-]+\.(?:py|yaml|md|png|jsonl)", text)
    assert [name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()] == []


def committed_rows(*names):
    """Rows of the tables that studies wrote, without their first cell, which is a name."""
    files = [path for name in names for path in RESULTS.rglob(name)]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return {line.split("|", 2)[2] for line in lines if line.startswith("| ")}


def test_result_tables_are_the_committed_ones():
    """Catches: a figure of the README that no committed study says, after a change of either."""
    results = README.split("\n## Results on two CPU cores\n")[1].split("\n## ")[0]
    rows = [line for line in results.splitlines() if line.startswith("| ")]
    assert len(rows) >= 17
    assert [row for row in rows if row.split("|", 2)[2] not in committed_rows("table.md")] == []


def test_comparison_tables_are_the_committed_ones():
    """Catches: a comparison in the README that is not the one of examples/results/compare."""
    part = README.split("<!-- comparison tables: begin -->")[1].split("<!-- comparison tables: end -->")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    committed = committed_rows("comparison.md")
    assert bool(rows) == bool(committed)
    assert [row for row in rows if row.split("|", 2)[2] not in committed] == []


def test_the_speed_table_is_the_committed_one():
    """Catches: a figure of the page on speed that the committed benchmark does not say."""
    committed = (RESULTS / "benchmark" / "benchmark.md").read_text(encoding="utf-8")
    table, machine = committed.split("\n\n")[:2]
    page = BENCHMARKS.read_text(encoding="utf-8")
    assert table in page
    assert machine in page
