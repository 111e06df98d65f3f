"""Checkpoints that are whole or not counted, and training that stops at a NaN."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from nt_failures.hub.load import load
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.objectives import NextToken
from nt_failures.training import checkpoint_files
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import budget_of
from nt_failures.training.callbacks import StopWhenSolved
from nt_failures.training.divergence import LossWatch
from nt_failures.training.trainer import ObjectiveTrainer


class Poison(TrainerCallback):
    """Puts a NaN into the model, before or after the update of a step."""

    def __init__(self, step, before):
        self.step, self.before = step, before

    def on_step_begin(self, args, state, control, model, **kwargs):
        if self.before and state.global_step + 1 == self.step:
            model.get_input_embeddings().weight.data.fill_(torch.nan)

    def on_optimizer_step(self, args, state, control, model, **kwargs):
        if not self.before and state.global_step + 1 == self.step:
            model.get_input_embeddings().weight.data[0, 0] = torch.nan


class Stop(TrainerCallback):
    """As Ctrl-C at a step: saves and stops."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


@pytest.fixture
def trainer(tmp_path, tiny_model, tokenized, tokenizer):
    """`trainer(*callbacks, **arguments)`: 8 steps of 4 rows, a checkpoint at every second."""

    def make(*callbacks, family="gpt2", **given):
        args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, "learning_rate": 1e-3, "use_cpu": True}
        args |= {"lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "disable_tqdm": True, **given}
        objective = NextToken(pad_token_id=tokenizer.pad_token_id)
        training = ObjectiveTrainingArguments(str(tmp_path / "run"), **args)
        rows = {"train_dataset": tokenized, "eval_dataset": tokenized.select(range(4))}
        made = ObjectiveTrainer(tiny_model(family), training, objective=objective, **rows)
        for callback in callbacks:
            made.add_callback(callback)
        return made

    return make


def steps(trainer):
    return [path.name for path in checkpoint_files.in_order(Path(trainer.args.output_dir))]


def test_a_nan_loss_stops_the_run(trainer):
    """Catches: a run that goes on with a loss of NaN, which the Trainer's log hides, and saves what it trained."""
    run = trainer(Poison(5, before=True))
    said = (
        r"the loss became NaN or infinite at step 5, at learning rate 0.001; .*checkpoint-4; .*--learning_rate 0.0001 "
    )
    with pytest.raises(FloatingPointError, match=said):
        run.train()
    assert steps(run) == ["checkpoint-2", "checkpoint-4"]
    assert run.state.global_step == 5


def test_a_checkpoint_of_another_run_is_not_the_last_good_one(trainer):
    """Catches: `start from its weights` of a run whose steps this one never made; not so the one that it resumed."""
    trainer(max_steps=4).train()
    with pytest.raises(FloatingPointError, match=r"at step 3, .* There is no checkpoint before it; begin again"):
        trainer(Poison(3, before=True), save_strategy="no").train()
    with pytest.raises(
        FloatingPointError, match=r"The last good checkpoint is .*checkpoint-4; nothing was saved after"
    ):
        trainer(Poison(5, before=True)).train(True)


def test_no_checkpoint_holds_a_nan(trainer):
    """Catches: NaN weights saved because the loss before them was still finite."""
    run = trainer(Poison(4, before=False), save_total_limit=1)
    with pytest.raises(FloatingPointError, match=r"a weight became NaN or infinite at step 4, .*checkpoint-2"):
        run.train()
    assert steps(run) == ["checkpoint-2"]
    kept = load_file(Path(run.args.output_dir) / "checkpoint-2" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in kept.values())


def test_no_best_checkpoint_holds_a_nan(trainer):
    """Catches: NaN weights saved as the best, where only the evaluation decides whether anything is saved."""
    best = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "free/exact"}
    run = trainer(Poison(2, before=False), **best)
    with pytest.raises(FloatingPointError, match="a weight became NaN or infinite at step 2, "):
        run.train()
    assert steps(run) == []


def test_the_last_step_is_checked(trainer):
    """Catches: training that ends well, with a model of NaN."""
    run = trainer(Poison(8, before=False), save_strategy="no")
    with pytest.raises(FloatingPointError, match="There is no checkpoint before it; begin again with a lower rate"):
        run.train()


def test_the_advice_lowers_the_rates_that_were_asked_for(trainer):
    """Catches: Muon left at the rate that diverged, and AdamW's lowered from where the warm-up happened to be."""
    muon = {"optimizer": "muon", "muon_learning_rate": 0.02, "lr_scheduler_type": "linear", "warmup_steps": 8}
    with pytest.raises(FloatingPointError, match=r"--learning_rate 0\.0001 --muon_learning_rate 0\.002 --o"):
        trainer(Poison(5, before=True), **muon).train()


def test_no_rate_is_blamed_before_the_first_step(trainer):
    """Catches: a lower rate advised where the objective's own loss is NaN, or none where the first step broke
    a weight."""
    with pytest.raises(
        FloatingPointError, match=r"at step 1, .* no rate is to blame: look at the objective's loss"
    ) as said:
        trainer(Poison(1, before=True)).train()
    assert "--learning_rate" not in str(said.value)
    with pytest.raises(FloatingPointError, match=r"a weight .* at step 1, .* begin again with a lower rate"):
        trainer(Poison(1, before=False), save_steps=1).train()


def test_the_first_bad_step_is_named(trainer):
    """Catches: on a device that is asked at each log only, the step of the log instead of the step that broke."""
    watch, gather = LossWatch(), trainer().accelerator.gather
    assert watch.first_bad(gather) is None
    for step, loss in enumerate((2.0, 1.0, torch.inf, 1.0, torch.nan), start=1):
        watch.see(torch.tensor(loss), step, step / 10)
    assert watch.first_bad(gather) == (3, 0.3)
    assert watch.first_bad(gather) is None


def test_a_run_that_diverges_ends_in_one_line(tmp_path, monkeypatch, capsys):
    """Catches: a traceback, an exit code of 0 or of any other failure, or a model of NaN in the folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    script = Path(__file__).parents[2] / "examples" / "train.py"
    flags = "--degree 2 --path_length 3 --num_nodes 10 --num_train 64 --num_validation 8 --num_test 8 --use_cpu true "
    flags += (
        "--model gpt2-1x16 --max_steps 9 --learning_rate 1e38 --eval_strategy no --save_strategy no --sample_rows 0"
    )
    monkeypatch.setattr(sys, "argv", [str(script), *flags.split(), "--output_dir", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 3
    last = capsys.readouterr().err.rstrip().split("\n")[-1]
    assert "error: the loss became NaN or infinite at step " in last
    assert "Traceback" not in last
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "arguments.json"]


def test_rotation_counts_whole_checkpoints_alone(tmp_path):
    """Catches: the last whole checkpoint, or the best, deleted in favour of half-written ones."""
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model").write_text("weights", encoding="utf-8")
        if step < 8:
            checkpoint_files.seal(tmp_path / f"checkpoint-{step}")
    checkpoint_files.rotate(tmp_path, None, None)
    assert len(checkpoint_files.in_order(tmp_path)) == 5
    checkpoint_files.rotate(tmp_path, 2, None)
    assert [path.name for path in checkpoint_files.in_order(tmp_path)] == ["checkpoint-4", "checkpoint-6"]
    checkpoint_files.rotate(tmp_path, 1, str(tmp_path / "checkpoint-4"))
    assert [path.name for path in checkpoint_files.in_order(tmp_path)] == ["checkpoint-4", "checkpoint-6"]
    checkpoint_files.rotate(tmp_path, 1, None)
    assert [path.name for path in checkpoint_files.in_order(tmp_path)] == ["checkpoint-6"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1}', "{"])
def test_a_damaged_manifest_is_damage(tmp_path, text):
    """Catches: a crash, or a checkpoint that counts as whole, for a manifest that is cut or not ours."""
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    assert checkpoint_files.damage(tmp_path) == "manifest.json cannot be read"


def test_a_checkpoint_of_another_objective_is_not_gone_on_from(trainer):
    """Catches: steps and FLOPs of two objectives given out as one training."""
    trainer(max_steps=2).train()
    other = trainer()
    other.training_objective = NextToken(order="reversed", pad_token_id=other.training_objective.pad_token_id)
    with pytest.raises(ValueError, match="checkpoint-2 was trained with order='forward', not 'reversed'; resume it un"):
        other.train(True)


def test_a_checkpoint_of_another_task_is_not_gone_on_from(trainer, task):
    """Catches: steps on two tasks given out as one training."""
    first, other = trainer(max_steps=2), trainer()
    first.task, other.task = task, dataclasses.replace(task, degree=task.degree + 1)
    first.train()
    with pytest.raises(
        ValueError, match=r"checkpoint-2 was trained with degree=(\d), .*; resume it under the task that"
    ):
        other.train(True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 1e-2}, r"trained at the learning rates \[0.001, 0.001\], .*, not at \[0.01, 0.01\]; give"),
        ({"optimizer": "muon"}, r"checkpoint-2 is of another optimizer \(.*\); resume it with its own"),
    ],
)
def test_a_checkpoint_goes_on_at_its_own_rates(given, said, trainer):
    """Catches: a card that names a rate at which nothing was trained; an optimizer's state that fits another one."""
    trainer(max_steps=2).train()
    with pytest.raises(ValueError, match=said):
        trainer(**given).train(True)


def test_a_folder_that_is_no_checkpoint(trainer, tmp_path):
    """Catches: a FileNotFoundError in place of the error that the docstring promises."""
    with pytest.raises(ValueError, match=r"elsewhere is no checkpoint, as it has no trainer_state.json; give another"):
        trainer().train(str(tmp_path / "elsewhere"))


def test_true_resumes_the_newest_whole_one(trainer):
    """Catches: `train(True)` of the Trainer, which takes half a checkpoint; a best model lost on the way."""
    assert trainer().train().global_step == 8
    run = trainer(max_steps=10)
    folder = Path(run.args.output_dir)
    (folder / "checkpoint-8" / "optimizer.pt").unlink()
    assert checkpoint_files.newest_whole(folder) == folder / "checkpoint-6"
    run.train(True)
    assert steps(run) == [f"checkpoint-{step}" for step in (2, 4, 6, 8, 10)]
    assert checkpoint_files.damage(folder / "checkpoint-8") is None
    again = trainer(max_steps=10)
    assert again.train(True).global_step == 10  # nothing left to train
    assert torch.equal(again.model.transformer.wte.weight, run.model.transformer.wte.weight)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "mamba"])
def test_a_resumed_run_goes_on_with_all_weights(trainer, family):
    """Catches: weights that a checkpoint holds under other names than the model, as GPT-NeoX's unembedding, left as new
    ones; the best model of a run loaded without them."""
    options = {"family": family, "learning_rate": 0.05}
    whole = trainer(**options)
    whole.train()
    resumed = trainer(**options)
    resumed.train(str(Path(whole.args.output_dir) / "checkpoint-2"))
    best = trainer(**options)
    best.state.best_model_checkpoint = str(Path(whole.args.output_dir) / "checkpoint-8")
    best._load_best_model()
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
        assert torch.equal(weight, best.model.state_dict()[name]), name


def test_a_checkpoint_that_lacks_a_weight_is_refused(trainer):
    """Catches: training that goes on from a layer of random numbers, with a warning among many lines."""
    run = trainer(max_steps=2)
    run.train()
    file = Path(run.args.output_dir) / "checkpoint-2" / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.ln_f.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"are missing, such as transformer\.ln_f\.weight"):
        trainer()._load_from_checkpoint(str(file.parent))


def test_nothing_whole_to_resume(trainer):
    """Catches: training from the start that was asked to go on."""
    with pytest.raises(ValueError, match="holds no whole checkpoint to resume"):
        trainer().train(True)


def test_only_the_writing_process_writes(trainer, tmp_path, monkeypatch):
    """Catches: a second process that writes into a checkpoint which the first has not made yet, and dies of it."""
    run = trainer()
    monkeypatch.setattr(ObjectiveTrainingArguments, "should_save", False)
    run.save_model(str(tmp_path / "checkpoint-1"), _internal_call=True)
    assert not (tmp_path / "checkpoint-1").exists()


def test_a_checkpoint_is_not_hashed_and_the_model_is(trainer, tmp_path):
    """Catches: all weights read back at every checkpoint; a finished run whose damage nobody sees."""
    run = trainer(save_steps=8)
    run.train()
    run.save_model(_internal_call=True)
    folders = (tmp_path / "run" / "checkpoint-8", tmp_path / "run")
    hashed = ["sha256" in json.loads((folder / RUN_FILE).read_text(encoding="utf-8")) for folder in folders]
    assert hashed == [False, True]
    assert checkpoint_files.damage(folders[0]) is None


def test_nothing_of_an_earlier_model_stays_beside_another(trainer, tokenizer, tmp_path):
    """Catches: an adapter, or tokens that were added, of whatever was saved in this folder before; files of the user's
    own that are deleted."""
    stale = ("adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors")
    for name in (*stale, "added_tokens.json", "notes.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    run = trainer()
    run.save_model(str(tmp_path), _internal_call=True)
    here = {path.name for path in tmp_path.iterdir()}
    assert here.isdisjoint(stale)
    assert {"added_tokens.json", "notes.json", "tokenizer.json"} < here  # without a tokenizer of its own
    run.processing_class = tokenizer
    run.save_model(str(tmp_path), _internal_call=True)
    assert not (tmp_path / "added_tokens.json").exists()
    assert load(str(tmp_path)).tokenizer("0,1")["input_ids"] == [0, 1]


def test_stopping_keeps_the_checkpoint_beside_the_best(trainer):
    """Catches: the Trainer's rotation at the end of training, which with a limit of 1 keeps the best one alone."""
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    run = trainer(Stop(5), save_total_limit=1, greater_is_better=True, learning_rate=1e-2, **best)
    run.train()
    assert Path(run.state.best_model_checkpoint).name == "checkpoint-2"
    assert steps(run) == ["checkpoint-2", "checkpoint-5"]
    assert run.args.save_total_limit == 1


def test_going_back_to_an_earlier_checkpoint(trainer, tmp_path):
    """Catches: the new checkpoints deleted as the oldest, and the abandoned ones resumed, for their higher steps."""
    trainer().train()
    back = trainer(Stop(5), save_total_limit=2)
    back.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert steps(back) == ["checkpoint-5", "checkpoint-8"]
    assert checkpoint_files.newest_whole(tmp_path / "run").name == "checkpoint-5"
    again = trainer(save_total_limit=2)
    again.train(resume_from_checkpoint=True)
    assert again.resumed_at == 5
    assert steps(again) == ["checkpoint-6", "checkpoint-8"]


def test_a_checkpoint_of_the_model_alone_is_not_gone_on_with(trainer, tmp_path):
    """Catches: a schedule and an optimizer that begin again in silence."""
    trainer(Stop(4), save_only_model=True).train()
    with pytest.raises(ValueError, match=r"checkpoint-4 holds no optimizer \(save_only_model\)"):
        trainer().train(resume_from_checkpoint=True)
    finished = trainer(max_steps=4)
    finished.train(resume_from_checkpoint=True)  # nothing to train
    assert finished.state.global_step == 4


def test_a_finished_run_takes_no_further_step(trainer, tmp_path, monkeypatch):
    """Catches: the step that the Trainer takes behind a fraction of an epoch."""
    run = trainer(max_steps=-1, num_train_epochs=0.5, save_steps=1)
    run.train()
    again = trainer(max_steps=-1, num_train_epochs=0.5, save_steps=1)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == run.state.global_step == run.state.max_steps
    longer = trainer(max_steps=-1, num_train_epochs=0.9, save_steps=1)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step > run.state.global_step


def test_a_resumed_run_does_not_start_again(trainer):
    """Catches: `eval_on_start` at the step of the checkpoint, which stands there twice, and counts twice for who stops
    or grows at evaluations."""
    watched = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True}
    trainer(Stop(4), **watched).train()
    again = trainer(**watched)
    again.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in again.state.log_history if "eval_loss" in entry] == [0, 2, 4, 6, 8]
    assert again.args.eval_on_start


def test_a_solved_run_stays_stopped(trainer):
    """Catches: a run that trains on when it is resumed for its test, to another number of steps."""
    watched = {"eval_strategy": "steps", "eval_steps": 2}
    run = trainer(**watched)
    run.add_callback(StopWhenSolved(run, 2))
    run.compute_metrics = lambda found: {"free/exact": 1.0}
    run.train()
    again = trainer(**watched)
    again.add_callback(StopWhenSolved(again, 2))
    again.compute_metrics = lambda found: {"free/exact": 0.0}
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == run.state.global_step == 4
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, run.model.state_dict()[name])
    more = trainer(**watched)
    more.add_callback(StopWhenSolved(more, 3))
    more.compute_metrics = lambda found: {"free/exact": 1.0}
    more.train(resume_from_checkpoint=True)
    assert more.state.global_step == 6


BEST = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}


@pytest.mark.parametrize("steps", [8, 10])
@pytest.mark.parametrize("original", ["trained again", "gone"])
def test_the_best_model_of_a_copied_run(trainer, tmp_path, original, steps):
    """Catches: the best checkpoint at the recorded path, where another run has been trained since, reported as this
    run's; or the last one where that path is gone."""
    worse = {"greater_is_better": True, "learning_rate": 1e-2, **BEST}  # the largest loss, so the first checkpoint
    trainer(**worse).train()
    own = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    (tmp_path / "run").rename(tmp_path / "copy")
    if original == "trained again":
        trainer(**worse, seed=1).train()
    again = trainer(max_steps=steps, **worse)
    again.args.output_dir = str(tmp_path / "copy")
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == str(tmp_path / "copy" / "checkpoint-2")
    assert torch.equal(again.model.transformer.wte.weight, own["transformer.wte.weight"])
    assert budget_of(again).steps == 2


def test_a_best_model_that_was_not_copied(trainer, tmp_path):
    """Catches: the last model reported as the best, because the checkpoint of that was left behind."""
    worse = {"greater_is_better": True, "learning_rate": 1e-2}
    trainer(**worse, **BEST).train()
    checkpoint_files.remove(tmp_path / "run" / "checkpoint-2")
    with pytest.raises(ValueError, match=r"checkpoint-2, the best checkpoint up to checkpoint-8, .* \(it is missing\)"):
        trainer(max_steps=10, **worse, **BEST).train(resume_from_checkpoint=True)
    again = trainer(max_steps=10, learning_rate=1e-2)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 10


def test_the_budget_is_that_of_the_checkpoint_that_was_loaded(trainer):
    """Catches: three steps said of the model of step 2, because a better one at step 3 was evaluated and not saved."""
    figures = iter([0.1, 0.5, 0.9, *[0.2] * 5])
    run = trainer(**{**BEST, "eval_steps": 1, "metric_for_best_model": "free/exact"})
    run.compute_metrics = lambda found: {"free/exact": next(figures)}
    run.train()
    assert run.state.best_global_step == 3
    assert Path(run.state.best_model_checkpoint).name == "checkpoint-2"
    assert budget_of(run).steps == 2
