"""examples/benchmarks/run.py runs: every line at its smallest size, once. How fast anything is, no test says."""

import json
import runpy
import sys
from pathlib import Path

import datasets
import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
PROCESSES = ("start-", "memory-")


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The names of the script, imported as `python examples/benchmarks/run.py` does it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    caching = datasets.is_caching_enabled()
    yield runpy.run_path(str(BENCHMARKS / "run.py"), run_name="benchmark")
    (datasets.enable_caching if caching else datasets.disable_caching)()
    datasets.enable_progress_bars()
    for name in [name for name in sys.modules if name.split(".")[0] == "lines"]:
        del sys.modules[name]


def test_every_line_runs(benchmark, tmp_path, capsys):
    """Catches: a line that no longer runs, that answers otherwise than its alternative, or is missing from the
    files."""
    names = [line.name for line in benchmark["LINES"]]
    chosen = [name for name in names if not name.startswith(PROCESSES)]
    benchmark["main"]([*chosen, "growth", "--quick", "--output_dir", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    table = (tmp_path / "out" / "benchmark.md").read_text(encoding="utf-8")
    assert [line["name"] for line in found["lines"]] == chosen
    assert all(line["ours"] > 0 for line in found["lines"])
    assert found["about"]["threads"] == 1
    assert {"torch", "datasets", "numpy"} <= set(found["about"]["versions"])
    grown = json.loads((tmp_path / "out" / "growth.json").read_text(encoding="utf-8"))["microseconds_per_row"]
    assert set(grown) == {"degree", "path_length", "num_nodes", "rows"}
    assert (tmp_path / "out" / "growth.png").stat().st_size > 10_000
    for line in found["lines"]:
        assert f"| {line['work']} | " in table
        assert f"- `{line['name']}`: " in table
        assert all(held for check, held in line["checks"].items() if check.startswith("the same"))
    assert "written to" in capsys.readouterr().out


def test_names(benchmark, capsys):
    """Catches: a name that selects nothing and passes for done."""
    benchmark["main"](["--list"])
    assert "sample-2-5-50" in capsys.readouterr().out
    assert [line.name for line in benchmark["chosen"](["memory"])] == ["memory-train", "memory-stream"]
    with pytest.raises(SystemExit, match="no line begins with 'smaple'"):
        benchmark["main"](["smaple"])


@pytest.fixture
def budget(monkeypatch):
    """The names of the script, imported as `python examples/benchmarks/budget.py` does it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield runpy.run_path(str(BENCHMARKS / "budget.py"), run_name="benchmark")
    del sys.modules["seeds"]


def test_budget_of_a_recipe(budget, tmp_path, monkeypatch):
    """Catches: a recipe of the list that cannot be measured, a list of objectives taken for a recipe, a sum that is
    not of all steps and evaluations."""
    assert all(path.exists() for path in budget["FOR_CPU"])
    monkeypatch.chdir(tmp_path)
    recipe = BENCHMARKS.parent / "recipes" / "tasks" / "addition.yaml"
    Path("mine").mkdir()
    Path("mine", "small.yaml").write_text(recipe.read_text())
    Path("mine", "objectives.yaml").write_text("objectives: {a: {objective: next_token}}")
    budget["main"](["mine", "--steps", "2", "--json", "out/budget.json"])
    (found,) = json.loads(Path("out", "budget.json").read_text())["recipes"]
    assert (found["recipe"], found["steps"]) == ("mine/small.yaml", 2000)
    assert found["all"] == found["steps"] * found["step"] + found["evaluations"] * found["evaluation"] > 0
    assert f"| `mine/small.yaml` | 2,000 | {1000 * found['step']:.0f} |" in Path("out", "budget.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]
    Path("mine", "a_first.yaml").write_text("{task: sort, max_steps: 9, objective: registers, model: mamba-1x16}")
    with pytest.raises(ValueError, match=r"^mine/a_first.yaml: Registers needs 4d_mask"):
        budget["main"](["mine", "--steps", "2", "--json", "out/budget.json"])
    assert len(json.loads(Path("out", "budget.json").read_text())["recipes"]) == 1  # what can be measured is kept


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.yaml", "none.yaml is neither a recipe nor a folder"),
        ("lists", "lists is neither a recipe nor a folder"),
        ("epochs.yaml", "epochs.yaml counts in epochs"),
        (str(BENCHMARKS.parent / "recipes" / "curriculum.yaml"), "has a curriculum, whose steps grow longer"),
    ],
)
def test_budget_of_what_has_none(budget, tmp_path, monkeypatch, given, said):
    """Catches: an empty table, or minutes below zero, for what cannot be measured."""
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    Path("lists", "objectives.yaml").write_text("objectives: {a: {objective: next_token}}")
    Path("epochs.yaml").write_text("{task: path_star, num_train_epochs: 2}")
    with pytest.raises(ValueError, match=said):
        budget["main"]([given])
