"""examples/studies/train_seeds.py and `examples/studies/reproduce.py --together`: a line for each seed, as if it had
been alone."""

import json

import datasets
import pytest
from scripts import STUDIES, TINY, load
from small_studies import Inline, Study

from nt_failures.experiments.study import engine, results_file, worker


def test_every_seed_has_the_results_of_a_run_of_its_own(tmp_path, monkeypatch):
    """A study of two seeds, once trained together, once one by one.

    Catches: a seed that gets another's weights, rows, draws or test; a record that lacks what a single run's has.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "small.yaml"
    recipe.write_text(TINY + "objective: hybrid\nobjective_options: {share: 0.7}\noptimizer: muon\n")
    reproduce = load(STUDIES / "reproduce.py")
    monkeypatch.setattr(engine, "of", lambda args, folder: Inline(worker.train))  # here: saves seconds of imports
    found = {}
    for way, flags in (("together", ["--together", "4"]), ("alone", [])):
        reproduce.main([str(recipe), "--seeds", "2", "--jobs", "1", "--output_dir", str(tmp_path / way), *flags])
        found[way] = [json.loads(line) for line in (tmp_path / way / "results.jsonl").read_text().splitlines()]
    for seed, (one, other) in enumerate(zip(found["together"], found["alone"], strict=True)):
        assert one.pop("trained_together") == 2
        assert (one["recipe"], one["seed"], one["fingerprint"]) == (other["recipe"], seed, other["fingerprint"])
        for name in ("metrics", "learning_curve", "diagnosis"):
            assert numbers(one[name]) == pytest.approx(numbers(other[name]), rel=1e-3), name
        for name in ("train_seconds", "throughput", "metrics", "learning_curve", "diagnosis", "weights"):
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
def small(tmp_path, monkeypatch):
    """A study of one recipe, `r`."""
    made = Study(tmp_path, monkeypatch)
    made.recipe("r")
    return made


def test_seeds_go_in_groups_and_only_once(small):
    """Catches: a seed twice or not at all, a group larger than asked, flags that do not reach the training."""
    small.run("--seeds", "4", "--together", "2", "--max_steps", "5")
    small.run("--seeds", "7", "--together", "3", "--max_steps", "5")
    assert [seed for _, seed in small.results] == list(range(7))
    assert [[job.seed for job in jobs] for jobs in small.engine.asked] == [[0, 1], [2, 3], [4, 5, 6]]
    assert {job.extra for jobs in small.engine.asked for job in jobs} == {("--max_steps", "5")}
    assert len({job.fingerprint for jobs in small.engine.asked for job in jobs}) == 1


def test_seeds_beside_one_that_diverges_are_kept(small):
    """Catches: a study lost to one seed; a divergence that nobody hears of."""
    small.recipe("r", diverge=[1])
    small.run("--seeds", "3", "--together", "3")
    small.run("--seeds", "3", "--together", "3")
    assert len(small.engine.asked) == 1
    assert [seed for _, seed in small.results] == [0, 2]
    (lost,) = results_file.read_diverged(small.out / "results.jsonl")
    assert lost[:2] == ("r", 1)
    (line,) = (small.out / "diverged.jsonl").read_text().splitlines()
    assert json.loads(line)["diverged"] == "nan at seed 1"
    assert "left out of the means: r: 1." in (small.out / "table.md").read_text()


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
