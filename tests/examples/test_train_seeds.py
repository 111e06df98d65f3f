"""examples/studies/train_seeds.py and `examples/studies/reproduce.py --together`: a line for each seed, as if it had
been alone."""

import json
import sys
import threading

import datasets
import pytest
from scripts import STUDIES, TINY, load
from study_records import record

from nt_failures.experiments import run, run_seeds
from nt_failures.experiments.study import results_file, runner

SEEDS_OF_A_FEW_LINES = """
import json, pathlib, sys
recipe, words = sys.argv[1], sys.argv[2:]
seeds = words[1:words.index("--output_dir")]
folder, extra = pathlib.Path(words[words.index("--output_dir") + 1]), words[words.index("--output_dir") + 2:]
asked = json.loads(pathlib.Path(recipe).read_text())
print("seeds", *seeds, "flags", *extra)
for seed in seeds:
    if seed in asked["diverge"]:
        continue
    (folder / f"seed{seed}").mkdir(parents=True)
    (folder / f"seed{seed}" / "results.json").write_text(json.dumps(asked["results"]))
if set(seeds) & set(asked["diverge"]):
    print("error: seed 1: the loss became NaN")
    sys.exit(3)
"""


def test_every_seed_has_the_results_of_a_run_of_its_own(tmp_path, monkeypatch):
    """A study of two seeds, once trained together, once one by one.

    Catches: a seed that gets another's weights, rows, draws or test; a record that lacks what a single run's has.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "small.yaml"
    recipe.write_text(TINY + "objective: hybrid\nobjective_options: {share: 0.7}\noptimizer: muon\n")
    modules = {module.__name__: module for module in (run, run_seeds)}
    reproduce = load(STUDIES / "reproduce.py")

    def stay(command, **options):  # in this process, which saves seconds of imports
        assert command[:2] == [sys.executable, "-m"]
        modules[command[2]].main(command[3:])
        return 0

    monkeypatch.setattr(runner.Attempts, "call", staticmethod(stay))
    found = {}
    for way, flags in (("together", ["--together", "4"]), ("alone", [])):
        reproduce.main([str(recipe), "--seeds", "2", "--jobs", "1", "--output_dir", str(tmp_path / way), *flags])
        found[way] = [json.loads(line) for line in (tmp_path / way / "results.jsonl").read_text().splitlines()]
    for seed, (one, other) in enumerate(zip(found["together"], found["alone"], strict=True)):
        assert one.pop("trained_together") == 2
        assert (one["recipe"], one["seed"], one["fingerprint"]) == (other["recipe"], seed, other["fingerprint"])
        for name in ("metrics", "learning_curve", "diagnosis"):
            assert numbers(one[name]) == pytest.approx(numbers(other[name]), rel=1e-3), name
        for name in ("train_seconds", "throughput", "metrics", "learning_curve", "diagnosis"):
            one.pop(name, None)
            other.pop(name, None)
        assert one == other
    assert sorted(path.name for path in (tmp_path / "together").iterdir()) == [
        ".lock",
        "figure.png",
        "results.jsonl",
        "table.md",
    ]


def numbers(value, where=""):
    """All numbers of a nested value by their place, without times."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in numbers(inner, f"{where}.{name}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in numbers(inner, f"{where}.{i}").items()}
    timed = any(word in where for word in ("runtime", "per_second"))
    return {where: value} if isinstance(value, (int, float)) and not timed else {}


@pytest.fixture
def study_of(tmp_path, monkeypatch):
    """`study_of(diverge)`: reproduce.py with a training of a few lines, and a recipe whose named seeds diverge."""

    def make(*diverge):
        results = {k: v for k, v in record(exact=0.5).items() if k not in ("recipe", "seed", "fingerprint")}
        (tmp_path / "r.yaml").write_text(json.dumps({"results": results, "diverge": [str(seed) for seed in diverge]}))
        (tmp_path / "train_seeds.py").write_text(SEEDS_OF_A_FEW_LINES)
        (tmp_path / "train.py").write_text("raise SystemExit('error: no single run was asked for')")
        monkeypatch.setattr(runner, "RUN", (str(tmp_path / "train.py"),))
        monkeypatch.setattr(runner, "RUN_SEEDS", (str(tmp_path / "train_seeds.py"),))
        module = load(STUDIES / "reproduce.py")
        words = [str(tmp_path / "r.yaml"), "--output_dir", str(tmp_path / "out"), "--jobs", "1"]

        return tmp_path / "out", lambda *flags: module.main([*words, *flags])

    return make


def test_seeds_go_in_groups_and_only_once(study_of, monkeypatch):
    """Catches: a seed twice or not at all, a group larger than asked, flags that do not reach the training."""
    out, study = study_of()
    call, asked = runner.Attempts.call, []

    def listen(children, command, **options):
        asked.append(command[3:])
        return call(children, command, **options)

    monkeypatch.setattr(runner.Attempts, "call", listen)
    study("--seeds", "4", "--together", "2", "--max_steps", "5")
    study("--seeds", "7", "--together", "3", "--max_steps", "5")
    found = results_file.read_results(out / "results.jsonl")
    assert [run.key.seed for run in found] == list(range(7))
    assert len({run.key.fingerprint for run in found}) == 1
    groups = [words[1 : words.index("--output_dir")] for words in asked]
    assert groups == [["0", "1"], ["2", "3"], ["4", "5", "6"]]
    assert all(words[-2:] == ["--max_steps", "5"] for words in asked)


def test_seeds_beside_one_that_diverges_are_kept(study_of):
    """Catches: a study lost to one seed; a divergence that nobody hears of."""
    out, study = study_of(1)
    study("--seeds", "3", "--together", "3")
    study("--seeds", "3", "--together", "3")
    assert [run.key.seed for run in results_file.read_results(out / "results.jsonl")] == [0, 2]
    (lost,) = results_file.read_diverged(out / "results.jsonl")
    assert lost[:2] == ("r", 1)
    (line,) = (out / "diverged.jsonl").read_text().splitlines()
    assert json.loads(line)["diverged"].startswith("error: seed 1: the loss became NaN")
    assert "left out of the means: r: 1." in (out / "table.md").read_text()


def test_what_is_finished_when_a_study_is_stopped_is_kept(study_of, monkeypatch):
    """Ctrl-C while a group is at work: the seeds of it that have ended count.

    Catches: finished seeds thrown away with the process that trained them.
    """
    out, study = study_of()
    append = results_file.append_result
    working, stopped = threading.Event(), threading.Event()

    def together(self, group):
        results = json.loads(group[0].recipe.read_text())["results"]
        records = [{**job.key._asdict(), **results} for job in group]
        if group[0].seed == 0:
            return runner.Ended(records, out / "first")
        working.set()
        assert stopped.wait(60)
        return runner.Ended(records[:1], out / "second", ChildProcessError("terminated"))

    def interrupted(path, entry):
        append(path, entry)
        if entry["seed"] == 1:
            assert working.wait(60)
            raise KeyboardInterrupt

    monkeypatch.setattr(runner.Attempts, "train", together)
    monkeypatch.setattr(runner.Attempts, "stop", lambda children: stopped.set())
    monkeypatch.setattr(results_file, "append_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study("--seeds", "6", "--together", "2")
    assert [run.key.seed for run in results_file.read_results(out / "results.jsonl")] == [0, 1, 2]


def test_a_mistake_costs_no_earlier_seeds(tmp_path, monkeypatch):
    """Catches: folders that are cleared for a training together which these arguments do not allow."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(TINY)
    kept = tmp_path / "out" / "seed0" / "arguments.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    flags = [str(tmp_path / "small.yaml"), "--seeds", "0", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="bf16"):
        load(STUDIES / "train_seeds.py").main([*flags, "--overwrite_output_dir", "true", "--bf16", "true"])
    assert kept.read_text() == "{}"
