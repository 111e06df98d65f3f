"""examples/studies/reproduce.py: every run exactly once, whatever kills it.

One study trains two real models. The others run the same script with a training of a few lines, which writes a fixed
results.json, fails, or waits for a gate, as the recipe says, and leaves a mark for each call.
"""

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pytest
from scripts import STUDIES, TINY, load
from study_records import record

from nt_failures.data import child_processes
from nt_failures.experiments import run
from nt_failures.experiments.study import results_file, runner

TRAIN = """
import os, pathlib, runpy, sys, threading
runpy.run_path(LIFELINE)["hold"]()
recipe, seed, folder, extra = sys.argv[1], sys.argv[3], pathlib.Path(sys.argv[5]), sys.argv[6:]
asked = dict(line.split(": ", 1) for line in pathlib.Path(recipe).read_text().splitlines() if line[0] != "#")
asked["results"] = asked["results"][1:-1]
(pathlib.Path(asked["marks"]) / f"{pathlib.Path(recipe).stem}-{seed}-{os.getpid()}").touch()
if asked.get("diverge") == seed:
    print("error: the loss became NaN at step 7")
    sys.exit(3)
if asked.get("fail"):
    print("some words before")
    sys.exit("error: " + asked["fail"])
if "gate" in asked and seed == asked["gate_of_seed"]:
    for _ in range(6000):
        if pathlib.Path(asked["gate"]).exists():
            break
        threading.Event().wait(0.01)
    else:
        sys.exit("the gate never opened")
if "open" in asked:
    pathlib.Path(asked["open"]).touch()
folder.mkdir()
(folder / "results.json").write_text(asked["results"])
print(*extra)
"""
START = """
import runpy
from nt_failures.experiments.study import runner
runner.RUN = (TRAIN,)
runpy.run_path(SCRIPT, run_name="__main__")
"""


def until(condition, process=None):
    """Wait for a condition, at most two minutes."""
    for _ in range(6000):
        if condition():
            return
        assert process is None or process.poll() is None, process.communicate()
        threading.Event().wait(0.02)
    raise AssertionError("it never happened")


class Study:
    """A folder of recipes, reproduce.py with the training above, as a module and as a script, and the place for the
    results."""

    def __init__(self, folder, monkeypatch):
        self.recipes, self.out, self.marks = (folder / name for name in ("recipes", "out", "marks"))
        for made in (self.recipes, self.marks):
            made.mkdir()
        self.gate = folder / "gate"
        train, reproduce = str(folder / "train.py"), str(STUDIES / "reproduce.py")
        Path(train).write_text(TRAIN.replace("LIFELINE", repr(child_processes.__file__)))
        monkeypatch.setattr(runner, "RUN", (train,))
        self.script, self.module = folder / "start.py", load(STUDIES / "reproduce.py")
        self.script.write_text(START.replace("TRAIN", repr(train)).replace("SCRIPT", repr(reproduce)))

    def recipe(self, name, exact=0.5, **asked):
        results = {k: v for k, v in record(exact=exact).items() if k not in ("recipe", "seed", "fingerprint")}
        lines = {"marks": self.marks, "results": f"'{json.dumps(results)}'", **asked}
        (self.recipes / f"{name}.yaml").write_text("\n".join(f"{key}: {value}" for key, value in lines.items()))

    def arguments(self, *flags):
        return [str(self.recipes), "--output_dir", str(self.out), "--jobs", "1", "--seeds", "2", *flags]

    def run(self, *flags):
        self.module.main(self.arguments(*flags))

    @property
    def results(self):
        """(recipe, seed) of the lines of results.jsonl, as they stand."""
        return [(run.key.recipe, run.key.seed) for run in results_file.read_results(self.out / "results.jsonl")]

    @property
    def calls(self):
        """(recipe, seed) of the trainings that were started, killed ones too."""
        return sorted((name, int(seed)) for name, seed, _ in (mark.name.split("-") for mark in self.marks.iterdir()))

    @property
    def leftovers(self):
        return [path.name for path in self.out.iterdir() if path.is_dir()]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two recipes, `a` and `b`, that succeed."""
    made = Study(tmp_path, monkeypatch)
    made.recipe("a", exact=0.5)
    made.recipe("b", exact=0.99)
    return made


EVERY = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


# ---------------------------------------------------------------- with real models


def test_recipes_become_a_table_and_a_figure(tmp_path, monkeypatch, capsys):
    """Catches: a study that does not fit its runs: its flags, its results.json, or the figures read from it.

    One run is a process as always; the other stays in this one, which saves seconds of imports.
    """
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "forward.yaml").write_text(TINY + "objective: next_token\n")
    (recipes / "hidden.yaml").write_text(TINY + "objective: teacherless\norder: reversed\n")
    reproduce = load(STUDIES / "reproduce.py")
    call = runner.Attempts.call

    def call_or_stay(children, command, **options):
        if "hidden.yaml" not in command[3]:
            return call(children, command, **options)
        assert command[:3] == [sys.executable, "-m", "nt_failures.experiments.run"]
        run.main(command[3:])
        return 0

    monkeypatch.setattr(runner.Attempts, "call", call_or_stay)
    command = ["recipes", "--seeds", "1", "--jobs", "1"]
    reproduce.main(command)
    folder = tmp_path / "outputs" / "studies" / "recipes"
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
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "figure.png", "results.jsonl", "table.md"]

    def no_more(*args, **kwargs):
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(subprocess, "call", no_more)
    (folder / "table.md").unlink()
    reproduce.main(command)
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


def test_killed_anywhere_every_run_counts_once(small):
    """Killed in the middle of a run, then between two runs with half a line written, then left to finish.

    Catches: a killed run that counts, a finished one lost or doubled, a lock or folder that blocks the next attempt,
    two processes at work on one study.
    """
    small.recipe("b", exact=0.99, gate=small.gate, gate_of_seed=0)
    command = [sys.executable, str(small.script), *small.arguments()]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until(lambda: ("b", 0) in small.calls, process)
        assert small.results == [("a", 0)]
        with pytest.raises(
            ValueError, match=r"another process is at work in .*; wait until it ends, or give --output_dir with another"
        ):
            small.run()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert small.results == [("a", 0)]

    small.gate.touch()
    child = os.fork()
    if child == 0:  # dies right behind its second run, while it writes a line
        append = results_file.append_result

        def append_and_die(path, run):
            append(path, run)
            if run["recipe"] == "a":
                with open(path, "ab") as file:
                    file.write(b'{"recipe":"b","se')
                os.kill(os.getpid(), signal.SIGKILL)

        results_file.append_result = append_and_die
        try:
            small.run()
        finally:
            os._exit(0)
    ends = []
    until(lambda: ends.append(os.waitpid(child, os.WNOHANG)) or ends[-1][0] == child)
    assert ends[-1][1] == signal.SIGKILL
    assert small.results == [("a", 0), ("b", 0), ("a", 1)]

    small.run()
    assert small.results == EVERY
    assert small.calls.count(("a", 0)) == small.calls.count(("a", 1)) == 1
    assert small.calls.count(("b", 0)) == 2  # the one that was killed, and again
    lines = (small.out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4
    table = (small.out / "table.md").read_text()
    assert [line.split("|")[8].split()[2] for line in table.splitlines()[2:4]] == ["2", "2"]  # `x of 2` seeds


def test_a_changed_recipe_is_a_new_run(small):
    """Catches: results of an old recipe, or of other flags, passed off as those of the present one."""
    small.run()
    small.recipe("b", exact=0.7)
    small.run()
    assert small.results == [*EVERY, ("b", 0), ("b", 1)]
    assert "| b | 50% | 70.0% [70.0%, 70.0%] |" in (small.out / "table.md").read_text()
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_study_that_is_stopped_leaves_no_training_behind(name, small):
    """Catches: an orphan that takes a core beside the next attempt; a trace for a stop that was asked for."""
    small.recipe("a", gate=small.gate, gate_of_seed=0)
    command = [sys.executable, str(small.script), *small.arguments()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: small.calls, process)
    (mark,) = small.marks.iterdir()
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("stopped; finished runs are kept, and the same command goes on from there")
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.name.split("-")[2]), 0)


def test_a_study_that_is_killed_takes_its_trainings_along(small):
    """Catches: a training that goes on for hours beside the next attempt, whose folder was removed. SIGKILL hits the
    study alone, which can do nothing about it any more."""
    small.recipe("a", gate=small.gate, gate_of_seed=0)
    command = [sys.executable, str(small.script), *small.arguments()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: small.calls, process)
    (mark,) = small.marks.iterdir()
    training = os.pidfd_open(int(mark.name.split("-")[2]))
    process.kill()
    process.communicate(timeout=60)
    assert select.select([training], [], [], 60)[0], "it still runs"
    os.close(training)
    small.gate.touch()
    small.run()
    assert sorted(small.results) == sorted(EVERY)


def test_flags_of_train_go_to_train(small, monkeypatch):
    """Catches: flags that the study does not know dropped, or their values taken for its own."""
    call, asked = runner.Attempts.call, []

    def listen(children, command, **options):
        asked.append(command[command.index("--output_dir") + 2 :])
        return call(children, command, **options)

    monkeypatch.setattr(runner.Attempts, "call", listen)
    small.run("--seeds", "1", "--max_steps", "5", "--streaming")
    assert asked == [["--max_steps", "5", "--streaming"]] * 2


def test_a_seed_that_diverges_is_finished(small):
    """Catches: the seeds behind it never run, it run at every start, a table that does not know of it."""
    small.recipe("a", diverge=0)
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
    small.recipe("a", diverge=0)
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


def test_a_recipe_edited_during_its_run_is_recorded_as_it_was(small, monkeypatch):
    """Catches: a run of hours recorded under the recipe that was saved meanwhile, which then is never run."""
    call = runner.Attempts.call

    def edited(children, command, **options):
        small.recipe("a", exact=0.9)
        return call(children, command, **options)

    only = [str(small.recipes / "a.yaml"), "--output_dir", str(small.out), "--seeds", "1"]
    monkeypatch.setattr(runner.Attempts, "call", edited)
    small.module.main(only)
    monkeypatch.setattr(runner.Attempts, "call", call)
    small.module.main(only)
    found = results_file.read_results(small.out / "results.jsonl")
    assert [run.exact for run in found] == [0.5, 0.9]


# ---------------------------------------------------------------- failures


def test_a_failing_recipe_is_named_with_its_log(small, monkeypatch, capsys):
    """Catches: exit code 0 after a failure, a trace instead of a line, a log that is gone, finished runs lost."""
    small.recipe("b", fail="no such objective")
    monkeypatch.setattr(sys, "argv", [str(small.script), *small.arguments()])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(small.script), run_name="__main__")
    message = stopped.value.code
    assert "\n" not in message
    assert message.startswith("error: b, seed 0 failed with exit code 1: error: no such objective (log: ")
    log = Path(message.split("(log: ")[1].rstrip(")"))
    assert log.read_text() == "some words before\nerror: no such objective\n"
    assert small.results == [("a", 0), ("a", 1)]  # the others go on, the failing one is not tried again
    assert small.calls == [("a", 0), ("a", 1), ("b", 0)]
    assert not (small.out / "table.md").exists()
    small.recipe("b")
    small.run()
    assert sorted(small.results) == sorted(EVERY)


def test_runs_beside_a_failing_one_are_kept(small, monkeypatch):
    """Catches: hours of training thrown away because another run failed in the meantime."""
    small.recipe("a", fail="out of memory", marks=small.marks)
    small.recipe("b", gate=small.gate, gate_of_seed=0)
    train = runner.Attempts.train

    def opens_the_gate(attempts, jobs):
        try:
            return train(attempts, jobs)
        finally:
            if jobs[0].recipe.stem == "a":
                until(lambda: ("b", 0) in small.calls)
                small.gate.touch()

    monkeypatch.setattr(runner.Attempts, "train", opens_the_gate)
    with pytest.raises(ChildProcessError, match="a, seed 0 failed"):
        small.run("--jobs", "2")
    assert ("b", 0) in small.results
    assert ("a", 0) not in small.results


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere is neither a recipe nor a folder"),
        (["recipes", "--seeds", "0"], "must be at least 1"),
        (["recipes", "--jobs", "0"], "must be at least 1"),
        (["empty"], "neither a recipe nor a folder with"),
        (["recipes", "--only_report"], "holds no finished run"),
        (["recipes", "--seed", "7"], "--seed is set for each run"),
        (["recipes", "--seed=7"], "--seed is set for each run"),
        (["recipes", "--output_dir", "recipes/a.yaml"], "File exists"),
    ],
)
def test_bad_arguments(flags, message, small, monkeypatch, tmp_path):
    """Catches: a study of nothing that ends well; a trace for a slip of the pen."""
    (tmp_path / "empty").mkdir()
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
