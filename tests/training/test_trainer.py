"""The Trainer: its loss, its metrics against naive decoding, resuming, callbacks, and one training that really learns.

Rows are made to suit an untrained model: the target is the model's own answer with one symbol changed in three rows of
four. So every metric has a value of its own, and it is known by hand.
"""

import contextlib
import dataclasses
import functools
import json
import re

import datasets
import numpy as np
import pytest
import torch
from own_tasks import Pair
from transformers import EarlyStoppingCallback, EvalPrediction, GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback
from transformers.integrations import integration_utils

from nt_failures.data.columns import task_columns, to_table
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.data.tokenizer import tokenize, word_level_tokenizer
from nt_failures.evaluation.prediction import first_pass_once, objective_metrics
from nt_failures.models.load import load_model
from nt_failures.objectives import (
    FutureBag,
    Hybrid,
    Insertion,
    LookaheadTokens,
    MaskedTeacher,
    NextToken,
    Teacherless,
    read_objective,
)
from nt_failures.tasks.path_star import PathStar
from nt_failures.training import compat
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

PAD, DUMMY = 14, 13
TOKENS = {"dummy_token_id": DUMMY, "pad_token_id": PAD}
FOUR = PathStar(2, 4, 10)
"""The decision is position 2 forward and position 3 reversed."""
WORDS = [1, 2, 3, 4]
PIECES = [1, 1, 0, 2, 2, 0, 3, 0, 4]
"""Symbols of a BPE's tokens: two tokens for symbols 1 and 2, separators between."""


def arguments(folder, **options):
    """Plain SGD without clipping: an update shows the gradient as it is, scale included."""
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 5,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
    }
    return ObjectiveTrainingArguments(**{**defaults, **options})


def dataset(rows):
    return datasets.Dataset.from_list(list(rows))


def one_pass(model, prefix, shown):
    """Argmax behind each of the columns shown, by the plainest call there is."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prefix, *shown[:-1]]])).logits[0]
    return logits[len(prefix) - 1 :].argmax(dim=-1).tolist()


def token_by_token(model, prefix, length):
    answer = []
    for _ in range(length):
        answer.append(one_pass(model, [*prefix, *answer], [PAD])[0])
    return answer


def answers(model, objective, row):
    """What each way of decoding should give for a row, in the task's order, one row at a time."""
    flip = -1 if objective.order == "reversed" else 1
    prefix, target = row["prefix_ids"], row["target_ids"]
    found = {"forced": one_pass(model, prefix, target[::flip])}
    if "parallel" in objective.decodings:
        found["parallel"] = one_pass(model, prefix, [DUMMY] * len(target))
    if objective.decodings[0] == "parallel":
        found["free"] = found.pop("parallel")
    else:
        found["free"] = token_by_token(model, prefix, len(target))
    return {way: answer[::flip] for way, answer in found.items()}


def in_parallel(**options):
    """Trained on both forms, judged by the one pass."""
    return Hybrid(parallel=True, **options)


def suited_rows(model, objective, positions, count=22, seed=0):
    """Rows whose targets are the model's own free answers; rows 0, 1, 2 of every four are changed in one token.

    Prefixes have 6 to 8 tokens; every third target has one token less.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        places = positions[: len(positions) - (i % 3 == 2)]
        row = {"prefix_ids": rng.integers(0, 10, 6 + i % 3).tolist(), "target_ids": [0] * len(places)}
        target = answers(model, objective, row)["free"]
        if i % 4 < 3:
            changed = int(rng.integers(len(places)))
            target[changed] = (target[changed] + 1) % 10
        rows.append({**row, "target_ids": target, "target_positions": places})
    return rows


def by_hand(model, objective, rows):
    """The metrics of `evaluate`, counted row by row."""
    found = [answers(model, objective, row) for row in rows]
    metrics = {}
    for way in found[0]:
        hits = [
            {k: all(a == t for a, t, p in zip(f[way], r["target_ids"], r["target_positions"], strict=True) if p == k)}
            for f, r in zip(found, rows, strict=True)
            for k in range(1, 5)
            if k in r["target_positions"]
        ]
        for k in range(1, 5):
            having = [hit[k] for hit in hits if k in hit]
            metrics[f"{way}/position_{k}"] = np.mean(having)
            if len(having) < len(rows):
                metrics[f"n/position_{k}"] = len(having)
        metrics[f"{way}/exact"] = np.mean([f[way] == r["target_ids"] for f, r in zip(found, rows, strict=True)])
    return metrics


def evaluated(trainer, rows):
    metrics = trainer.evaluate(dataset(rows))
    speed = ("loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "epoch")
    return {name: share for name, share in metrics.items() if name not in {f"eval_{s}" for s in speed} | {"epoch"}}


@pytest.mark.parametrize("positions", [WORDS, PIECES], ids=["words", "pieces"])
@pytest.mark.parametrize("order", ["forward", "reversed"])
@pytest.mark.parametrize("kind", [NextToken, Hybrid, in_parallel, Teacherless])
def test_metrics_equal_naive_decoding(tiny_model, tmp_path, kind, order, positions):
    """Catches: metrics off by one position, in the wrong order, with padding or separators counted, from the wrong
    pass (teacherless from the forced one, hybrid's parallel left out), or a last batch counted twice."""
    model = tiny_model("gpt2", spread=0.5)
    objective = kind(order=order, **TOKENS)
    rows = suited_rows(model, objective, positions)
    expected = by_hand(model, objective, rows)
    trainer = ObjectiveTrainer(model, arguments(tmp_path, full_decode=True), objective=objective, task=FOUR)
    found = evaluated(trainer, rows)
    way = "free" if kind in (in_parallel, Teacherless) else "forced"
    decision = expected[f"{way}/position_{2 if order == 'forward' else 3}"]
    assert found == {f"eval_{name}": pytest.approx(share) for name, share in expected.items()} | {
        "eval_decision": pytest.approx(decision),
        "eval_chance": 0.5,
    }
    assert 0.1 < expected["free/exact"] < decision < 1  # the rows are neither all right nor all wrong


@pytest.mark.parametrize("kind", [NextToken, Hybrid])
@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_free_exact_costs_no_pass(tiny_model, tmp_path, kind, family):
    """Catches: `free/exact` that is not the full decode's; free positions that nobody decoded."""
    model = tiny_model(family, spread=0.5)
    objective = kind(**TOKENS)
    rows = suited_rows(model, objective, WORDS, count=12)
    fast, full = (
        evaluated(ObjectiveTrainer(model, arguments(tmp_path, full_decode=full), objective=objective, task=FOUR), rows)
        for full in (False, True)
    )
    assert fast["eval_free/exact"] == full["eval_free/exact"] > 0
    assert set(full) - set(fast) == {f"eval_free/position_{k}" for k in WORDS}
    assert fast["eval_decision"] == fast["eval_forced/position_2"]


@pytest.mark.parametrize(("order", "decision"), [("forward", 0.75), ("reversed", 0.25)])
def test_decision_of_longer_paths(order, decision):
    """Catches: a decision at position 2 for a reversed target, or at token 2 where a symbol has two tokens."""
    target = np.array([[1, 1, 2, 2, 3, 4, 5]] * 4)
    positions = np.array([[1, 1, 2, 2, 3, 4, 5]] * 4)
    forced = target.copy()
    forced[0, 3] = 9  # the second token of symbol 2
    forced[:3, 5] = 9  # symbol 4
    output = EvalPrediction({"forced": forced}, {"target_ids": target, "target_positions": positions})
    metrics = objective_metrics(output, NextToken(order=order), PathStar(5, 5, 50))
    assert metrics["decision"] == decision
    assert metrics["chance"] == 0.2
    assert "decision" not in objective_metrics(output, NextToken(order=order), None)


@pytest.mark.parametrize("kind", [NextToken, Teacherless])
def test_accumulated_batches_equal_one(tiny_model, tmp_path, ragged, kind):
    """Catches: a mean of means. Micro-batches have 2 to 9 labels, so each would weigh its tokens differently."""
    objective = kind(**TOKENS)
    fresh = tiny_model("gpt2", "2x16", spread=0.2)
    with torch.no_grad():
        expected = objective.loss(fresh, objective.collate(ragged))
    runs = {}
    for batch, accumulate in [(8, 1), (3, 3), (1, 8)]:
        model = tiny_model("gpt2", "2x16", spread=0.2)
        args = arguments(tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate)
        trainer = ObjectiveTrainer(model, args, objective=objective, train_dataset=dataset(ragged))
        trainer.train()
        runs[batch] = (trainer.state.log_history[0]["loss"], model.state_dict())
    loss_8, weights_8 = runs[8]
    assert loss_8 == pytest.approx(float(expected.sum) / sum(len(row["target_ids"]) for row in ragged), abs=1e-4)
    for batch in (3, 1):
        loss, weights = runs[batch]
        assert loss == pytest.approx(loss_8, abs=1e-4)
        torch.testing.assert_close(weights, weights_8, rtol=0, atol=1e-6)
    assert max(float((weights_8[name] - weight).abs().max()) for name, weight in fresh.state_dict().items()) > 1e-3


def test_an_evaluations_loss_is_the_mean_over_all_labels(tiny_model, tmp_path, ragged):
    """Catches: a mean over batches, in which the labels of a short last batch, or of short answers, weigh more."""
    model, objective = tiny_model("gpt2", spread=0.5), NextToken(**TOKENS)
    args = arguments(tmp_path, per_device_eval_batch_size=3)
    trainer = ObjectiveTrainer(model, args, objective=objective, eval_dataset=dataset(ragged))
    with torch.no_grad():
        loss = objective.loss(model, objective.collate(ragged))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(loss.sum / loss.count), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kind", [NextToken, Teacherless])
def test_resuming_equals_never_stopping(tiny_model, tmp_path, tokenized, kind, optimizer):
    """Catches: optimizer state (Muon's beside AdamW's), schedule, data order or accumulation lost at a checkpoint."""

    def trainer():
        args = arguments(
            tmp_path,
            optim="adamw_torch",
            optimizer=optimizer,
            learning_rate=1e-2,
            lr_scheduler_type="linear",
            per_device_train_batch_size=3,
            gradient_accumulation_steps=2,
            max_steps=8,  # one epoch has 6 steps
            save_strategy="steps",
            save_steps=4,
        )
        model = tiny_model("gpt2")
        return ObjectiveTrainer(model, args, objective=kind(**TOKENS), train_dataset=tokenized)

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.state.global_step == 8
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=1e-6)
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


class Recorder(TrainerCallback):
    """A tracker that keeps what it is told."""

    logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, dict(logs)))


def test_trackers_hear_loss_and_metrics(tiny_model, tmp_path, tokenized, task, monkeypatch):
    """Catches: metrics that never reach `report_to`, or that JSON cannot hold."""
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    monkeypatch.setattr(Recorder, "logs", [])
    args = arguments(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1, report_to=["recorder"])
    ObjectiveTrainer(
        tiny_model("gpt2"),
        args,
        objective=NextToken(pad_token_id=PAD),
        task=task,
        train_dataset=tokenized,
        eval_dataset=tokenized,
    ).train()
    steps = {name: [step for step, logs in Recorder.logs if name in logs] for name in ("loss", "eval_free/exact")}
    assert steps == {"loss": [1, 2], "eval_free/exact": [1, 2]}
    json.dumps(Recorder.logs)


def test_several_eval_sets(tiny_model, tmp_path, tokenized, task):
    """Catches: the second set's metrics written over the first's."""
    model = tiny_model("gpt2", spread=0.5)
    objective = NextToken(pad_token_id=PAD)
    sets = {"suited": dataset(suited_rows(model, objective, WORDS)), "other": tokenized}
    trainer = ObjectiveTrainer(model, arguments(tmp_path), objective=objective, task=task, eval_dataset=sets)
    metrics = trainer.evaluate()
    assert metrics["eval_suited_free/exact"] > metrics["eval_other_free/exact"]
    assert metrics["eval_suited_decision"] == metrics["eval_suited_forced/position_2"]


def rows_of(task, tokenizer, count=12):
    """Rows with their columns, as `tokenize` leaves those of `load_dataset`."""
    return tokenize(datasets.Dataset(to_table(task, task.sample(np.random.default_rng(0), count))), tokenizer)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (PathStar(3, 3, 10), r"'edges' has the shape \(\d+, 6, 2\), and .*degree=2.* needs \(n, 4, 2\)"),
        (PathStar(2, 3, 90), r"an answer holds symbol \d\d, and .*num_nodes=10\) has 14 from 0 on"),
        (PathStar((1, 2), 3, 10), r"some graphs are smaller than .*degree=2.*, with -1 behind their end"),
        (PathStar(2, (2, 3), 10), r"some graphs are smaller than .*path_length=3.*, with -1 behind their end"),
    ],
    ids=["degree", "labels", "range of degrees", "range of lengths"],
)
def test_rows_of_another_size_than_the_task(tiny_model, tmp_path, task, tokenizer, other, said):
    """Catches: a chance of 1/2, and a decision read at the wrong place, for rows of three arms beside a task of two; a
    task saved beside a model that was trained on another."""
    own, strange = rows_of(task, tokenizer), rows_of(other, word_level_tokenizer(other))
    options = {"objective": NextToken(pad_token_id=PAD), "task": task}
    trainer = ObjectiveTrainer(tiny_model("gpt2"), arguments(tmp_path), eval_dataset=own, train_dataset=own, **options)
    assert trainer.evaluate()["eval_chance"] == 0.5
    for sets in ({"train_dataset": strange}, {"eval_dataset": strange}, {"eval_dataset": {"a": own, "b": strange}}):
        with pytest.raises(ValueError, match=rf"^{next(iter(sets))}: {said}.* Or give the Trainer the task"):
            ObjectiveTrainer(tiny_model("gpt2"), arguments(tmp_path), **options, **sets)
    with pytest.raises(ValueError, match=rf"^{said}.*; give instances of this very task"):
        task_columns(strange, task)  # what `evaluate` asks of every set


def test_best_model_and_early_stopping(tiny_model, tmp_path):
    """Catches: a best model by loss, or by the lowest accuracy; a best checkpoint deleted by `save_total_limit`."""
    model = tiny_model("gpt2", spread=0.5)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    objective = NextToken(pad_token_id=PAD)
    rows = dataset(suited_rows(model, objective, WORDS))
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step > 0))  # ruins the model at step 2
    args = arguments(
        tmp_path,
        max_steps=9,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="free/exact",
    )
    trainer = ObjectiveTrainer(
        model,
        args,
        objective=objective,
        train_dataset=dataset([{**row, "target_ids": row["target_ids"][::-1]} for row in rows]),
        eval_dataset=rows,
        optimizers=(optimizer, schedule),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    exact = [entry["eval_free/exact"] for entry in trainer.state.log_history if "eval_free/exact" in entry]
    assert exact[0] > max(exact[1:])
    assert trainer.state.global_step == 3  # the best, and two that were no better
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-3",
    ]  # and the last
    torch.testing.assert_close(model.state_dict(), start, rtol=0, atol=0)


def test_bf16_on_a_cpu(tiny_model, tmp_path, tokenized, task):
    """Catches: weights cast for good, and a decode or a loss that autocast breaks."""
    model = tiny_model("gpt2")
    args = arguments(tmp_path, bf16=True, max_steps=2, full_decode=True, optim="adamw_torch", optimizer="muon")
    trainer = ObjectiveTrainer(model, args, objective=NextToken(pad_token_id=PAD), task=task, train_dataset=tokenized)
    start = model.transformer.wte.weight.clone()
    trainer.train()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not torch.equal(model.transformer.wte.weight, start)
    metrics = trainer.evaluate(tokenized)
    assert metrics["eval_free/exact"] == pytest.approx(metrics["eval_forced/exact"], abs=1 / 32)


def test_streams_train_in_their_order(tiny_model, tmp_path, tokenized):
    """Catches: a Trainer that asks a stream for its length or its columns, or skips its first rows."""
    model = tiny_model("gpt2")
    objective = NextToken(pad_token_id=PAD)
    with torch.no_grad():
        expected = objective.loss(model, objective.collate(tokenized.to_list()[:8]))
    stream = tokenized.to_iterable_dataset(num_shards=2)
    trainer = ObjectiveTrainer(model, arguments(tmp_path, max_steps=6), objective=objective, train_dataset=stream)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(expected.sum / expected.count), abs=1e-4)
    assert trainer.state.global_step == 6  # into the second pass over the 32 rows


def test_objective_and_task_are_saved_beside_the_weights(tiny_model, tmp_path, tokenized, task):
    """Catches: a checkpoint that does not say how its model was trained."""
    args = arguments(tmp_path, save_strategy="steps", save_steps=1)
    objective = MaskedTeacher(order="reversed", rate=0.25, **TOKENS)
    trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=objective, task=task, train_dataset=tokenized)
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        described = json.loads((folder / "nt_failures.json").read_text(encoding="utf-8"))
        assert read_objective(described["objective"]) == objective
        assert described["task"] == {"task": "path_star", "degree": 2, "path_length": 3, "num_nodes": 10}


class StopAt(TrainerCallback):
    """Stop once a metric has reached a share."""

    def __init__(self, name, share):
        self.name, self.share = name, share

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        control.should_training_stop |= metrics[self.name] >= self.share


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """`learn(order, metric, share)`: train a new model on G(2, 4) until the metric is there, at most 400 steps.

    In trials with eight seeds it took 150 to 275 steps. Returns the last metrics.
    """
    tokenizer = word_level_tokenizer(FOUR)
    splits = {}
    for split, blocks in (("train", 3), ("test", 1)):
        columns = [FOUR.render(FOUR.block(0, split, i)) for i in range(blocks)]
        texts = {name: [t for c in columns for t in c[name].to_list()] for name in ("prompt", "completion")}
        splits[split] = tokenize(datasets.Dataset.from_dict(texts), tokenizer)

    def train(order, metric, share):
        torch.manual_seed(0)
        shape = {"n_head": 1, "n_inner": 64, "initializer_range": 0.1, "activation_function": "gelu_pytorch_tanh"}
        model = load_model("gpt2-2x64", tokenizer, max_length=32, config_overrides=shape)
        args = arguments(
            tmp_path_factory.mktemp("learn"),
            optimizer="muon",
            optim="adamw_torch",
            learning_rate=5e-3,
            muon_learning_rate=0.012,
            warmup_steps=5,
            lr_scheduler_type="cosine",
            max_steps=400,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=512,
            eval_strategy="steps",
            eval_steps=25,
            eval_delay=100,
            seed=0,
        )
        trainer = ObjectiveTrainer(
            model,
            args,
            objective=NextToken(order=order, pad_token_id=tokenizer.pad_token_id),
            task=FOUR,
            train_dataset=splits["train"],
            eval_dataset=splits["test"].select(range(512)),
            callbacks=[StopAt(metric, share)],
        )
        trainer.train()
        return {name: value for entry in trainer.state.log_history for name, value in entry.items()}

    return train


@pytest.mark.slow
def test_the_reversed_order_is_learnt(learn):
    """Catches: a library that does not train: on held-out graphs, the whole path."""
    metrics = learn("reversed", "eval_free/exact", 0.95)
    assert metrics["eval_free/exact"] >= 0.95


@pytest.mark.slow
def test_next_token_training_learns_all_but_the_decision(learn):
    """Catches: a leak of the answer into the prompt or the labels, and a decision measured at the wrong place."""
    metrics = learn("forward", "eval_forced/position_3", 0.9)
    assert min(metrics[f"eval_forced/position_{k}"] for k in (1, 3, 4)) >= 0.9
    assert 0.4 < metrics["eval_decision"] == metrics["eval_forced/position_2"] < 0.65
    assert metrics["eval_free/exact"] < 0.65


# ---------------------------------------------------------------- speed that changes nothing


def test_evaluation_runs_the_pass_of_the_loss_once(tiny_model, tokenized, tokenizer, task, tmp_path, monkeypatch):
    """Catches: a second forward pass for what the loss has computed already; an output of other inputs taken for it."""
    passes = []
    for objective, most in ((NextToken(), 1), (NextToken(order="reversed"), 1), (Teacherless(dummy_token_id=13), 2)):
        model = tiny_model("gpt2", spread=0.5)
        args = ObjectiveTrainingArguments(str(tmp_path), per_device_eval_batch_size=32, use_cpu=True, disable_tqdm=True)
        trainer = ObjectiveTrainer(model, args, objective=objective, task=task, eval_dataset=tokenized)
        handle = model.transformer.register_forward_hook(lambda *_: passes.append(1))
        metrics = trainer.evaluate()
        assert len(passes) == most
        handle.remove()
        with monkeypatch.context() as patch:
            patch.setattr("nt_failures.training.evaluating.first_pass_once", lambda model: contextlib.nullcontext())
            twice = trainer.evaluate()
        assert {k: v for k, v in metrics.items() if k in SHARES} == {k: v for k, v in twice.items() if k in SHARES}
        assert "forward" not in vars(model)
        passes.clear()


SHARES = ("eval_loss", "eval_free/exact", "eval_forced/exact", "eval_forced/position_2", "eval_decision")


def test_a_pass_with_other_inputs_is_another(tiny_model):
    """Catches: an output remembered by shape, or by its ids alone."""
    model = tiny_model("gpt2", spread=0.5)
    ids = torch.arange(6).reshape(2, 3)
    with torch.no_grad():
        alone = [model(i, use_cache=False).logits for i in (ids, ids + 1)]
        masked = model(ids, attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]), use_cache=False).logits
        with first_pass_once(model):
            together = [model(input_ids=i, use_cache=False).logits for i in (ids, ids + 1, ids.clone(), ids + 1)]
            mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
            assert torch.equal(model(input_ids=ids, attention_mask=mask, use_cache=False).logits, masked)
            assert model(input_ids=ids).past_key_values is not model(input_ids=ids).past_key_values
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[1], alone[1])
    assert together[2] is together[0]
    assert together[3] is not together[1], "outputs of later passes are kept, which are many where one decodes in steps"


def test_the_trainers_own_defaults_leave_it_whole(tiny_model, tokenized, task, tmp_path):
    """Catches: rows padded by transformers' collator, or no metrics, where None is passed on as wrappers do."""
    defaults = {"data_collator": None, "compute_metrics": None}
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"), arguments(tmp_path), objective=NextToken(), task=task, eval_dataset=tokenized, **defaults
    )
    assert 0 <= trainer.evaluate()["eval_decision"] <= 1


def test_an_optimizer_of_ones_own_trains_the_objectives_modules(tiny_model, tokenized, tmp_path):
    """Catches: a cure that is run with random heads, because the optimizer was built before they were added; a second
    Trainer, such as of a cell that is run again, that refuses the model of the first, or gives it new heads."""
    model, sets = tiny_model("gpt2"), {"objective": FutureBag(), "train_dataset": tokenized}
    with pytest.raises(ValueError, match=r"leaves out the objective's modules, .* optimizer_cls_and_kwargs=\(class"):
        ObjectiveTrainer(model, arguments(tmp_path), optimizers=(torch.optim.SGD(model.parameters()), None), **sets)
    bag = model.objective_modules["bag"].weight
    before = bag.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = ObjectiveTrainer(model, arguments(tmp_path), optimizers=(optimizer, None), **sets)
    assert trainer.model.objective_modules["bag"].weight is bag
    trainer.train()
    assert not torch.equal(before, bag)


class Shuffled(ObjectiveTrainer):
    """Evaluates its rows in another order."""

    def _get_eval_sampler(self, eval_dataset):
        return torch.utils.data.RandomSampler(eval_dataset, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", ["arrays", "numpy"])
def test_answers_are_judged_by_their_own_rows(form, tiny_model, tokenizer, task, tmp_path):
    """Catches: answers judged by the columns of other rows, because a sampler of one's own deals them out."""
    rows = tokenize(datasets.Dataset(to_table(task, task.block(0, "test", 0, rows=8))), tokenizer)
    rows = rows if form == "arrays" else rows.with_format("numpy")
    given = {"objective": NextToken(), "task": task, "eval_dataset": rows}
    assert "eval_problems" in ObjectiveTrainer(tiny_model("gpt2"), arguments(tmp_path), **given).evaluate()
    with pytest.raises(ValueError, match="do not come in the order of their rows, so that answers would be judged by"):
        Shuffled(tiny_model("gpt2"), arguments(tmp_path), **given).evaluate()


class OwnLoader(ObjectiveTrainer):
    """Evaluates batches that are collated for training."""

    def get_eval_dataloader(self, eval_dataset=None):
        return torch.utils.data.DataLoader(self.eval_dataset, batch_size=4, collate_fn=self.data_collator)


def test_batches_without_the_answers(tiny_model, tokenized, tmp_path):
    """Catches: `KeyError: 'prefix_ids'`, for a loader that is built as others build theirs."""
    trainer = OwnLoader(tiny_model("gpt2"), arguments(tmp_path), objective=NextToken(), eval_dataset=tokenized)
    with pytest.raises(ValueError, match="batches without the answers cannot be judged; leave get_eval_dataloader as"):
        trainer.evaluate()


def test_an_objective_of_another_tokenizer(tiny_model, tmp_path):
    """Catches: the end first in a reversed target, which tells its length, because `.` has another number in another
    size of the task; an end refused that the tokenizer has as its own, or where it knows no `.`."""
    small, large = (word_level_tokenizer(PathStar(2, (3, 4), labels)) for labels in (12, 14))
    objective = NextToken.from_tokenizer(small, order="reversed")
    make = functools.partial(ObjectiveTrainer, tiny_model("gpt2"), arguments(tmp_path))
    with pytest.raises(ValueError, match=r"has end_token_id=15, and the tokenizer 17: .*NextToken.from_tokenizer\("):
        make(objective=objective, processing_class=large)
    make(objective=objective, processing_class=small)
    make(objective=objective, processing_class=word_level_tokenizer(PathStar(2, 3, 10)))
    make(objective=NextToken(), processing_class=large)


def test_insertion_needs_no_more_room_than_its_rows(tokenized, tmp_path):
    """Catches: the place of its own token counted twice, so that a model that fits is refused at a draw."""
    row = tokenized[0]
    objective = Insertion(pad_token_id=14)
    positions = len(row["prefix_ids"]) + len(row["target_ids"]) + objective.added_columns(len(row["target_ids"]))
    for seed in range(3):
        model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=positions, vocab_size=16))
        args = ObjectiveTrainingArguments(str(tmp_path), max_steps=4, use_cpu=True, save_strategy="no", seed=seed)
        ObjectiveTrainer(model, args, objective=objective, train_dataset=tokenized).train()


@pytest.mark.parametrize("given", [NextToken, "next_token"])
def test_what_is_no_objective(given, tiny_model, tmp_path):
    """Catches: a message about a method of ours for a class in place of an objective."""
    sets = {"objective": given, "processing_class": word_level_tokenizer(PathStar(2, 3, 10))}
    with pytest.raises(ValueError, match=r"objective=.* is none; give one, such as NextToken\.from_tokenizer\(tok"):
        ObjectiveTrainer(tiny_model("gpt2"), arguments(tmp_path), **sets)


@pytest.mark.parametrize(
    ("positions", "tokens", "said"),
    [
        ("n_positions", -1, r"takes sequences of up to \d+ tokens and these need \d+"),
        (
            "vocab_size",
            -1,
            r"use the token id 15, and GPT2LMHeadModel knows ids below 15\. After .*resize_token_embeddings",
        ),
        (None, 0, None),
    ],
)
def test_a_model_that_is_too_small_for_its_rows(positions, tokens, said, tokenized, tmp_path):
    """Catches: an IndexError of torch in the first step, or a whole training without the evaluation behind it."""
    row = tokenized[0]
    objective = LookaheadTokens(**TOKENS, open_token_id=DUMMY, close_token_id=15)
    sizes = {"n_positions": len(row["prefix_ids"]) + 2 * len(row["target_ids"]) + 1, "vocab_size": 16}
    sizes |= {} if positions is None else {positions: sizes[positions] + tokens}
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, **sizes))
    trainer = ObjectiveTrainer(model, arguments(tmp_path), objective=objective, train_dataset=tokenized)
    with contextlib.nullcontext() if said is None else pytest.raises(ValueError, match=said):
        trainer.train()
    assert trainer.state.global_step == (said is None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("shorter", "vocab_size", "said"), [(2, 16, "up to 6 tokens and these need 7"), (0, 11, "token id 11, and GPT2LM")]
)
def test_rows_of_a_stream_that_the_model_has_no_room_for(stream, shorter, vocab_size, said, tmp_path):
    """Catches: an IndexError of torch, or a GPU's assertion, for rows of a stream or of another format."""
    row = {"prefix_ids": [3, 11, 4], "target_ids": [3, 4, 5, 6], "target_positions": [1, 2, 3, 4]}
    first = [{**row, "prefix_ids": row["prefix_ids"][shorter:]}] * shorter
    rows = datasets.Dataset.from_list([*first, row])
    rows = rows.to_iterable_dataset() if stream else rows.with_format("numpy")
    model = GPT2LMHeadModel(
        GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=7 - bool(shorter), vocab_size=vocab_size)
    )
    args = ObjectiveTrainingArguments(
        str(tmp_path), max_steps=3, per_device_train_batch_size=1, use_cpu=True, train_sampling_strategy="sequential"
    )
    trainer = ObjectiveTrainer(model, args, objective=NextToken(), train_dataset=rows)
    with pytest.raises(ValueError, match=said):
        trainer.train()
    assert trainer.state.global_step == shorter


def test_batches_do_not_depend_on_how_they_are_read(tiny_model, tokenized, task, tmp_path):
    """Catches: other rows, another order or other labels than a stock DataLoader over the rows would give."""
    objective = NextToken()
    args = ObjectiveTrainingArguments(str(tmp_path), per_device_train_batch_size=8, use_cpu=True, seed=3)
    kinds = {"arrays": tokenized, "rows": tokenized.with_format("torch")}
    batches = {}
    for name, rows in kinds.items():
        trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=objective, task=task, train_dataset=rows)
        torch.manual_seed(0)
        loader = trainer.get_train_dataloader()
        assert isinstance(loader.dataset, TokenDataset) == (name == "arrays")
        batches[name] = [batch["input_ids"].tolist() for batch in loader]
    assert batches["arrays"] == batches["rows"]
    own = ObjectiveTrainer(
        tiny_model("gpt2"), args, objective=objective, train_dataset=tokenized, data_collator=lambda rows: rows
    )
    assert own.get_train_dataloader().dataset is tokenized


def test_persistent_workers_serve_the_data_set_asked_for(tiny_model, tokenized, task, tmp_path):
    """Catches: the test read from the validation's loader, which the Trainer keeps for whatever comes."""
    args = arguments(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True)
    validation, test = tokenized.select(range(5)), tokenized.select(range(7, 19))
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"), args, objective=NextToken(**TOKENS), task=task, eval_dataset=validation
    )
    for _ in range(2):
        trainer.evaluate()
        assert trainer.evaluation.num_samples == 5
        found = trainer.evaluate(test, metric_key_prefix="test")
        assert trainer.evaluation.num_samples == 12
    args = arguments(tmp_path)
    plain = ObjectiveTrainer(tiny_model("gpt2"), args, objective=NextToken(**TOKENS), task=task, eval_dataset=test)
    assert found["test_loss"] == pytest.approx(plain.evaluate()["eval_loss"])


@pytest.mark.parametrize("kind", [MaskedTeacher, Hybrid])
def test_the_same_weights_have_the_same_loss(kind, tiny_model, tokenized, task, tmp_path):
    """Catches: an evaluation whose draws go on with torch's generator, so that the best model is a matter of luck."""
    objective = kind(**TOKENS)
    trainer = ObjectiveTrainer(
        *(tiny_model("gpt2"), arguments(tmp_path)), objective=objective, task=task, eval_dataset=tokenized
    )
    losses = {trainer.evaluate()["eval_loss"] for _ in range(3)}
    torch.manual_seed(9)
    losses.add(trainer.evaluate()["eval_loss"])
    assert len(losses) == 1


class TensorLoss(NextToken):
    """A beginner's objective: the mean of the model, in the place of a sum and a count."""

    def loss(self, model, batch):
        return super().loss(model, batch).sum


class PlainCount(NextToken):
    """The count as a Python number."""

    def loss(self, model, batch):
        return super().loss(model, batch)._replace(count=3)


class EachToken(NextToken):
    """The loss of each token, not their sum."""

    def loss(self, model, batch):
        return super().loss(model, batch)._replace(sum=torch.ones(2, 3, requires_grad=True))


class NoParts(NextToken):
    """None in place of no parts."""

    def loss(self, model, batch):
        return super().loss(model, batch)._replace(parts=None)


class Detached(NextToken):
    """A sum that knows no weights."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        return found._replace(sum=found.sum.detach())


class Undecorated(NextToken):
    """A field without the decorator that makes an option of it."""

    gamma: float = 2.0


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (TensorLoss, r"returned tensor\(.*; return Loss\(sum, count, parts\)"),
        (PlainCount, r"returned Loss\(.* count=3.*; return Loss\(sum, count, parts\)"),
        (EachToken, r"returned Loss\(sum=tensor\(\[.*; return Loss\(sum, count, parts\)"),
        (NoParts, r"returned Loss\(.* parts=None.*; return Loss\(sum, count, parts\)"),
        (Detached, r"returned a sum without a gradient; make it of"),
    ],
)
def test_a_loss_of_another_form_is_named(kind, what, tiny_model, tokenized, tmp_path):
    """Catches: `'Tensor' object has no attribute 'parts'` ten frames deep, for who writes an objective of their own."""
    args = ObjectiveTrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True)
    trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=kind(pad_token_id=14), train_dataset=tokenized)
    with pytest.raises(ValueError, match=rf"(?s){kind.__name__}\.loss {what}"):
        trainer.train()


class AllButTheLast(NextToken):
    """The loss of all symbols but the last, counted as such."""

    def loss(self, model, batch):
        return super().loss(model, {**batch, "labels": batch["labels"].index_fill(1, torch.tensor([-1]), -100)})


def test_a_count_that_is_not_of_the_labels_is_named(tiny_model, tokenized, tmp_path):
    """Catches: a loss divided by all labels in training, and by those that it counts in the log and in evaluations."""
    args = ObjectiveTrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True)
    sets = {"train_dataset": tokenized, "eval_dataset": tokenized}
    trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=AllButTheLast(pad_token_id=14), **sets)
    with pytest.raises(ValueError, match=r"AllButTheLast.loss counts \d+ items of a batch with \d+ labels, by which"):
        trainer.train()


def test_a_field_without_the_decorator_is_named():
    """Catches: an option that can be given to nobody, and a run that goes on without it, such as forward where its
    class says reversed."""
    with pytest.raises(ValueError, match=r"Undecorated sets gamma, which would change nothing; .*@dataclasses\."):
        Undecorated()

    class Backwards(NextToken):
        order: str = "reversed"

    with pytest.raises(ValueError, match="Backwards sets order, which would change nothing; give each its type"):
        Backwards(pad_token_id=14)
    assert dataclasses.dataclass(frozen=True)(Backwards)(pad_token_id=14).order == "reversed"


def test_no_method_is_overridden_twice():
    """Catches: a step, a save or a push that can only be understood by reading several classes at once."""
    own = ObjectiveTrainer.__mro__[: ObjectiveTrainer.__mro__.index(Trainer)]
    mixins = ["CheckpointMixin", "EvaluationMixin", "LoadingMixin", "PublishMixin", "SearchMixin"]
    assert [cls.__name__ for cls in own] == ["ObjectiveTrainer", *mixins]
    methods = [
        name for cls in own for name, value in vars(cls).items() if callable(value) or isinstance(value, property)
    ]
    assert len(methods) > 20
    assert sorted(methods) == sorted(set(methods))


def test_the_private_methods_that_are_replaced_exist():
    """Catches: a transformers that has renamed one, after which ours is never called."""
    own = ObjectiveTrainer.__mro__[: ObjectiveTrainer.__mro__.index(Trainer)]
    private = {name for cls in own for name in vars(cls) if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if hasattr(Trainer, name)} == set(re.findall(r"`(_\w+)`", compat.__doc__))


# ---------------------------------------------------------------- tasks that judge themselves


def pairs(count=12):
    """Tokenised rows of `Pair` with all of their columns, and the model's own words for them."""
    task = Pair()
    columns = task.sample(np.random.default_rng(1), count)
    columns = {name: np.concatenate([column, column[:3]]) for name, column in columns.items()}  # three rows twice
    texts = {name: text.to_list() for name, text in task.texts(columns).items()}
    tokenizer = word_level_tokenizer(task)
    return task, tokenizer, tokenize(datasets.Dataset.from_dict({**columns, **texts}), tokenizer)


def test_an_evaluation_asks_the_task_what_is_right(tmp_path):
    """Catches: answers in the other order called wrong; a decoding that was left out because forced predictions tell
    as much; problems of rows that are the same counted twice."""
    task, tokenizer, rows = pairs()
    torch.manual_seed(0)
    model = load_model("gpt2-1x16", tokenizer, max_length=16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    trainer = ObjectiveTrainer(
        model, arguments(tmp_path), objective=NextToken.from_tokenizer(tokenizer), task=task, processing_class=tokenizer
    )
    answers = [token_by_token(model.eval(), row["prefix_ids"], 2) for row in rows]
    # Every second row asks for what the model writes, in the other order.
    asked = [answer[::-1] if i % 2 else row["shown"] for i, (answer, row) in enumerate(zip(answers, rows, strict=True))]
    own = datasets.Dataset.from_list(
        [{**row, "shown": pair, "answer": pair} for row, pair in zip(rows, asked, strict=True)]
    )
    found = trainer.evaluate(own)
    written = [max(answer) < 11 for answer in answers]  # else it is no symbol of an answer, but `$` or padding
    right = [sorted(answer) == sorted(pair) and ok for answer, pair, ok in zip(answers, asked, written, strict=True)]
    assert found["eval_free/exact"] == pytest.approx(np.mean(right))
    assert 0.2 < np.mean(right) < 0.8
    assert not {"eval_decision", "eval_chance"} & set(found)
    assert trainer.evaluate(rows)["eval_problems"] == 12
    with pytest.raises(ValueError, match="Pair has its own judge, which needs the columns of each row"):
        trainer.evaluate(rows.remove_columns(["answer"]))


def test_problems_of_an_evaluation_are_counted(tiny_model, tmp_path, task, tokenizer):
    """Catches: rows counted for graphs where the rows keep their columns; the same graph with another goal
    taken for the same problem."""
    columns = task.block(0, "test", 0, rows=20)
    leaf = [
        next(b for _, b in row if b != goal and all(a != b for a, _ in row))
        for row, goal in zip(columns["edges"].tolist(), columns["goal"].tolist(), strict=True)
    ]
    other = {**columns, "goal": np.array(leaf, dtype=np.int32)}
    both = {name: np.concatenate([columns[name], other[name]]) for name in columns}
    texts = {name: text.to_list() for name, text in task.texts(both).items()}
    rows = tokenize(datasets.Dataset.from_dict({**both, **texts}), tokenizer)
    trainer = ObjectiveTrainer(tiny_model("gpt2"), arguments(tmp_path), objective=NextToken(**TOKENS), task=task)
    problems = {
        (source, goal, *sorted(map(tuple, edges)))
        for source, goal, edges in zip(*(both[name].tolist() for name in ("source", "goal", "edges")), strict=True)
    }
    assert trainer.evaluate(rows)["eval_problems"] == len(problems) == 40
    assert "eval_problems" not in trainer.evaluate(rows.remove_columns(["goal"]))
    assert "eval_problems" not in trainer.evaluate(rows.to_iterable_dataset())
