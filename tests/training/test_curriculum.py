"""The curriculum: which rows are drawn, when the upper end rises, and a resumed training that draws the same."""

import shutil
import types

import numpy as np
import pytest

from nt_failures.experiments import run
from nt_failures.experiments.command_line import parse
from nt_failures.training.curriculum import Curriculum

TINY = ["--degree", "2", "--path_length", "3-5", "--num_nodes", "12", "--num_train", "40", "--num_validation", "8"]
TINY += ["--num_test", "8", "--model", "gpt2-1x16", "--use_cpu", "true", "--curriculum", "path_length"]
TINY += ["--sample_rows", "0", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
TINY += ["--eval_strategy", "steps", "--eval_steps", "2", "--disable_tqdm", "true", "--lr_scheduler_type", "constant"]


def drawn(curriculum, trainer, epochs=2):
    """The largest path of each batch, by epoch."""
    lengths = trainer.task.lengths({"path": np.array(trainer.train_dataset["path"])})
    found = []
    for epoch in range(epochs):
        curriculum.set_epoch(epoch)
        found.append([lengths[rows].max() for rows in np.array([*curriculum]).reshape(-1, 4)])
    return found


@pytest.fixture
def trainer(tmp_path):
    args = parse([*TINY, "--output_dir", str(tmp_path / "run")])
    tokenizer, objective = run.choose_tokenizer_and_objective(args)
    rows = run.load_splits(args.task, **args.data.builder_arguments())
    splits = {name: run.tokenize(split, tokenizer) for name, split in rows.items()}
    return run.make_trainer(args, objective, tokenizer, splits)


def test_rows_are_no_larger_than_the_step_allows(trainer):
    """Catches: an end that rises at once, for a batch that was drawn before it rose, or never; epochs counted anew."""
    curriculum = trainer.curriculum
    assert {*np.concatenate(drawn(curriculum, trainer))} == {3}
    curriculum.raised = [2, 6]  # 40 rows in updates of 8: five updates of two batches are an epoch
    assert [curriculum.upper(step) for step in range(9)] == [3, 3, 3, 4, 4, 4, 4, 5, 5]
    first, second = drawn(curriculum, trainer)
    assert set(first[:6]) == {3}
    assert max(first[6:]) == 4
    assert max(second[:4]) == 4
    assert max(second[4:]) == 5


def test_a_batch_is_a_function_of_its_number(trainer):
    """Catches: draws from a generator that goes on, so that a resumed training draws others; equal epochs or seeds."""
    curriculum = trainer.curriculum
    once, again = [*curriculum], [*curriculum]
    assert once == again
    assert len(once) == len(curriculum) == 40
    curriculum.set_epoch(1)
    assert [*curriculum] != once
    curriculum.set_epoch(0)
    trainer.args.seed = 7
    assert [*curriculum] != once


def test_rows_up_to_the_end_are_drawn_alike(trainer):
    """Catches: only the largest rows, or some that are never drawn."""
    curriculum = trainer.curriculum
    curriculum.raised = [0, 0]
    seen = set()
    for epoch in range(1, 40):
        curriculum.set_epoch(epoch)
        seen |= {*curriculum}
    assert seen == set(range(40))


@pytest.mark.parametrize(("exact", "raised"), [(1.0, [10]), (0.995, [10]), (0.99, []), (0.0, [])])
def test_the_rule(trainer, monkeypatch, exact, raised):
    """Catches: a threshold that 99 % passes, one that asks the final test, or an end that rises beyond the range."""
    curriculum, logged = trainer.curriculum, []
    monkeypatch.setattr(curriculum, "_exact", lambda model, columns: exact)
    monkeypatch.setattr(trainer, "log", logged.append)
    state = types.SimpleNamespace(global_step=10)
    curriculum.on_evaluate(trainer.args, state, None, model=None, metrics={"test_loss": 0.0})
    assert (curriculum.raised, logged) == ([], [])
    curriculum.on_evaluate(trainer.args, state, None, model=None, metrics={"eval_loss": 0.0})
    assert curriculum.raised == raised
    assert logged == [{"curriculum/path_length": 3 + len(raised), "curriculum/train_exact": exact}]
    for _ in range(5):
        curriculum.on_evaluate(trainer.args, state, None, model=None, metrics={"eval_loss": 0.0})
    assert curriculum.upper(10**6) == (5 if raised else 3)
    assert len(curriculum.raised) == 2 * len(raised)


@pytest.mark.parametrize(("at_most", "asked"), [(1000, 40), (6, 6)])
def test_who_is_asked(trainer, monkeypatch, at_most, asked):
    """Catches: rows beyond the end, of one size alone, such as the smallest where some are asked, or held out."""
    monkeypatch.setattr("nt_failures.training.curriculum.ASKED", at_most)
    curriculum = Curriculum(trainer, "path_length")
    for upper, columns in zip((3, 4, 5), curriculum.asked, strict=True):
        assert set(trainer.task.lengths(columns).tolist()) == set(range(3, upper + 1))
        assert set(trainer.task.split_of(columns)) == {"train"}
    assert len(curriculum.asked[-1]["goal"]) == asked


def test_a_resumed_training_ends_as_one_that_was_never_stopped(tmp_path, monkeypatch):
    """Catches: an end that begins anew, rises at another step, or holds for a batch drawn before; other rows."""
    monkeypatch.setattr(Curriculum.__init__, "__defaults__", (-1.0,))  # rises at each evaluation: at steps 2 and 4
    flags = [*TINY, "--save_strategy", "steps", "--save_steps", "1", "--max_steps", "8"]
    whole = tmp_path / "whole"
    curve = run.main([*flags, "--output_dir", str(whole)]).learning_curve
    for at in (2, 3, 5):  # behind a rise that is not drawn yet, between two, and in the next epoch
        folder = tmp_path / f"stopped{at}"
        shutil.copytree(whole, folder)
        for step in range(at + 1, 9):
            shutil.rmtree(folder / f"checkpoint-{step}")
        for written_at_the_end in ("model.safetensors", "results.json"):
            (folder / written_at_the_end).unlink()
        assert run.main([*flags, "--output_dir", str(folder), "--resume"]).learning_curve == curve
        assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    shutil.rmtree(whole)
    fixed = [*flags, "--output_dir", str(whole)]
    fixed.remove("--curriculum")
    fixed.remove("path_length")
    run.main(fixed)
    assert (folder / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--curriculum", "degree"], r"curriculum='degree' is no range of .*; its ranges: path_length"),
        (["--path_length", "5"], "its ranges: none, so give one, such as --path_length 3-8"),
        (["--streaming"], "leave --streaming out"),
        (["--train_sampling_strategy", "sequential"], "does not go with train_sampling_strategy='sequential'"),
        (["--dataloader_num_workers", "2"], "does not go with dataloader_num_workers"),
    ],
)
def test_what_does_not_go_with_it(tmp_path, flags, reason):
    """Catches: a curriculum that is ignored, or draws what cannot be drawn again."""
    with pytest.raises(ValueError, match=reason):
        run.main([*TINY, "--max_steps", "1", "--output_dir", str(tmp_path / "run"), *flags])


def test_one_set_is_evaluated(trainer):
    """Catches: an end that rises by one for each of several sets, where it should rise by one."""
    trainer.eval_dataset = {"short": trainer.eval_dataset, "long": trainer.eval_dataset}
    with pytest.raises(ValueError, match=r"rises once at each evaluation; give one eval_dataset, not a dict"):
        Curriculum(trainer, "path_length")
