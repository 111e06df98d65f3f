"""Two processes that train and evaluate as one: real DDP over gloo, started by running this very file."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import debug_launcher

from nt_failures.models import load_model
from nt_failures.objectives import BeliefState, MultiTokenHeads, NextToken, Teacherless
from nt_failures.tasks.path_star import PathStar
from nt_failures.tokenizer import word_level_tokenizer
from nt_failures.trainer import ObjectiveTrainer
from nt_failures.training_arguments import ObjectiveTrainingArguments

TASK = PathStar(2, 3, 10)
OBJECTIVES = {
    "next_token": NextToken(pad_token_id=14),
    "teacherless": Teacherless(dummy_token_id=13, pad_token_id=14),
    "multi_token_heads": MultiTokenHeads(heads=2, pad_token_id=14),
    "belief_state": BeliefState(pad_token_id=14),
}
BATCHES = {"wide": (4, 1), "accumulated": (1, 4)}
"""Rows per process and step, and steps per update: 8 rows per update on two processes."""
EXAMPLE = Path(__file__).parent.parent / "examples" / "train.py"
TINY = [
    *("--degree", "2", "--path_length", "3", "--num_nodes", "10", "--num_train", "64", "--num_validation", "9"),
    *("--num_test", "33", "--model", "gpt2-1x16", "--max_steps", "2", "--eval_steps", "2", "--use_cpu", "true"),
    *("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "8", "--disable_tqdm", "true"),
]
ROWS = 10
"""For evaluation, 2 x 4 at a time: the last batch has two rows and is filled up to eight."""


def train_rows():
    """8 rows with 1 to 6 labels, so that no two halves have equally many."""
    rng = np.random.default_rng(0)
    return [
        {
            "prefix_ids": rng.integers(0, 10, 6 + i % 3).tolist(),
            "target_ids": rng.integers(0, 10, 1 + i * 5 // 7).tolist(),
            "target_positions": list(range(1, 2 + i * 5 // 7)),
        }
        for i in range(8)
    ]


def eval_rows(model):
    """Rows of different lengths; the model is right at position 1 in the first three rows alone."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(ROWS):
        prefix = rng.integers(0, 10, 6 + i % 4).tolist()
        with torch.no_grad():
            right = int(model(input_ids=torch.tensor([prefix])).logits[0, -1].argmax())
        first = right if i < 3 else (right + 1) % 10
        target = [first, *rng.integers(0, 10, 1 + i % 2).tolist()]
        rows.append({"prefix_ids": prefix, "target_ids": target, "target_positions": list(range(1, len(target) + 1))})
    return rows


def trainer(folder, objective, batch, accumulate):
    torch.manual_seed(0)
    model = load_model("gpt2-1x16", word_level_tokenizer(TASK), 32, config_overrides={"initializer_range": 0.3})
    args = ObjectiveTrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=1,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=accumulate,
        full_decode=True,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
    )
    rows = datasets.Dataset.from_list(train_rows())
    return ObjectiveTrainer(model, args, objective=OBJECTIVES[objective], task=TASK, train_dataset=rows)


def run(folder, objective, batch, accumulate):
    """Train one step, then evaluate; what came of both.

    Not the other way round: the stock Trainer, once it has evaluated, trains without DDP.
    """
    it = trainer(folder, objective, batch, accumulate)
    rows = eval_rows(it.model)
    it.train()
    metrics = it.evaluate(datasets.Dataset.from_list(rows))
    shares = {name: share for name, share in metrics.items() if "/" in name or name == "eval_decision"}
    return {"metrics": shares, "loss": it.state.log_history[0]["loss"], "world": it.args.world_size}, it.model


def worker(folder):
    """What each of the two processes does."""
    torch.set_num_threads(1)
    found = {}
    for objective in OBJECTIVES:
        for name, shape in BATCHES.items():
            found[f"{objective} {name}"], model = run(folder / "out", objective, *shape)
            rank = torch.distributed.get_rank()
            torch.save(model.state_dict(), folder / f"{objective} {name} {rank}.pt")
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    runpy.run_path(str(EXAMPLE))["main"]([*TINY, "--output_dir", str(folder / "run")])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder where two processes have left their results, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done.stdout


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_train_and_evaluate_as_one(two, tmp_path, objective):
    """Catches: a mean over each process's own labels, gradients divided twice, rows that fill up the last batch counted
    as results, ragged answers gathered out of line."""
    expected, model = run(tmp_path, objective, 8, 1)
    assert expected["world"] == 1
    assert 0 < expected["metrics"]["eval_free/position_1"] <= 0.3
    folder, _ = two
    for rank in (0, 1):
        results = json.loads((folder / f"{rank}.json").read_text(encoding="utf-8"))
        for batches in BATCHES:
            found = results[f"{objective} {batches}"]
            assert found["world"] == 2
            assert found["metrics"] == pytest.approx(expected["metrics"])
            weights = torch.load(folder / f"{objective} {batches} {rank}.pt")
            torch.testing.assert_close(weights, model.state_dict(), rtol=0, atol=1e-6)
            assert found["loss"] == pytest.approx(expected["loss"], abs=2e-4)


def test_the_example_trains_on_two_processes(two):
    """Catches: a table for each process, a folder that the second process finds taken, examples of one process only."""
    folder, out = two
    results = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))
    assert (results["n"], results["steps"], results["examples"]) == (33, 2, 32)
    counts = [share * 33 for name, share in results["metrics"].items() if "/position_" in name]
    assert counts == pytest.approx([round(count) for count in counts])
    assert out.count("n = 33 held-out instances") == 1
    assert out.count("PathStar(degree=2, path_length=3, num_nodes=10): next_token") == 1
    assert (folder / "run" / "model.safetensors").exists()


if __name__ == "__main__":
    debug_launcher(worker, (Path(sys.argv[1]),), num_processes=2)
