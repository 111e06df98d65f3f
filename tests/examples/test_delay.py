"""examples/studies/delay.py with a stand-in for the run: in which order it runs, what it runs once, what it reports."""

import json
import os
import shutil

import pytest
from scripts import STUDIES, load
from small_studies import Runs
from study_records import record

from nt_failures.experiments.study import engine
from nt_failures.experiments.study.job import Ended


class Ordered(Runs):
    """In place of an engine: notes the order of the runs, and gives the results that the objective has."""

    def one(self, job):
        name = job.recipe.stem
        with open(self.folder / "order", "a") as order:
            order.write(f"{name} {job.seed}\n")
        made = json.loads((self.folder / ("hans" if "hans" in name else "cure")).read_text())
        degree, length = (int(name.split("-")[i][-1]) for i in (0, 1))
        made["arguments"]["task"] = {"degree": degree, "path_length": length, "num_nodes": 10}
        return Ended(job, results=made)


MAP = """
problems:
  deg2-path3: {degree: 2, path_length: 3, num_nodes: 10}
  deg2-path4: {degree: 2, path_length: 4, num_nodes: 10}
objectives:
  hans: {objective: next_token, order: forward}
  cure: {objective: next_token, order: reversed}
optimizers:
  muon: {optimizer: muon}
  adamw: {optimizer: adamw}
"""


RECIPE = "task: path_star\nmax_steps: 800\neval_strategy: steps\neval_steps: 100\n"


def results(curve, steps):
    made = record(curve=curve, steps=steps, flops=steps * 1e9)
    return {name: value for name, value in made.items() if name not in ("recipe", "seed", "fingerprint")}


@pytest.fixture
def delay(tmp_path, monkeypatch):
    """`delay(*flags)`: the script on a map of eight cells; returns the runs it started."""
    monkeypatch.setattr(engine, "of", lambda args, folder: Ordered(tmp_path))
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "cpu.yaml").write_text(RECIPE)
    (tmp_path / "hans").write_text(json.dumps(results([(400, 0.5), (800, 0.6)], 800)))
    (tmp_path / "cure").write_text(json.dumps(results([(100, 0.5), (200, 0.97), (300, 0.98)], 300)))
    order = tmp_path / "order"
    flags = ["--recipe", tmp_path / "cpu.yaml", "--map", tmp_path / "map.yaml", "--output_dir", tmp_path / "out"]
    main = load(STUDIES / "delay.py").main

    def call(*more):
        order.write_text("")
        main([*map(os.fspath, flags), "--jobs", "1", "--seeds", "2", *more])
        return order.read_text().splitlines()

    return call


def test_graph_by_graph_and_once(delay, tmp_path):
    """Catches: a map that is whole only when all of it is, finished runs done again, a choice that leaves others
    out."""
    first = [f"deg2-path3-{name}-muon {seed}" for seed in (0, 1) for name in ("hans", "cure")]
    assert delay("--only", "muon") == first + [run.replace("path3", "path4") for run in first]
    assert delay("--only", "muon") == []
    assert delay("--only", "adamw", "deg2-path3", "cure") == ["deg2-path3-cure-adamw 0", "deg2-path3-cure-adamw 1"]
    lines = (tmp_path / "out" / "delay.md").read_text().splitlines()
    assert "| deg2-path3 | muon | hans | 0 of 2 | > 800 | > 8.0e+11 | - | - |" in lines
    assert "| deg2-path3 | muon | cure | 2 of 2 | 200 | 2.0e+11 | > 4.0 x | > 4.0 x |" in lines
    assert (tmp_path / "out" / "delay.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "out" / "delay.md").unlink()
    shutil.rmtree(tmp_path / "out" / "recipes")
    assert delay("--only_report") == []
    assert not (tmp_path / "out" / "recipes").exists()  # a study at work may be about to read its own
    assert (tmp_path / "out" / "delay.md").read_text().splitlines() == lines


def test_a_changed_map_does_not_mix_with_what_it_was(delay, tmp_path):
    """Catches: censored at 800 steps and at 1,600 under one name."""
    delay("--only", "muon", "hans")
    (tmp_path / "cpu.yaml").write_text(RECIPE.replace("800", "1600"))
    assert len(delay("--only", "muon", "hans", "--seeds", "1")) == 2
    assert "| hans | 0 of 1 |" in (tmp_path / "out" / "delay.md").read_text()


def test_only_what_diverged_is_said_to_have(delay, tmp_path):
    """Catches: a solved run listed as diverged, because it once did under other flags."""
    delay("--only", "muon", "hans")
    run = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    known = {"recipe": run["recipe"], "fingerprint": run["fingerprint"], "diverged": "nan"}
    lines = [
        known | {"seed": run["seed"], "fingerprint": "earlier"},
        known | {"seed": run["seed"]},
        known | {"seed": 7},
    ]
    (tmp_path / "out" / "diverged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    delay("--only_report")
    said = (tmp_path / "out" / "delay.md").read_text().splitlines()[-1]
    assert said == f"Diverged, and in neither table: {run['recipe']} seed 7."


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only_report"], "holds no finished run"),
        (["--only", "muons"], "has no choice 'muons'. Did you mean 'muon'?"),
        (["--seeds", "0"], "must be at least 1"),
        (["--seed", "0"], "--seed is set for each run"),
        (["--degree", "3"], "--degree is what the runs differ in"),
        (["--eval_strategy", "no"], "evaluates nothing on the way"),
        (["--eval_steps", "900"], "evaluates nothing on the way"),
    ],
)
def test_bad_arguments(flags, message, delay):
    """Catches: an empty map passed off as done, a flag that makes all cells one; hours of runs whose times nobody
    took."""
    with pytest.raises(ValueError, match=message):
        delay(*flags)


def test_a_map_of_any_task(delay, tmp_path):
    """Catches: sizes of path-star graphs asked of every task, or allowed for every task."""
    (tmp_path / "cpu.yaml").write_text("task: addition\nmax_steps: 800\n")
    with pytest.raises(ValueError, match="deg2-path3 may set digits, max_steps"):
        delay()
