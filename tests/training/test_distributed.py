"""Two processes that train and evaluate as one: real DDP over gloo, started with cpu_2.yaml and this very file."""

import gc
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

from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import tokenize, word_level_tokenizer
from nt_failures.models.load import load_model
from nt_failures.objectives import BeliefState, MaskedTeacher, MultiTokenHeads, NextToken, Teacherless
from nt_failures.tasks.path_star import PathStar
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

TASK = PathStar(2, 3, 10)
OBJECTIVES = {
    "next_token": NextToken(pad_token_id=14),
    "teacherless": Teacherless(dummy_token_id=13, pad_token_id=14),
    "multi_token_heads": MultiTokenHeads(heads=2, pad_token_id=14),
    "belief_state": BeliefState(pad_token_id=14),
}
BATCHES = {"wide": (4, 1), "accumulated": (1, 4)}
"""Rows per process and step, and steps per update: 8 rows per update on two processes."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "train.py"
CONFIG = EXAMPLE.parent / "accelerate_configs" / "cpu_2.yaml"
TINY = [
    *("--degree", "2", "--path_length", "3", "--num_nodes", "10", "--num_train", "64", "--num_validation", "9"),
    *("--num_test", "33", "--model", "gpt2-1x16", "--max_steps", "2", "--eval_steps", "2"),
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


def eval_rows(it):
    """Rows of different lengths; the model is right at position 1 in the first three rows alone."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(ROWS):
        prefix = rng.integers(0, 10, 6 + i % 4).tolist()
        right = int(it.training_objective.decode(it.model, torch.tensor([prefix]), 1))
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
    """Train one step, then evaluate; what came of both."""
    it = trainer(folder, objective, batch, accumulate)
    it.train()
    metrics = it.evaluate(datasets.Dataset.from_list(eval_rows(it)))
    shares = {name: share for name, share in metrics.items() if "/" in name or name == "eval_decision"}
    loss = next(entry["loss"] for entry in it.state.log_history if "loss" in entry)
    return {"metrics": shares, "loss": loss, "world": it.args.world_size}, it.model


SIZES = (1, 5, 8, 11)
"""Of evaluations over 2 x 4 rows at a time: a process without a row of its own, a last batch of one, of three, none."""


class Watched(ObjectiveTrainer):
    """Remembers what each training step was given."""

    def training_step(self, model, inputs, *args, **kwargs):
        self.given = [*vars(self).get("given", []), inputs["input_ids"].tolist()]
        return super().training_step(model, inputs, *args, **kwargs)


def watched(folder, objective, data, batch, **options):
    """A trainer over fixed or streamed rows, that takes 3 steps."""
    torch.manual_seed(0)
    tokenizer = word_level_tokenizer(TASK)
    given = {"max_steps": 3, "per_device_train_batch_size": batch, "per_device_eval_batch_size": 4, "logging_steps": 1}
    given |= {"learning_rate": 0.1, "optim": "sgd", "save_strategy": "steps", "save_steps": 2, "disable_tqdm": True}
    args = ObjectiveTrainingArguments(str(folder), use_cpu=True, **given, **options)
    model = load_model("gpt2-1x16", tokenizer, 32, config_overrides={"initializer_range": 0.3})
    return Watched(model, args, objective=objective, task=TASK, train_dataset=data, processing_class=tokenizer)


def stream(folder):
    """Three steps over a stream of rows without end: what was given to this process, and the losses."""
    objective = NextToken(pad_token_id=14)
    rows = tokenize(
        load_splits(TASK, streaming=True, num_validation=1, num_test=1)["train"], word_level_tokenizer(TASK)
    )
    it = watched(folder, objective, rows, 8 // int(os.environ.get("WORLD_SIZE", "1")))
    it.train()
    return {"given": it.given, "losses": [entry["loss"] for entry in it.state.log_history if "loss" in entry]}


def ragged(folder):
    """Three steps over a stream whose rows differ in length, and an evaluation of another: losses and metrics."""
    rows = datasets.Dataset.from_list(train_rows()).to_iterable_dataset(num_shards=2)
    it = watched(folder, NextToken(pad_token_id=14), rows, 8 // int(os.environ.get("WORLD_SIZE", "1")))
    found = it.evaluate(datasets.Dataset.from_list(eval_rows(it)[:9]).to_iterable_dataset())
    it.train()
    losses = [entry["loss"] for entry in it.state.log_history if "loss" in entry]
    return {"losses": losses, "metrics": {k: v for k, v in found.items() if "/" in k or k == "eval_loss"}}


def evaluated_first(folder, first=True):
    """The model after three steps of a trainer that had evaluated before, and what wraps it."""
    data = datasets.Dataset.from_list(train_rows() * 3)
    it = watched(folder, NextToken(pad_token_id=14), data, 8 // int(os.environ.get("WORLD_SIZE", "1")))
    if first:
        it.evaluate(data)
        it.predict(data)
    it.train()
    return it.model, type(it.model_wrapped).__name__


def resume(folder):
    """Losses of three steps, and of the third alone after a checkpoint: with draws, a module and several processes."""
    data = datasets.Dataset.from_list(train_rows() * 3)
    objective = MaskedTeacher(dummy_token_id=13, pad_token_id=14)
    whole = watched(folder, objective, data, 4)
    whole.train()
    again = watched(folder, objective, data, 4)
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    return [[e["loss"] for e in it.state.log_history if "loss" in e] for it in (whole, again)], whole.given


def sizes(folder):
    """Metrics and loss of evaluations over different numbers of rows."""
    it = watched(folder, BeliefState(pad_token_id=14), datasets.Dataset.from_list(train_rows()), 4)
    rows = datasets.Dataset.from_list(eval_rows(it) + eval_rows(it)[:1])
    found = {str(n): it.evaluate(rows.select(range(n))) for n in SIZES}
    return {n: {k: v for k, v in m.items() if "/" in k or k == "eval_loss"} for n, m in found.items()}


def worker(folder):
    """What each of the two processes does."""
    torch.set_num_threads(1)
    gc.freeze()  # as in conftest.py
    found = {"stream": stream(folder / "stream"), "resume": resume(folder / "resume"), "sizes": sizes(folder / "sizes")}
    found["ragged"] = ragged(folder / "ragged")
    model, found["wrapped"] = evaluated_first(folder / "evaluated")
    torch.save(model.state_dict(), folder / f"evaluated first {torch.distributed.get_rank()}.pt")
    written = []
    sys.addaudithook(lambda event, args: written.append(str(args[0])) if _writes(event, args) else None)
    for objective in OBJECTIVES:
        for name, shape in BATCHES.items():
            found[f"{objective} {name}"], model = run(folder / "out", objective, *shape)
            rank = torch.distributed.get_rank()
            torch.save(model.state_dict(), folder / f"{objective} {name} {rank}.pt")
    runpy.run_path(str(EXAMPLE))["main"]([*TINY, "--output_dir", str(folder / "run")])
    found["written"] = [path for path in written if path.startswith(str(folder / "run"))]
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def _writes(event, args):
    if event == "open":
        return isinstance(args[1], str) and bool(set(args[1]) & set("wax+"))
    return event in ("os.mkdir", "os.rename", "os.remove")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder where two processes have left their results, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # without a GPU, nobody has to say that the CPU is meant
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    command = [*launch, "--main_process_port", "0", __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done.stdout


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_train_and_evaluate_as_one(two, tmp_path, objective):
    """Catches: a mean over each process's own labels, gradients divided twice, rows that fill up the last batch counted
    as results, ragged answers gathered out of line."""
    expected, model = run(tmp_path, objective, 8, 1)
    assert expected["world"] == 1
    assert expected["metrics"]["eval_free/position_1"] == 0.3
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


def of(two, rank):
    return json.loads((two[0] / f"{rank}.json").read_text(encoding="utf-8"))


def test_evaluations_of_every_size_count_each_row_once(two, tmp_path):
    """Catches: a row that fills up the last batch in a share or in the loss, a process without a row that breaks."""
    expected = sizes(tmp_path)
    for rank in (0, 1):
        for n, metrics in of(two, rank)["sizes"].items():
            assert metrics == pytest.approx(expected[n], rel=1e-5)


def test_a_stream_is_shared_out(two, tmp_path):
    """Catches: both processes training on the same rows of a stream, or skipping some; a loss over half of them."""
    alone, (first, second) = stream(tmp_path), (of(two, rank)["stream"] for rank in (0, 1))
    for whole, left, right in zip(alone["given"], first["given"], second["given"], strict=True):
        assert left + right == whole
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], abs=1e-5)


def test_rows_of_a_stream_may_differ_in_length(two, tmp_path):
    """Catches: batches of two processes joined to one, in which `position_ids` are dropped that only one of them needs,
    or whose widths do not fit; rows that fill up the last batch of an evaluated stream counted."""
    alone = ragged(tmp_path)
    for rank in (0, 1):
        found = of(two, rank)["ragged"]
        assert found["losses"] == pytest.approx(alone["losses"], abs=1e-5)
        assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-5)


def test_an_evaluation_before_the_training_changes_nothing(two, tmp_path):
    """Catches: processes that each train alone, as the model was prepared without DDP."""
    model, _ = evaluated_first(tmp_path, first=False)
    for rank in (0, 1):
        assert of(two, rank)["wrapped"] == "DistributedDataParallel"
        weights = torch.load(two[0] / f"evaluated first {rank}.pt")
        torch.testing.assert_close(weights, model.state_dict(), rtol=0, atol=1e-6)


def test_two_processes_resume_and_draw_for_themselves(two):
    """Catches: a checkpoint that only one of them can resume; both hiding the same tokens; other draws after it."""
    (left, given), (right, others) = (of(two, rank)["resume"] for rank in (0, 1))
    assert left == right
    assert left[0][2:] == left[1][-1:]
    hidden = [[[token == 13 for token in row] for row in step] for step in (*given, *others)]
    assert sorted(map(str, hidden)) == sorted({str(step) for step in hidden})


def test_the_main_process_alone_writes(two):
    """Catches: a results.json, card or figure that is written twice, by whoever comes last."""
    assert of(two, 1)["written"] == []
    names = {Path(path).name for path in of(two, 0)["written"]}
    assert {"results.part", "README.md", "arguments.part", "nt_failures.part"} <= names


def test_the_example_trains_on_two_processes(two):
    """Catches: a table for each process, a folder that the second process finds taken, examples of one process only."""
    folder, out = two
    results = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))
    assert (results["n"], results["steps"], results["examples"]) == (33, 2, 32)
    counts = [share * 33 for name, share in results["metrics"].items() if "/position_" in name]
    assert counts == pytest.approx([round(count) for count in counts])
    assert out.count("n = 33 different held-out graphs,") == 1
    assert out.count("PathStar(degree=2, path_length=3, num_nodes=10): next_token") == 1
    assert (folder / "run" / "model.safetensors").exists()


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
