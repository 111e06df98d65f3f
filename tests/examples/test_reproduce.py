"""examples/studies/reproduce.py: every run exactly once, whatever fails.

One study trains two real models, one of them in a process of its own. The others run a training of a few lines in this
process; what engines promise is in tests/faults/test_studies.py.
"""

import json
import runpy
import sys

import datasets
import pytest
from scripts import STUDIES, TINY, load
from small_studies import Inline, two_recipes

from nt_failures.experiments.study import engine, results_file, storage, worker


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two recipes, `a` and `b`, that succeed."""
    return two_recipes(tmp_path, monkeypatch)


EVERY = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


# ---------------------------------------------------------------- with real models


def test_recipes_become_a_table_and_a_figure(tmp_path, monkeypatch, capsys):
    """Catches: a study that does not fit its runs: its flags, its results.json, or the figures read from it; a model
    that is kept nowhere.

    One run is a process as always; the other stays in this one, which saves seconds of imports.
    """
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    reproduce = load(STUDIES / "reproduce.py")
    folder = tmp_path / "outputs" / "studies" / "recipes"
    command = ["recipes", "--seeds", "1", "--jobs", "1", "--keep_models"]
    (recipes / "forward.yaml").write_text(TINY + "objective: next_token\n")
    reproduce.main(command)
    (kept,) = folder.glob("models/forward-*/seed0")
    assert {"model.safetensors", "results.json", storage.WHOLE} <= {path.name for path in kept.iterdir()}
    (recipes / "hidden.yaml").write_text(TINY + "objective: teacherless\norder: reversed\n")
    here = Inline(worker.train)
    monkeypatch.setattr(engine, "of", lambda args, folder: here)
    reproduce.main(command[:-1])
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [entry["recipe"] for entry in found] == ["forward", "hidden"]
    for entry, objective in zip(found, ("next_token", "teacherless"), strict=True):
        assert (entry["seed"], entry["n"], entry["steps"], entry["examples"]) == (0, 32, 4, 32)
        assert entry["arguments"]["objective"]["objective"] == objective
        assert [point["step"] for point in entry["learning_curve"]] == [2, 4]
        assert "after 4 steps (32 examples" in entry["diagnosis"]["verdict"]["text"]
    table = (folder / "table.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:4]] == ["| forward", "| hidden"]
    assert table in capsys.readouterr().out
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    names = [".lock", "figure.png", "models", "results.jsonl", "table.md"]
    assert sorted(path.name for path in folder.iterdir()) == names
    (folder / "table.md").unlink()
    reproduce.main(command[:-1])
    assert len(here.asked) == 1, "a finished run was started again"
    assert (folder / "table.md").read_text() == table


# ---------------------------------------------------------------- every run exactly once


def test_nothing_is_run_twice(small):
    """Catches: finished runs done again, seeds forgotten, recipes in another order than seed by seed."""
    small.run()
    assert small.results == EVERY
    assert small.calls == sorted(EVERY)
    small.run()
    small.run("--seeds", "3")
    assert small.results == [*EVERY, ("a", 2), ("b", 2)]
    assert small.calls == sorted(small.results)
    assert small.leftovers == []


def test_a_changed_recipe_is_a_new_run(small):
    """Catches: results of an old recipe, or of other flags, passed off as those of the present one."""
    small.run()
    small.recipe("b", exact=0.7)
    small.run()
    assert small.results == [*EVERY, ("b", 0), ("b", 1)]
    assert "| b | 50% | 70.0% |" in (small.out / "table.md").read_text()
    small.run("--max_steps", "5")
    assert len(small.results) == 10
    small.run("--max_steps", "5")
    assert len(small.results) == 10
    with pytest.raises(ValueError, match="holds no finished run of these recipes with these flags"):
        small.run("--max_steps", "77", "--only_report")
    assert len(small.results) == 10


def test_a_comment_is_no_change(small):
    """Catches: hours of runs done again because a remark was corrected."""
    small.run("--seeds", "1")
    path = small.recipes / "a.yaml"
    path.write_text("# a remark\n" + path.read_text())
    small.run("--seeds", "1")
    assert small.results == [("a", 0), ("b", 0)]


def test_flags_of_train_go_to_train(small):
    """Catches: flags that the study does not know dropped, or their values taken for its own."""
    small.run("--seeds", "1", "--max_steps", "5", "--streaming")
    assert [job.extra for job in small.engine.asked] == [("--max_steps", "5", "--streaming")] * 2


def test_a_seed_that_diverges_is_finished(small):
    """Catches: the seeds behind it never run, it run at every start, a table that does not know of it."""
    small.recipe("a", diverge=[0])
    small.run()
    assert sorted(small.results) == [("a", 1), ("b", 0), ("b", 1)]
    small.run()
    assert small.calls == sorted(EVERY)
    assert small.leftovers == []
    table = (small.out / "table.md").read_text()
    assert "| a | 50% | 50.0% | 50.0% |" in table
    assert "| 0 of 2 [0%, 66%] |" in table
    assert "counted as not solved and left out of the means: a: 1." in table


def test_recipes_of_which_every_seed_diverged_are_named(small):
    """Catches: a recipe that drops out of the table in silence; "run without --only_report", which would train
    nothing."""
    small.recipe("a", diverge=[0])
    small.run("--seeds", "1")
    table = (small.out / "table.md").read_text()
    assert "| b |" in table
    assert "Without a finished run, so not in the table: a." in table
    (small.out / "results.jsonl").unlink()
    with pytest.raises(ValueError, match=r"every run diverged, as .*diverged\.jsonl says"):
        small.run("--seeds", "1", "--only_report")


def test_a_run_that_cannot_be_written_loses_no_other(small, monkeypatch):
    """Catches: a full disk at one run's line that takes the lines of those which end meanwhile, and their models."""
    append, tried = results_file.append_result, []

    def full(path, entry):
        tried.append(entry["seed"])
        if len(tried) == 1:
            raise OSError("No space left on device")
        append(path, entry)

    monkeypatch.setattr(results_file, "append_result", full)
    with pytest.raises(OSError, match="No space left"):
        small.run("--seeds", "1")
    assert ("a", 0) in small.results


def test_a_recipe_edited_during_its_run_is_recorded_as_it_was(small):
    """Catches: a run of hours recorded under the recipe that was saved meanwhile, which then is never run."""

    def edited(job):
        small.recipe("a", exact=0.9)
        return train(job)

    only = [str(small.recipes / "a.yaml"), "--output_dir", str(small.out), "--seeds", "1"]
    train, small.engine.train = small.engine.train, edited
    small.module.main(only)
    small.engine.train = train
    small.module.main(only)
    found = results_file.read_results(small.out / "results.jsonl")
    assert [run.exact for run in found] == [0.5, 0.9]


def test_the_bar_tells_what_there_is(small, capsys):
    """Catches: a bar that says nothing of solved runs or of the end, or forgets those of an earlier start."""
    small.run("--seeds", "1")
    said = capsys.readouterr().err.split("\r")[-1]
    assert "2/2" in said
    assert "0 running, 1 solved, ends " in said
    small.run("--seeds", "2")
    assert "2 solved" in capsys.readouterr().err.split("\r")[-1]


# ---------------------------------------------------------------- failures


def test_a_failing_recipe_is_given_up_and_the_others_go_on(small):
    """Catches: exit code 0 after a failure, finished runs lost, a repaired recipe that is not run."""
    small.recipe("b", fail="no such objective")
    with pytest.raises(ChildProcessError, match=r"^b, seed 0 failed: ValueError: no such obj.*b-seed0.txt\)$"):
        small.run()
    assert small.results == [("a", 0), ("a", 1)]
    assert small.calls == [("a", 0), ("a", 1), ("b", 0)]
    assert "| a |" in (small.out / "table.md").read_text()
    assert "not in the table: b." in (small.out / "table.md").read_text()
    small.recipe("b")
    small.run()
    assert sorted(small.results) == sorted(EVERY)
    assert small.leftovers == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere is neither a recipe nor a folder"),
        (["recipes", "--seeds", "0"], "must be at least 1"),
        (["recipes", "--jobs", "0"], "must be at least 1"),
        (["empty"], "neither a recipe nor a folder with"),
        (["torn.yaml"], "recipe torn.yaml is not valid YAML"),
        (["recipes", "--only_report"], "holds no finished run"),
        (["recipes", "--seed", "7"], "--seed is set for each run"),
        (["recipes", "--seed=7"], "--seed is set for each run"),
        (["recipes", "--only-report"], "--only-report is the study's own; write it with underscores, --only_report"),
        (["recipes", "--address", "auto"], "--address would change nothing on this machine; add --engine ray"),
        (["recipes", "--engine", "ray", "--cpus_per_run", "0"], "a run needs something of a node"),
        (["recipes", "--engine", "ray", "--gpus_per_run", "-1"], "must be at least 0"),
        (["recipes", "--storage_path", "kept"], "as no model is kept; add --keep_models"),
        (["recipes", "--engine", "ray", "--address", "x:1", "--keep_models"], "on a cluster needs --storage_path"),
        (["recipes", "--output_dir", "recipes/a.yaml"], "File exists"),
    ],
)
def test_bad_arguments(flags, message, small, monkeypatch, tmp_path):
    """Catches: a study of nothing that ends well; a trace for a slip of the pen."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.yaml").write_text("max_steps: 3\n\tseed: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(small.script), *flags])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(small.script), run_name="__main__")
    assert message in stopped.value.code
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code
    assert small.calls == []


def test_a_damaged_study_is_not_continued(small):
    """Catches: finished runs done again, or a table without them, because one line is damaged."""
    small.run("--seeds", "1")
    path = small.out / "results.jsonl"
    path.write_text("torn in the middle\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1 is damaged"):
        small.run()
    assert len(small.calls) == 2
