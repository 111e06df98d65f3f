"""A run's steps one by one, and how a script ends."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from checkpoints import tokenized_splits

from nt_failures.experiments import run, script
from nt_failures.experiments.command_line import parse
from nt_failures.experiments.results import headline, longest_sequence
from nt_failures.models.load import load_model
from nt_failures.training.trainer import ObjectiveTrainer

TINY = [
    *("--degree", "2", "--path_length", "4", "--num_nodes", "10", "--num_train", "64", "--num_validation", "16"),
    *("--num_test", "40", "--model", "gpt2-1x16", "--max_steps", "4", "--eval_steps", "2", "--use_cpu", "true"),
    *("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "16", "--sample_rows", "2"),
]


def test_looking_at_the_rows_draws_nothing(tmp_path, monkeypatch):
    """Catches: other initial weights for the objectives that draw, because a batch was collated before the model was
    made."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    args = parse(
        [*TINY, "--output_dir", str(tmp_path / "run"), "--objective", "masked_teacher", "--eval_strategy", "steps"]
    )
    tokenizer, objective = run.choose_tokenizer_and_objective(args)
    splits = tokenized_splits(args, tokenizer)
    torch.manual_seed(5)
    made = run.make_trainer(args, objective, tokenizer, splits).model
    torch.manual_seed(5)
    longest, _ = longest_sequence(splits, new=True)
    alone = load_model(args.model.model, tokenizer, longest, args.model.config_overrides, dtype="float32")
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), alone.parameters(), strict=True))


def test_a_model_has_positions_for_what_an_objective_adds(tmp_path, monkeypatch):
    """Catches: an IndexError at the first row that, with a token of the objective's own, is the longest."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    args = parse([*TINY, "--output_dir", str(tmp_path / "run"), "--objective", "insertion", "--eval_strategy", "steps"])
    tokenizer, objective = run.choose_tokenizer_and_objective(args)
    splits = tokenized_splits(args, tokenizer)
    made = run.make_trainer(args, objective, tokenizer, splits).model
    assert made.config.n_positions == longest_sequence(splits, new=True)[0] + 1
    batch = objective.collate(splits["train"].to_list())
    assert int(batch["position_ids"].max()) + 1 == made.config.n_positions


def test_what_is_about_to_run(tiny_model, tmp_path):
    """Catches: a flag that drops part of the recipe's model without a word."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("config_overrides: {n_head: 2}\n", encoding="utf-8")
    args = parse([str(recipe), "--model", "mamba-1x16", "--output_dir", "here", "--use_cpu", "true"])
    first, dropped, last = headline(args, tiny_model("mamba")).splitlines()
    assert first.endswith("next_token, forward order, seed 42")
    assert dropped == "of config_overrides in the recipe: dropped n_head=2"
    assert last.startswith("mamba-1x16: MambaForCausalLM, ")
    assert last.endswith(" -> here")


def test_the_order_is_no_option():
    """Catches: a folder and results that say forward of a model that was trained in reversed order."""
    with pytest.raises(ValueError, match="objective_options gives an order, which is a flag of its own; write --order"):
        run.main(["--max_steps", "2", "--objective", "hybrid", "--objective_options", '{"order": "reversed"}'])


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_that_fails_at_its_first_step_replaces_none(step, tmp_path, monkeypatch):
    """Catches: an earlier run deleted for one that ends before anything was trained; one that outlives its place."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    for name in ("arguments.json", "results.json"):
        (tmp_path / "run" / name).write_text("{}")
    train = ObjectiveTrainer.training_step

    def fails(trainer, *args, **kwargs):
        if trainer.state.global_step + 1 == step:
            raise MemoryError
        return train(trainer, *args, **kwargs)

    monkeypatch.setattr(ObjectiveTrainer, "training_step", fails)
    with pytest.raises(MemoryError):
        run.main([*TINY, "--eval_strategy", "steps", "--output_dir", str(tmp_path / "run"), "--overwrite_output_dir"])
    assert (tmp_path / "run" / "results.json").exists() == (step == 1)
    assert not (tmp_path / "run" / ".replaced").exists()


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_stopped_run_says(alone, tmp_path, capsys):
    """Catches: --resume promised for a checkpoint that has no optimizer to go on with."""
    trainer = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(tmp_path), save_only_model=alone),
        state=SimpleNamespace(global_step=3),
        is_world_process_zero=lambda: True,
    )
    with pytest.raises(SystemExit) as ended:
        run.end_stopped(trainer, 15)
    assert ended.value.code == 128 + 15
    said = capsys.readouterr().err
    assert ("training cannot go on from there" in said, "with --resume goes on" in said) == (alone, not alone)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("a typo"), "error: a typo"),  # a text goes to standard error, and the exit code is 1
        (OSError("disk full"), "error: disk full"),
        (FloatingPointError("NaN"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_how_a_script_ends(error, code, monkeypatch, capsys):
    """Catches: a traceback for a typo, a divergence that a study takes for a failure, words on standard output."""

    def main(argv):
        assert argv == ["--seed", "1"]
        raise error

    monkeypatch.setattr("sys.argv", ["script.py", "--seed", "1"])
    with pytest.raises(SystemExit) as ended:
        script.run(main, script.KEPT)
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert {3: "error: NaN", 130: "interrupted; --resume goes on from"}.get(code, "") in err


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    """Catches: a bug that passes for a mistake of the user."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(ZeroDivisionError):
        script.run(lambda argv: 1 / 0)
