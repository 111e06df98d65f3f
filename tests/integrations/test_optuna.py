"""Searches for hyperparameters with Optuna: transformers' own `hyperparameter_search`, on an ObjectiveTrainer."""

import json
from pathlib import Path

import optuna
import pytest
from scripts import EXAMPLES

import nt_failures as ntf
from nt_failures.models.load import load_model
from nt_failures.objectives import auxiliary_modules

RATES = {0: 1e-5, 1: 1e-2}
"""What each trial is to try: the second one learns."""


@pytest.fixture
def trainer(rows, task, tokenizer, tmp_path):
    """`trainer(objective, **settings)`: of models of 20 steps, the same at each beginning."""

    def make(objective, **settings):
        made = []

        def make_model():
            made.append(load_model("gpt2-1x16", tokenizer, max_length=18))
            return made[-1]

        common = {"max_steps": 20, "per_device_train_batch_size": 32, "report_to": [], "use_cpu": True}
        args = ntf.ObjectiveTrainingArguments(
            str(tmp_path / "out"), **common | {"save_strategy": "no", "disable_tqdm": True, **settings}
        )
        sets = {"train_dataset": rows["train"], "eval_dataset": rows["test"], "processing_class": tokenizer}
        trainer = ntf.ObjectiveTrainer(None, args, model_init=make_model, objective=objective, task=task, **sets)
        return trainer, made

    return make


def space(trial):
    return {"learning_rate": RATES[trial.suggest_categorical("which", [0, 1])]}


def searched(trainer, **options):
    """Each rate once, by the loss."""
    sampler = optuna.samplers.GridSampler({"which": [0, 1]}, seed=0)
    options = {"n_trials": 2, "direction": "minimize", "sampler": sampler, **options}
    return trainer.hyperparameter_search(space, lambda metrics: metrics["eval_loss"], backend="optuna", **options)


def test_the_better_rate_is_found(trainer, tokenizer):
    """Catches: a trial that goes on with the last one's weights; the value of a trial kept in place of the Objective;
    modules of an objective that a new model lacks; a budget of all trials together."""
    objective = ntf.MultiTokenHeads.from_tokenizer(tokenizer, heads=2)
    made, models = trainer(objective)
    best = searched(made)
    assert best.hyperparameters == {"which": 1}
    assert made.training_objective is objective
    assert all(auxiliary_modules.has_modules(model) for model in models)
    assert len(models) == 3  # one as the Trainer is made, and one for each trial
    made.args.learning_rate = RATES[1]
    made.train()
    assert made.evaluate()["eval_loss"] == pytest.approx(best.objective, rel=1e-6)
    assert (made.earlier.steps, made.state.global_step) == (0, 20)
    made.save_model()
    card = (Path(made.args.output_dir) / "nt_failures.json").read_text()
    assert json.loads(card)["objective"]["objective"] == "multi_token_heads"


def test_the_example_runs(rows, task, tokenizer, tmp_path):
    """The lines of examples/README.md, with two trials. Catches: an example that does not do what it says."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition("## Optuna")[2]
    code = page.partition("```py\n")[2].partition("```")[0]
    assert "n_trials=20" in code
    args = ntf.ObjectiveTrainingArguments(str(tmp_path), max_steps=3, report_to=[], save_strategy="no", use_cpu=True)
    names = {"ntf": ntf, "task": task, "tokenizer": tokenizer, "args": args}
    names["objective"] = ntf.Teacherless.from_tokenizer(tokenizer)
    names["rows"] = {"train": rows["train"], "validation": rows["test"].select(range(20)), "test": rows["test"]}
    exec(code.replace("n_trials=20", "n_trials=2"), names)
    assert 1e-4 <= names["best"].hyperparameters["learning_rate"] == args.learning_rate <= 1e-2
    assert names["trainer"].state.global_step == 3
    assert "eval_free/exact" in names["trainer"].evaluate()


def test_the_worse_rate_is_pruned(trainer, tokenizer):
    """Catches: evaluations that no pruner sees; a search that a pruned trial breaks."""
    made, _ = trainer(ntf.NextToken.from_tokenizer(tokenizer), eval_strategy="steps", eval_steps=5)

    class Second(optuna.pruners.BasePruner):
        """Ends every trial but the first at its first evaluation."""

        def prune(self, study, trial):
            asked.append(trial.number)
            return trial.number > 0

    asked = []
    best = searched(made, pruner=Second())
    assert best.run_id == "0"
    assert asked == [0, 0, 0, 0, 1]
    made.train()
    assert made.state.global_step == 20


def test_checkpoints_of_each_trial(trainer, tokenizer):
    """Catches: trials that write into each other's checkpoints, or checkpoints without the objective."""
    made, _ = trainer(ntf.NextToken.from_tokenizer(tokenizer), save_strategy="steps", save_steps=20)
    searched(made)
    found = Path(made.args.output_dir).glob("run-*/checkpoint-20/nt_failures.json")
    assert sorted(path.parent.parent.name for path in found) == ["run-0", "run-1"]
