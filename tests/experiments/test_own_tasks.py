"""Runs on tasks unlike ours, from the command line to the card: nothing of path-star graphs is assumed on the way."""

import json

import pytest

from nt_failures.experiments import command_line, run
from nt_failures.tasks.base import END

TINY = "--model gpt2-1x32 --use_cpu true --num_validation 40 --num_test 60 --disable_tqdm true"


def finished(folder, task, *flags):
    args = command_line.parse(["--task", f"own_tasks.{task}", *TINY.split(), "--output_dir", str(folder), *flags])
    return run.run(args), folder


@pytest.mark.parametrize("order", ["forward", "reversed"])
@pytest.mark.parametrize("objective", ["next_token", "teacherless", "masked_diffusion"])
def test_a_decision_that_moves_and_answers_that_end(objective, order, tmp_path, capsys):
    """Catches: a run that ends without results, card or figure where the decision has no place of its own, or is none;
    an end symbol that comes first in reversed order."""
    flags = ("--objective", objective, "--order", order, "--max_steps", "4", "--num_train", "200")
    results, folder = finished(tmp_path / "run", "OffCentre", *flags)
    assert results.decision_position is None
    assert results.chance == (0.5 if order == "forward" else None)
    assert results.rows == 60
    assert set(results.accuracies.free.n) == {5, 6}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "different held-out problems" in card
    assert " arm" not in card
    assert (folder / "forced_vs_free.png").exists()
    assert not (folder / "graph.png").exists()
    assert "chance at the decision" in capsys.readouterr().out or order == "reversed"
    read = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (read["n"], read["rows"]) == (results.n, 60)


def test_stopping_is_learnt(tmp_path):
    """Catches: targets whose end a model is told, or cannot learn: after training it stops where each answer ends."""
    flags = ("--max_steps", "400", "--num_train", "2000", "--learning_rate", "0.003", "--order", "reversed")
    results, _ = finished(tmp_path / "run", "Copy", *flags)
    assert results.accuracies.free.exact > 0.9
    assert END in results.instance["completion"]


@pytest.mark.parametrize("flags", [["--objective", "hybrid"], ["--objective_options", '{"positions": [1, 2]}']])
def test_training_on_more_than_is_asked(flags, tmp_path):
    """Catches: a run that cannot train on edges beside paths, or tests on edges; an n that counts repeated leaves."""
    sizes = "--degree 24 --path_length 3 --num_train 500 --max_steps 3"
    given = ["--task", "in_weights_star", *sizes.split(), *TINY.split(), "--output_dir", str(tmp_path / "run"), *flags]
    results = run.run(command_line.parse(given))
    assert (results.n, results.rows, results.decision_position, results.chance) == (3, 60, 2, 1 / 6)
    assert results.instance["prompt"].endswith("=")
    assert (tmp_path / "run" / "graph.png").exists()
