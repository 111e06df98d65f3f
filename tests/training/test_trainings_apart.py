"""What one training or evaluation leaves to the next: nothing that is logged, counted or drawn."""

import multiprocessing
import signal
import subprocess

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from nt_failures.objectives import MultiTokenHeads, NextToken
from nt_failures.tasks.addition import Addition
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.sort import Sort
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import budget_of
from nt_failures.training.callbacks import LiveProgressCallback
from nt_failures.training.stop_on_signal import StopOnSignal
from nt_failures.training.trainer import ObjectiveTrainer


@pytest.fixture
def make(tmp_path, tiny_model, tokenized, task):
    """`make(objective, dropout, **options)`: a trainer over 32 rows, 8 a step."""

    def made(objective=None, dropout=0.0, **options):
        model = tiny_model("gpt2", spread=0.2)
        for module in (module for module in model.modules() if isinstance(module, torch.nn.Dropout)):
            module.p = dropout
        flags = {"max_steps": 6, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "report_to": []}
        args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, **{**flags, **options})
        sets = {"train_dataset": tokenized, "eval_dataset": tokenized}
        return ObjectiveTrainer(model, args, objective=objective or NextToken(pad_token_id=14), task=task, **sets)

    return made


def test_a_second_training_logs_its_own_losses(make):
    """Catches: parts of steps that the first training took behind its last log, in the first log of the second."""
    trainer = make(MultiTokenHeads(heads=2, pad_token_id=14), max_steps=3, logging_steps=2)
    for _ in range(2):
        trainer.train()
        first = next(entry for entry in trainer.state.log_history if "loss" in entry)
        assert first["loss/next_token"] + first["loss/head_2"] == pytest.approx(first["loss"], abs=1e-4)
        assert [entry["step"] for entry in trainer.state.log_history if "grad/head_2" in entry] == [0, 3]


def test_the_budget_is_that_of_all_trainings(make, tmp_path):
    """Catches: a model that was trained twice, said to have cost half; a checkpoint's own steps counted twice."""
    trainer = make(max_steps=3, save_strategy="steps", save_steps=2)
    trainer.train()
    once = budget_of(trainer)
    trainer.train()
    twice = budget_of(trainer)
    assert (once.steps, once.examples) == (3, 24)
    assert (twice.steps, twice.examples, twice.flops) == (6, 48, 2 * once.flops)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert budget_of(trainer) == once
    assert trainer.resumed_at == 2
    trainer.train()
    assert trainer.resumed_at == 0


def test_the_metrics_of_a_second_training_are_known(make):
    """Catches: a card without metrics, as the log of the second training begins at step 0 and the budget does not."""
    trainer = make(max_steps=3)
    trainer.train()
    trainer.train()
    assert trainer._known_results().metrics is None  # nothing was evaluated since
    found = trainer.evaluate()
    known = trainer._known_results()
    assert (known.steps, known.n) == (6, 32)
    assert known.metrics["loss"] == found["eval_loss"]
    assert known.metrics["free/exact"] == found["eval_free/exact"]


def test_what_other_rows_gave_is_not_on_the_card(make):
    """Catches: accuracy on training rows, which a user looked at last, published as the model's result; such a row in
    the curve. Rows named for it are: `metric_key_prefix="test"`."""
    trainer = make(max_steps=3)
    trainer.train()
    found = trainer.evaluate()
    trainer.evaluate(trainer.train_dataset.select(range(8)))
    known = trainer._known_results()
    assert known.metrics["loss"] == found["eval_loss"]
    assert [point["loss"] for point in known.learning_curve] == [found["eval_loss"]]
    tested = trainer.evaluate(trainer.eval_dataset.select(range(8)), metric_key_prefix="test")
    known = trainer._known_results()
    assert (known.n, known.metrics["loss"]) == (8, tested["test_loss"])
    assert [point["loss"] for point in known.learning_curve] == [found["eval_loss"]]


def test_the_budget_is_of_the_rows_that_were_trained(make):
    """Catches: the rows of an earlier training counted anew by the data set of a later one."""
    trainer = make(max_steps=10, per_device_train_batch_size=8)
    rows, seen, step = trainer.train_dataset, [], trainer.training_step

    def counting(model, inputs, *args, **kwargs):
        seen.append(len(inputs["input_ids"]))
        return step(model, inputs, *args, **kwargs)

    trainer.training_step = counting
    trainer.train()
    trainer.train_dataset = rows.select(range(5))
    trainer.train()
    trainer.train_dataset = rows
    assert (trainer._known_results().steps, trainer._known_results().examples) == (20, sum(seen))


@pytest.mark.parametrize(
    ("asked", "order", "chance", "position"),
    [
        (PathStar(2, 4, 10), "forward", 0.5, 2),
        (PathStar(2, 4, 10), "reversed", 0.5, 3),
        (Addition(3), "reversed", None, None),
        (Sort(4, 10), "forward", None, None),
    ],
)
def test_chance_without_an_evaluation(make, asked, order, chance, position):
    """Catches: the chance of all sums, or 100 %, for an order or a task in which nothing is decided."""
    trainer = make(NextToken(order=order, pad_token_id=14))
    trainer.task = asked
    known = trainer._known_results()
    assert (known.chance, known.decision_position) == (chance, position)


def test_a_new_bar_is_empty():
    """Catches: the accuracy of an earlier training behind the bar of one that has not evaluated yet."""
    bar, state = LiveProgressCallback(), TrainerState(is_world_process_zero=False)
    bar.on_log(None, state, TrainerControl(), logs={"eval_free/exact": 1.0})
    assert bar.shown
    bar.on_train_begin(None, state, TrainerControl())
    assert not bar.shown


class Signalled(TrainerCallback):
    """Sends this process a SIGTERM in the second step of the first training."""

    sent = False

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1 and not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_stops_one_training(make):
    """Catches: the next training stopped at its first step by the signal that stopped the one before."""
    trainer = make()
    trainer.add_callback(Signalled())
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert (trainer.state.global_step, stop.signal) == (2, signal.SIGTERM)
    trainer.train()
    assert (trainer.state.global_step, stop.signal) == (6, None)


class ToWorkers(TrainerCallback):
    """Sends a signal to the DataLoader workers in the second step, from another process, as a terminal and SLURM do."""

    def __init__(self, number):
        self.number, self.workers = number, []

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.workers = multiprocessing.active_children()
            subprocess.run(["kill", f"-{int(self.number)}", *(str(worker.pid) for worker in self.workers)], check=True)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_outlive_a_signal_to_all_processes(make, number, persistent):
    """Catches: "DataLoader worker is killed by signal" in place of a checkpoint; workers that nothing ends."""
    workers = {
        "dataloader_num_workers": 2,
        "dataloader_prefetch_factor": 1,
        "dataloader_persistent_workers": persistent,
    }
    trainer = make(per_device_train_batch_size=2, max_steps=12, **workers)
    sent = ToWorkers(number)
    trainer.add_callback(sent)
    with StopOnSignal():
        trainer.train()
    assert trainer.state.global_step == 12
    for worker in sent.workers:
        worker.terminate()  # persistent ones, as torch does in the end
        worker.join(30)
    assert [worker.exitcode for worker in sent.workers] == [0, 0]


def test_a_forked_child_ends_as_outside_the_block():
    """Catches: a pool of a user's metric that no SIGTERM ends, and a child that promises a checkpoint."""
    with StopOnSignal() as stop:
        child = multiprocessing.get_context("fork").Process(target=signal.raise_signal, args=(signal.SIGTERM,))
        child.start()
        child.join(30)
    assert (child.exitcode, stop.signal) == (-signal.SIGTERM, None)


@pytest.mark.parametrize(
    "options",
    [
        {"eval_strategy": "steps", "eval_steps": 1, "full_decode": True},
        {"eval_strategy": "epoch"},
        {"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 4},
    ],
)
def test_dropout_does_not_notice_evaluations(make, options):
    """Catches: other weights for how often a run was evaluated, as every evaluation draws a number."""
    plain = make(dropout=0.2)
    plain.train()
    evaluated = make(dropout=0.2, **options)  # which seeds torch's generator
    evaluated.evaluate()
    evaluated.train()
    assert any("eval_loss" in entry for entry in evaluated.state.log_history)
    for name, weights in plain.model.state_dict().items():
        assert torch.equal(weights, evaluated.model.state_dict()[name])


def test_an_evaluation_takes_every_row(make, tokenized):
    """Catches: `dataloader_drop_last` of the training, which left rows out of the shares and kept them in n."""
    found = [make(dataloader_drop_last=drop, per_device_eval_batch_size=12) for drop in (False, True)]
    for rows in (32, 5):
        expected, dropping = (trainer.evaluate(tokenized.select(range(rows))) for trainer in found)
        assert len(found[1].evaluation.predictions["forced"]) == found[1].evaluation.num_samples == rows
        names = [name for name in expected if "/" in name or name in ("eval_loss", "eval_decision")]
        assert "eval_free/exact" in names
        assert {name: dropping[name] for name in names} == {name: expected[name] for name in names}
    assert found[1].args.dataloader_drop_last
    assert len(found[1].get_train_dataloader()) == 4
