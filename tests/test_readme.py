"""What the README and the pages behind it show works: Python is executed, commands are parsed, files exist."""

import configparser
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from nt_failures.experiments import command_line, output_dir
from nt_failures.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "examples" / "results"
PACKAGE = ROOT / "nt_failures"
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
PAGES = [
    path
    for folder in (ROOT, *(ROOT / name for name in ("dataset_scripts", "examples", "nt_failures", "tests")))
    for path in sorted(folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if path.stem.isupper()  # tables of studies, templates and cards have names in small letters
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(*names):
    return ROOT.joinpath(*names).read_text(encoding="utf-8")


README = read("README.md")
RESULTS_PAGE = read("examples", "results", "README.md")
COMPARISON = read("examples", "recipes", "compare", "README.md")
BENCHMARKS = read("examples", "benchmarks", "README.md")
TUTORIAL = read("nt_failures", "objectives", "YOUR_OWN.md")
TASK_TUTORIAL = read("nt_failures", "tasks", "YOUR_OWN.md")
TRAINING = read("nt_failures", "training", "README.md")


def blocks(language, text=README):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def commands():
    lines = "".join("".join(blocks("bash", page.read_text(encoding="utf-8"))) for page in PAGES).splitlines()
    parts = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part]


def prose(text):
    """The lines of a page that are no table, code, front matter or comment."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if not line.startswith(("|", "<!--"))]


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    """Catches: a snippet that no longer runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = {}
    for block in [*blocks("python"), *blocks("python", TRAINING)]:
        exec(compile(block, "README.md", "exec"), names)
    assert names["verdict"] in README
    assert names["metrics"]["eval_chance"] == 0.5
    assert (tmp_path / "outputs" / "readme" / "nt_failures.json").is_file()
    assert len(blocks("python")) == len(blocks("python", TRAINING)) == 1


def test_the_readme_names_the_objective_of_the_tutorial():
    """Catches: an objective in the README that is not the one that the tutorial's test trains."""
    (named,) = set(re.findall(r"--objective (my_\w+\.\w+)", README))
    assert f"--objective {named} " in TUTORIAL


@pytest.mark.parametrize(
    "command", [c for c in commands() if "examples/train.py" in c and not re.search("my_backwards|reasoning_gym", c)]
)
def test_training_commands_parse(command):
    """Catches: a renamed flag or recipe; those of reasoning-gym are in tests/integrations."""
    words = shlex.split(command)
    argv = words[words.index("examples/train.py") + 1 :]
    argv = [str(ROOT / word) if word.endswith(".yaml") else word for word in argv if word != "..."]
    argv += ["--use_cpu", "true"]  # recipes for a GPU ask for bf16, which is refused where there is none
    command_line.parse(argv, default_recipe=ROOT / "examples" / "recipes" / "quickstart.yaml")


TINY = "--model gpt2-1x16 --max_steps 2 --eval_steps 2 --num_train 32 --num_validation 16 --num_test 40 --use_cpu true"


def holds(contract, folder):
    """Whether a page's pytest command passes, with the modules of a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", *contract[1:], "-q", "-p", "no:cacheprovider", "-n", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^\d+ passed", done.stdout, flags=re.MULTILINE)


def test_the_tutorial_of_an_own_objective(tmp_path, monkeypatch):
    """Catches: a tutorial that grows long, or whose file does not train, load again or pass the contract as shown."""
    assert len(TUTORIAL.splitlines()) < 60
    (code,), (shell,) = blocks("python", TUTORIAL), blocks("bash", TUTORIAL)
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

    holds(contract, tmp_path)


def test_the_tutorial_of_an_own_task(tmp_path, monkeypatch):
    """Catches: a task that is no path-star graph and cannot be trained, named or diagnosed; sizes of the quickstart in
    it."""
    (code,), (shell,) = blocks("python", TASK_TUTORIAL), blocks("bash", TASK_TUTORIAL)
    _, train, diagnose, contract = map(shlex.split, shell.splitlines())
    (tmp_path / "my_backwards.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    args = command_line.parse(train[3:], default_recipe=ROOT / "examples" / "recipes" / "quickstart.yaml")
    output_dir.check(args)
    assert args.training.output_dir == diagnose[2]

    flags = [*train[3:], *TINY.split(), "--config_overrides", '{"n_head": 1}', "--output_dir", diagnose[2]]
    monkeypatch.setattr(sys, "argv", [train[2], *flags])
    runpy.run_path(str(ROOT / train[2]), run_name="__main__")
    assert "Write the digits backwards" in (tmp_path / diagnose[2] / "README.md").read_text(encoding="utf-8")

    monkeypatch.delitem(sys.modules, "my_backwards")
    monkeypatch.setattr(sys, "argv", [*diagnose[1:], "--num_test", "40"])
    runpy.run_path(str(ROOT / diagnose[1]), run_name="__main__")
    (report,) = tmp_path.glob("outputs/diagnosis/*/diagnosis.json")
    assert set(json.loads(report.read_text(encoding="utf-8"))["not_measured"]) >= {"clever_hans", "by_place"}

    holds(contract, tmp_path)


def test_the_two_commands_are_there():
    """Catches: a README whose set-up differs from what CI runs."""
    test_command = 'pip install -c constraints.txt -e ".[test]" && pytest'
    assert "pip install -c constraints.txt -e . && accelerate launch examples/train.py" in README
    assert test_command in README
    assert test_command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def anchors(text):
    """The places of a page that a link can name."""
    titles = [line.lstrip("#").strip() for line in prose(text) if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_linked_files_exist(page):
    """Catches: a figure, file or section that a page shows and the repository lacks."""
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("http"):
            name, _, section = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not section or section in anchors(target.read_text(encoding="utf-8")), link
    named = re.findall(r"(?:examples|nt_failures|dataset_scripts|tests)/[\w/.-]+\.(?:py|yaml|md|png|jsonl)", text)
    assert [name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()] == []


@every_page
def test_pages_can_be_read_as_a_diff(page):
    """Catches: a line too long to read, or with two sentences, so that a diff shows more than has changed."""
    lines = prose(page.read_text(encoding="utf-8"))
    assert [line for line in lines if len(line) > 120] == []
    lines = [re.sub(r"^\s*\d+\. ", "", line) for line in lines]
    assert [line for line in lines if re.search(r"(?<!\*\*)[a-z0-9)%][.!?][)\"`]* +[A-Z`\[(]", line)] == []


def test_the_readme_lists_every_objective():
    """Catches: an objective that the first page does not name, or one that needs attention and is not said to."""
    section = README.split("## Objectives")[1].split("## Diagnosis")[0]
    table = "".join(line for line in section.splitlines(keepends=True) if line.startswith("|"))
    assert {name for name in re.findall(r"`(\w+)`", table) if "_" in name or name in OBJECTIVES} == {*OBJECTIVES}
    (need,) = re.findall(r"only (.*) need attention", section)
    assert {*re.findall(r"`(\w+)`", need)} == {name for name, kind in OBJECTIVES.items() if kind.needs}
    assert len(OBJECTIVES) == 20
    assert "twenty training objectives" in README


def test_the_readme_is_short():
    """Catches: a README that grows into a manual again."""
    assert len(README.split()) < 2000
    assert len(README.splitlines()) <= 220


def test_no_page_is_a_dead_end():
    """Catches: a page that no other page links to, so that nobody finds it."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert [page for page in PAGES if page.resolve() not in linked and page != ROOT / "README.md"] == []


def test_the_tree_in_the_readme_is_the_package():
    """Catches: a folder that the README does not name, or an order other than that in which folders may import."""
    (tree,) = (block for block in blocks("") if block.startswith("nt_failures/"))
    named = re.findall(r"^  (\w+)(?:/|\.py) ", tree, flags=re.MULTILINE)
    assert sorted(named) == sorted([*FOLDERS, *(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")])
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = contracts["importlinter:contract:folders"]["layers"].split("\n")
    assert named == [name.strip() for layer in reversed(layers) for name in layer.split("|") if name.strip()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_says_what_is_in_it(folder):
    """Catches: a folder without a page, a file that its page leaves out, and one renamed or removed since."""
    text = (PACKAGE / folder / "README.md").read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 60
    files = {path.name for path in (PACKAGE / folder).rglob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", text)) - {"__init__.py"} == files
    assert [
        part for part in ("reading order", "## How to add to it", "## What it may import") if part not in text
    ] == []


def committed_rows(*names):
    """Rows of the tables that studies wrote, without their first cell, which is a name."""
    files = [path for name in names for path in RESULTS.glob(name)]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return {line.split("|", 2)[2] for line in lines if line.startswith("| ")}


def test_result_tables_are_the_committed_ones():
    """Catches: a figure of a page that no committed study says, or a study that the page leaves out, after a change of
    either."""
    rows = [line for line in RESULTS_PAGE.splitlines() if line.startswith("| ")]
    assert len(rows) >= 4
    assert {row.split("|", 2)[2] for row in rows} == committed_rows("*/table.md")


def test_the_hops_of_the_page_on_tasks_are_the_committed_ones():
    """Catches: a figure by depth that the study did not give."""
    part = read("examples", "recipes", "tasks", "README.md").split("\n## Hops")[1].split("\n## ")[0]
    rows = [line.split("|", 2)[2] for line in part.splitlines() if line.startswith("| layers")]
    assert len(rows) == 4
    assert {*rows} <= committed_rows("tasks/hops/table.md")


def table(text):
    """The rows of a page's tables, which have the same columns; each is a dictionary by their names."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows if row[0] not in (head[0], "---")]


def test_the_result_table_of_the_readme_is_part_of_the_whole():
    """Catches: a figure that no committed study says, or says of another recipe or in another column."""
    shown, whole = table(README.split("\n## Results on two CPU cores\n")[1].split("\n## ")[0]), table(RESULTS_PAGE)
    assert len(shown) >= 2
    shown = [{name: cell for name, cell in row.items() if name != "claim"} for row in shown]
    assert [row for row in shown if not any(row.items() <= known.items() for known in whole)] == []


def test_comparison_tables_are_the_committed_ones():
    """Catches: a comparison on its page that is not the one of examples/results/compare."""
    part = COMPARISON.split("<!-- comparison tables: begin -->")[1].split("<!-- comparison tables: end -->")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    committed = committed_rows("compare/*/comparison.md")
    assert bool(rows) == bool(committed)
    assert [row for row in rows if row.split("|", 2)[2] not in committed] == []


@pytest.mark.parametrize(
    "page", ["examples/recipes/compare/ONE_PASS.md", "examples/recipes/delay/README.md", "examples/results/README.md"]
)
def test_commands_of_a_page_make_the_committed_tables(page, tmp_path):
    """Catches: a command on the page that trains something else than the committed runs, or has other flags."""
    block = read(*page.split("/")).split("```bash\n")[1].split("```")[0]
    show = 'python() { printf "%s\n" "$@" ""; }\n'  # in place of running it
    done = subprocess.run(["bash", "-c", show + block], capture_output=True, text=True, check=True)
    commands = [command.split("\n") for command in done.stdout.strip("\n").split("\n\n")]
    assert len(commands) >= 3
    for script, *flags in commands:
        folder = flags[flags.index("--output_dir") + 1] if "--output_dir" in flags else [*flags, script][0]
        (committed,) = RESULTS.glob(f"**/{Path(folder).stem}")
        made = tmp_path / committed.name
        shutil.copytree(committed, made, dirs_exist_ok=True)
        runpy.run_path(str(ROOT / script))["main"]([*flags, "--output_dir", str(made), "--only_report"])
        (table,) = made.glob("*.md")
        lines = set((committed / table.name).read_text(encoding="utf-8").splitlines())
        assert {line for line in table.read_text(encoding="utf-8").splitlines() if line.startswith("| ")} <= lines


def test_the_speed_table_is_the_committed_one():
    """Catches: a figure of the page on speed that the committed benchmark does not say."""
    tables = [read("examples", "results", "benchmark", name).split("\n\n")[:2] for name in ("benchmark.md", "data.md")]
    newer = {line.split("|")[1] for line in tables[1][0].splitlines()[2:]}
    older = [line for line in tables[0][0].splitlines() if line.split("|")[1] not in newer]
    assert "\n".join(older) in BENCHMARKS
    assert tables[1][0] in BENCHMARKS
    assert read("examples", "results", "benchmark", "budget.md") in BENCHMARKS
    for _, machine in tables:
        assert " ".join(machine.split()) in " ".join(BENCHMARKS.split())
