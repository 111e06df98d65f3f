"""Callbacks: the sample table in the terminal and the trackers, the figures behind the progress bar, the early stop."""

import sys
import types

import datasets
import numpy as np
import pytest
from task_checks import columns_of
from transformers import ProgressCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback

from nt_failures.data.tokenizer import tokenize, word_level_tokenizer
from nt_failures.objectives import NextToken
from nt_failures.tasks.path_star import PathStar
from nt_failures.training import callbacks
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import learning_curve, learning_curves
from nt_failures.training.callbacks import LiveProgressCallback, SampleTableCallback, StopWhenSolved, around, text_table
from nt_failures.training.trainer import ObjectiveTrainer

TASK = PathStar(2, 4, 10)
COLUMNS = columns_of(
    TASK,
    "0,1|1,2|2,3|0,4|4,5|5,6/0,3=0,1,2,3",
    "9,8|8,7|7,6|9,1|1,2|2,3/9,6=9,8,7,6",
    "5,0|0,1|1,2|5,3|3,4|4,6/5,2=5,0,1,2",
    "7,2|2,4|4,8|7,3|3,5|5,9/7,8=7,2,4,8",
)
SHOWN = {name: column[:3] for name, column in COLUMNS.items()}
PREDICTED = np.array([[0, 1, 2, 3], [9, 1, 2, 6], [5, 0, -1, 2]])
ROWS = [
    ("0,1|1,2|2,3|0,4|4,5|5,6/0,3=", "0,1,2,3", "0,1,2,3", "-"),
    ("9,8|8,7|7,6|9,1|1,2|2,3/9,6=", "9,8,7,6", "9,1,2,6", "2 (decision)"),
    ("5,0|0,1|1,2|5,3|3,4|4,6/5,2=", "5,0,1,2", "5,0,?,2", "3"),
]
TEXT = """\
step 40
  graph                         target   prediction  first wrong position
  0,1|1,2|2,3|0,4|4,5|5,6/0,3=  0,1,2,3  0,1,2,3     -
  9,8|8,7|7,6|9,1|1,2|2,3/9,6=  9,8,7,6  9,1,2,6     2 (decision)
  5,0|0,1|1,2|5,3|3,4|4,6/5,2=  5,0,1,2  5,0,?,2     3
"""


def trainer(objective, callbacks=()):
    """What the table reads from a Trainer."""
    handler = types.SimpleNamespace(callbacks=callbacks)
    return types.SimpleNamespace(
        training_objective=objective, task=TASK, processing_class=None, callback_handler=handler
    )


class Predicts:
    """In place of ModelPredictor: the table above, for the rows it is made for."""

    def __init__(self, *args):
        assert args[0] == "the model"

    def free(self, columns):
        assert columns["path"].tolist() == COLUMNS["path"][:3].tolist()
        return PREDICTED


@pytest.fixture
def table(monkeypatch):
    """The callback with three samples, and a call of it as the Trainer makes it."""
    monkeypatch.setattr(callbacks, "ModelPredictor", Predicts)

    def evaluate(report_to=(), first=True, others=(), order="forward", split="eval"):
        callback = SampleTableCallback(trainer(NextToken(order=order), others), SHOWN)
        args = types.SimpleNamespace(report_to=list(report_to))
        state = types.SimpleNamespace(is_world_process_zero=first, global_step=40)
        callback.on_evaluate(args, state, None, model="the model", metrics={f"{split}_loss": 1.0, "epoch": 1.0})

    return evaluate


# ---------------------------------------------------------------- the sample table


def test_table_in_the_terminal(table, capsys):
    """Catches: a target shown as prediction, the first wrong position counted from 0, an unknown symbol shown as -1."""
    table()
    assert capsys.readouterr().out == TEXT


def test_decision_of_a_reversed_model(table, capsys):
    """Catches: the decision marked where another order has it."""
    table(order="reversed")
    assert "2 (decision)" not in (out := capsys.readouterr().out)
    assert "3 (decision)" in out


def test_one_process_shows_it(table, capsys):
    """Catches: a table from every process of a distributed run."""
    table(first=False)
    assert capsys.readouterr().out == ""


def test_other_splits_show_no_table(table, capsys):
    """Catches: samples of the validation split shown once more under the final table of the test split."""
    table(split="test")
    assert capsys.readouterr().out == ""


def test_no_rows_no_table(capsys):
    """Catches: a crash of a run whose validation split is empty."""
    empty = {name: column[:0] for name, column in COLUMNS.items()}
    callback = SampleTableCallback(trainer(NextToken()), empty)
    state = types.SimpleNamespace(is_world_process_zero=True)
    callback.on_evaluate(None, state, None, model=None, metrics={"eval_loss": 1.0})
    assert capsys.readouterr().out == ""


def test_long_cells_keep_their_end():
    """Catches: a prompt whose query, at its end, is cut off; columns that do not line up."""
    assert text_table([("a", "bc"), ("x" * 10 + "/1,2=", "y"), ("z", "w" * 9)], width=9) == (
        "  a          bc\n  ...x/1,2=  y\n  z          wwwwwwwww"
    )


@pytest.mark.parametrize(
    ("answer", "position", "shown"),
    [
        ("10,11,12,13,14,15,16", 2, "10,11,12,..."),
        ("10,11,12,13,14,15,16", 0, "10,11,12,..."),
        ("10,11,12,13,14,15,16", 4, "...,13,..."),
        ("10,11,12,13,14,15,16", 6, "...,14,15,16"),
        ("10,11", 6, "10,11"),  # an answer that ended too early
        ("10,11,12,13", 2, "10,11,12,13"),
        ("", 2, ""),
    ],
)
def test_long_answers_keep_their_decision(answer, position, shown):
    """Catches: the end of a long path shown, and not the one symbol that tells whether the model plans."""
    assert around(answer, position, width=12) == shown


@pytest.mark.parametrize(("order", "start"), [("forward", "  20,21,22,"), ("reversed", "...,")])
def test_the_table_of_long_answers(order, start, monkeypatch, capsys):
    """Catches: a table in which the target and the prediction of a long path are cut at the decision."""
    task = PathStar(1, 20, 40)
    path = np.arange(20, 40)[None]
    edges = np.stack([path[:, :-1], path[:, 1:]], axis=-1)
    columns = {"edges": edges, "source": path[:, 0], "goal": path[:, -1], "path": path}
    monkeypatch.setattr(callbacks, "ModelPredictor", lambda *_: types.SimpleNamespace(free=lambda _: path))
    looks_at = trainer(NextToken(order=order))
    looks_at.task = task
    state = types.SimpleNamespace(is_world_process_zero=True, global_step=40)
    callback = SampleTableCallback(looks_at, columns)
    args = types.SimpleNamespace(report_to=[])
    callback.on_evaluate(args, state, None, model=None, metrics={"eval_loss": 1.0})
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.count(start) == 2
    assert len(row) < 110


def test_the_table_of_shorter_answers(monkeypatch):
    """Catches: a right path of a range shown with a question mark, and its target too, for each symbol it lacks."""
    task = PathStar(2, (3, 4), 10)
    columns = columns_of(task, "7,2|2,4|7,3|3,5/7,4=7,2,4 . .")
    answer = np.array([[7, 2, 4, -1, -1]])
    monkeypatch.setattr(callbacks, "ModelPredictor", lambda *_: types.SimpleNamespace(free=lambda _: answer))
    looks_at = trainer(NextToken())
    looks_at.task = task
    assert SampleTableCallback(looks_at, columns).sample("the model")[0][1:] == ["7,2,4", "7,2,4", "-"]


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_table_for_a_tracker(tracker, table, monkeypatch):
    """Catches: another name than `samples`, columns without their names, a table without its step."""
    logged = []
    module = types.SimpleNamespace(Table=lambda dataframe: dataframe, log=logged.append)
    monkeypatch.setitem(sys.modules, tracker, module)
    table(["tensorboard", tracker])
    frame = logged[0].pop("samples")
    assert logged == [{"train/global_step": 40}]
    assert list(frame.columns) == ["graph", "target", "prediction", "first wrong position"]
    assert [tuple(row) for row in frame.to_numpy().tolist()] == ROWS


def test_table_for_tensorboard(table):
    """Catches: bars of the prompt that part a Markdown cell; a writer that is not there yet; a text without its step,
    or one that is lost when the run ends after it."""
    written = []
    writer = types.SimpleNamespace(add_text=lambda *args: written.append(args), flush=lambda: written.append("flushed"))
    board, not_begun = (object.__new__(TensorBoardCallback) for _ in range(2))  # its __init__ asks for tensorboard
    board.tb_writer, not_begun.tb_writer = writer, None
    table(["tensorboard"], others=[ProgressCallback(), not_begun, board])
    (name, text, step), flushed = written
    assert flushed == "flushed"
    assert (name, step) == ("samples", 40)
    lines = text.splitlines()
    assert lines[:2] == ["| graph | target | prediction | first wrong position |", "| --- | --- | --- | --- |"]
    assert lines[3] == "| 9,8\\|8,7\\|7,6\\|9,1\\|1,2\\|2,3/9,6= | 9,8,7,6 | 9,1,2,6 | 2 (decision) |"
    assert len(lines) == 5


def test_trackers_that_were_not_asked_for_get_nothing(table, monkeypatch):
    """Catches: a table sent to every tracker that happens to be installed."""
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would raise
    table([])


# ---------------------------------------------------------------- the progress bar


def test_bar_shows_the_newest_figures():
    """Catches: figures that vanish with the next log; exact accuracy under another name; logs written over the bar."""
    shown, written = [], []
    callback = LiveProgressCallback()
    callback.training_bar = types.SimpleNamespace(
        set_postfix=lambda values, refresh: shown.append(dict(values)), write=written.append
    )
    state = types.SimpleNamespace(is_world_process_zero=True)
    for logs in ({"loss": 1.23456}, {"eval_free/exact": 0.5, "eval_decision": 0.502, "eval_loss": 9.0}, {"loss": 1.0}):
        callback.on_log(None, state, None, logs=logs)
    assert shown == [
        {"loss": "1.235"},
        {"loss": "1.235", "exact": "0.500", "decision": "0.502"},
        {"loss": "1.000", "exact": "0.500", "decision": "0.502"},
    ]
    assert written == []


def test_bar_of_other_processes():
    """Catches: a crash where there is no bar: on other processes, and after training."""
    callback = LiveProgressCallback()
    for first in (True, False):
        callback.on_log(None, types.SimpleNamespace(is_world_process_zero=first), None, logs={"loss": 1.0})
    callback.on_log(None, types.SimpleNamespace(is_world_process_zero=False), None)


# ---------------------------------------------------------------- both in a Trainer


def test_both_in_a_training_run(tiny_model, tmp_path, capsys):
    """Catches: callbacks that the Trainer calls otherwise than the tests above do; a log without positions."""
    words = word_level_tokenizer(TASK)
    text = TASK.render(TASK.sample(np.random.default_rng(0), 16))
    rows = tokenize(datasets.Dataset.from_dict({name: t.to_list() for name, t in text.items()}), words)
    args = ObjectiveTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    objective = NextToken.from_tokenizer(words)
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"),
        args,
        objective=objective,
        task=TASK,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=words,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LiveProgressCallback)
    trainer.add_callback(SampleTableCallback(trainer, SHOWN))
    trainer.train()
    out, bar = capsys.readouterr()
    assert out.count("first wrong position") == 2
    assert "step 1\n" in out
    assert out.count(ROWS[1][0]) == 2
    assert "exact=0." in bar
    assert "decision=0." in bar
    evaluations = [entry for entry in trainer.state.log_history if "eval_free/exact" in entry]
    assert [entry["step"] for entry in evaluations] == [1, 2]
    for entry in evaluations:
        assert {f"eval_forced/position_{k}" for k in (1, 2, 3, 4)} <= set(entry)
        assert entry["eval_decision"] == entry["eval_forced/position_2"]
        assert entry["eval_chance"] == 0.5


# ---------------------------------------------------------------- stopping once solved


@pytest.mark.parametrize(
    ("shares", "stops"),
    [
        ([0.5, 0.96, 0.97], True),
        ([0.96, 0.94, 0.97], False),  # not in a row
        ([0.97], False),  # one is not two
        ([0.95, 0.95], True),
        ([0.5, 0.97, float("nan")], False),
    ],
)
@pytest.mark.parametrize(
    ("trained", "name"), [(None, "free/exact"), ((2,), "forced/position_2"), ((2, 3), "forced/position_3")]
)
def test_a_solved_run_stops(shares, stops, trained, name):
    """Catches: a run ended by one lucky evaluation, by an old one, or by another share than it is judged by."""
    one_set = types.SimpleNamespace(eval_dataset=[])
    callback, control, log = StopWhenSolved(one_set, 2, trained), TrainerControl(), []
    other = {"eval_free/exact": 0.0, "eval_forced/position_2": 1.0, "eval_forced/position_3": 1.0}
    for step, share in enumerate(shares, start=1):
        log += [
            {"step": step, **other, f"eval_{name}": share},
            {"step": step, "loss": 1.0},
        ]
        callback.on_evaluate(None, TrainerState(log_history=log), control, metrics=log[-2])
    assert control.should_training_stop == stops


def test_training_ends_where_it_is_solved(tmp_path, tokenizer, tokenized, tiny_model):
    """Catches: a callback that asks too early, before the evaluation is in the log, or is not heard."""
    flags = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "use_cpu": True, "disable_tqdm": True}
    trainer = ObjectiveTrainer(
        *(tiny_model("gpt2"), ObjectiveTrainingArguments(str(tmp_path), save_strategy="no", **flags)),
        objective=NextToken.from_tokenizer(tokenizer),
        train_dataset=tokenized,
        eval_dataset=tokenized,
        compute_metrics=lambda found: {"free/exact": 1.0},
    )
    trainer.add_callback(StopWhenSolved(trainer, 2))
    trainer.train()
    assert trainer.state.global_step == 4
    trainer.add_callback(StopWhenSolved(trainer, 0))
    with pytest.raises(ValueError, match="evaluations=0 never stops; give 1 or more"):
        trainer.train()


@pytest.mark.parametrize(
    ("evaluations", "second", "stops_at"), [(2, [0, 0, 1, 1], 8), (1, [0, 0, 1, 1], 6)], ids=["late", "one, late"]
)
def test_all_of_several_sets_must_be_solved(tmp_path, tokenizer, tokenized, tiny_model, evaluations, second, stops_at):
    """Catches: an evaluation of a dict of sets in which nothing is found; a stop at the first set alone, or at two sets
    of one evaluation, or before the second set is evaluated at all; a curve that is empty, or of both sets."""
    flags = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "use_cpu": True, "disable_tqdm": True}
    shares = iter([x for share in second for x in (1.0, float(share))])
    trainer = ObjectiveTrainer(
        *(tiny_model("gpt2"), ObjectiveTrainingArguments(str(tmp_path), save_strategy="no", **flags)),
        objective=NextToken.from_tokenizer(tokenizer),
        train_dataset=tokenized,
        eval_dataset={"main": tokenized.select(range(4)), "main_too": tokenized.select(range(4, 8))},
        compute_metrics=lambda found: {"free/exact": next(shares)},
    )
    trainer.add_callback(StopWhenSolved(trainer, evaluations))
    trainer.train()
    assert trainer.state.global_step == stops_at
    steps = list(range(2, stops_at + 1, 2))
    curves = learning_curves(trainer.state.log_history)
    assert {name: [point["free/exact"] for point in curve] for name, curve in curves.items()} == {
        "eval_main_": [1.0] * len(steps),
        "eval_main_too_": second[: len(steps)],
    }
    curve = learning_curve(trainer.state.log_history)
    assert [(point["step"], {*point}) for point in curve] == [(step, {"step", "loss", "free/exact"}) for step in steps]


@pytest.mark.parametrize(
    ("one", "other", "stops"),
    [
        ([0.96, 0.97], [0.96], False),  # the second set of step 2 is still to come
        ([0.96, 0.97], [0.96, 0.94], False),
        ([0.96, 0.97], [0.96, 0.95], True),
        ([0.9, 0.96, 0.97], [0.96, 0.97], False),  # solved at steps 1 and 2
        ([0.96, 0.97], [], False),
    ],
)
def test_several_sets_are_judged_at_the_same_steps(one, other, stops):
    """Catches: a stop by the first set of an evaluation, beside what the second set had been a step before."""
    trainer = types.SimpleNamespace(eval_dataset={"a": [], "b": []})
    log = [{"step": step, "eval_a_free/exact": share} for step, share in enumerate(one, start=1)]
    log += [{"step": step, "eval_b_free/exact": share} for step, share in enumerate(other, start=1)]
    assert StopWhenSolved(trainer, 2).solved(TrainerState(log_history=log)) == stops


@pytest.mark.parametrize(
    ("options", "flags", "what"),
    [
        ({}, {"eval_strategy": "no"}, "has no evaluations to stop at; give eval_strategy='steps'"),
        ({}, {"prediction_loss_only": True}, "needs free/exact; leave prediction_loss_only and compute_metrics out"),
        ({"compute_metrics": lambda found: {"f1": 1.0}}, {}, "needs free/exact"),
    ],
)
def test_a_stop_that_would_never_come_is_refused(tmp_path, tokenizer, tokenized, tiny_model, options, flags, what):
    """Catches: a training of full length, without a word, for who asked for an early stop."""
    flags = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "use_cpu": True, "disable_tqdm": True} | flags
    trainer = ObjectiveTrainer(
        *(tiny_model("gpt2"), ObjectiveTrainingArguments(str(tmp_path), save_strategy="no", **flags)),
        objective=NextToken.from_tokenizer(tokenizer),
        train_dataset=tokenized,
        eval_dataset=tokenized,
        **options,
    )
    trainer.add_callback(StopWhenSolved(trainer, 2))
    with pytest.raises(ValueError, match=f"^StopWhenSolved {what}"):
        trainer.train()
