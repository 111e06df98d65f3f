"""Numbers of a training: a NaN, an infinity or a number out of range is refused before anything is built or written."""

import dataclasses
import runpy
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from torch.optim import SGD
from transformers import TrainingArguments

from nt_failures.experiments.command_line import parse
from nt_failures.experiments.flags import Parser
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.hub.json_files import not_finite
from nt_failures.objectives import MultiTokenHeads, NextToken
from nt_failures.training.arguments import LARGEST, LEAST, ObjectiveTrainingArguments
from nt_failures.training.budget import changed_arguments
from nt_failures.training.trainer import ObjectiveTrainer

NUMBERS = sorted(f.name for f in dataclasses.fields(RunArguments) if "float" in str(f.type))


def test_limits_are_those_of_fields():
    """Catches: a limit for a name that no argument has (any more), and a search that finds no numbers."""
    assert {*LEAST, *LARGEST} <= {field.name for field in dataclasses.fields(RunArguments)}
    assert {"learning_rate", "muon_learning_rate", "eval_steps", "neftune_noise_alpha"} <= set(NUMBERS)


@dataclasses.dataclass
class Switch:
    on: bool = dataclasses.field(default_factory=lambda: True)


def test_switches_have_their_defaults_on_the_command_line_too():
    """Catches: memory that is never pinned on a GPU; HfArgumentParser makes False of a bool's default_factory."""
    assert Parser([Switch]).parse_args_into_dataclasses([]) == (Switch(),)
    assert Parser([Switch]).parse_args_into_dataclasses(["--on", "false"]) == (Switch(on=False),)
    (pinned,) = (field for field in dataclasses.fields(RunArguments) if field.name == "dataloader_pin_memory")
    assert pinned.default_factory is torch.cuda.is_available


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-0.5"])
def test_refused(name, value):
    """Catches: `nan < 0`, which is false, taken for a good number."""
    with pytest.raises(
        ValueError, match=rf"^{name}={value} cannot be used; give a finite number .*, or leave it out\.$"
    ):
        parse(["--use_cpu", f"--{name}={value}"])


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("adam_beta2", 1.0, "a finite number >= 0 and < 1"),
        ("seed", -1, "a whole number >= 0 and <= 4294967295"),
        ("max_steps", -2, "a whole number >= -1"),
        ("per_device_train_batch_size", 0, "a whole number >= 1"),
        ("gradient_accumulation_steps", 1.5, "a whole number >= 1"),
        ("learning_rate", "0.1", "a finite number >= 0"),
        ("learning_rate", True, "a finite number >= 0"),
        ("learning_rate", None, "a finite number >= 0"),
    ],
)
def test_refused_in_python(tmp_path, name, value, rule):
    """Catches: a check of the command line alone; text or a truth value taken for a number."""
    with pytest.raises(ValueError) as error:
        ObjectiveTrainingArguments(str(tmp_path), **{name: value})
    assert str(error.value) == f"{name}={value!r} cannot be used; give {rule}, or leave it out."


def test_what_would_change_nothing(tmp_path):
    """Catches: a smoothing that is recorded with the run and used by no loss."""
    with pytest.raises(ValueError, match=r"^label_smoothing_factor=0.1 would change nothing, .*; leave it out"):
        ObjectiveTrainingArguments(str(tmp_path), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"^optim='adafactor' is a choice of optimizer='adamw'; leave one"):
        ObjectiveTrainingArguments(str(tmp_path), optimizer="muon", optim="adafactor")
    assert ObjectiveTrainingArguments(str(tmp_path), optim="adafactor").optimizer == "adamw"
    assert ObjectiveTrainingArguments(str(tmp_path), optimizer="muon").optim == "adamw_torch_fused"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"bf16_full_eval": True}, "bf16_full_eval=True would cast the weights that are trained and saved"),
        ({"fp16_full_eval": True}, "fp16_full_eval=True would cast the weights that are trained and saved"),
        (
            {"auto_find_batch_size": True},
            "auto_find_batch_size=True would begin again from weights already trained, .*",
        ),
        ({"batch_eval_metrics": True}, "batch_eval_metrics=True would count the problems of each batch by itself"),
        (
            {"train_sampling_strategy": "group_by_length"},
            "train_sampling_strategy='group_by_length' looks for input_ids, which tokenised rows have not",
        ),
        ({"logging_nan_inf_filter": True}, "logging_nan_inf_filter=True would hide a NaN loss, which stops training"),
        ({"ignore_data_skip": True}, "ignore_data_skip=True would train a resumed run on other rows"),
        (
            {"neftune_noise_alpha": 5.0},
            "neftune_noise_alpha=5.0 would scale its noise by the shape of each look-up, .*",
        ),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config: split_batches=True deals out .*"),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config: dispatch_batches=True deals out .*"),
        ({"accelerator_config": {"even_batches": False}}, "accelerator_config: even_batches=False deals out .*"),
    ],
)
def test_what_would_make_a_figure_untrue(tmp_path, options, what):
    """Catches: a bfloat16 model behind a float32 recipe; a budget of rows that nobody trained on; noise that is
    eight times too large; draws that no resumed run repeats."""
    with pytest.raises(ValueError, match=f"^{what}; leave it out\\.$"):
        ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, **options)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"compute_loss_func": max}, "compute_loss_func would not be used, as the loss is the objective's own"),
        ({"preprocess_logits_for_metrics": max}, "preprocess_logits_for_metrics would not be used, as metrics are .*"),
        ({"optimizers": (SGD, None)}, "optimizers would not be used, as optimizer='muon' chooses another one"),
        ({"optimizer_cls_and_kwargs": (SGD, {})}, "optimizer_cls_and_kwargs would not be used, as optimizer='muon' .*"),
    ],
)
def test_what_a_trainer_would_not_use(tmp_path, tiny_model, given, what):
    """Catches: a loss, an optimizer or a model of the user's own that is taken, never called, and seems to be at work;
    a model that is changed before it is refused."""
    args, model = ObjectiveTrainingArguments(str(tmp_path), optimizer="muon", use_cpu=True), tiny_model("gpt2")
    objective = MultiTokenHeads(heads=2, pad_token_id=14)
    with pytest.raises(ValueError, match=f"^{what}; leave it out\\.$"):
        ObjectiveTrainer(model, args, objective=objective, **given)
    nothing = {"compute_loss_func": None, "optimizers": (None, None)}
    ObjectiveTrainer(model, args, objective=objective, **nothing)


def test_what_is_of_no_use_to_a_trainer(tmp_path, tiny_model):
    """Catches: an AttributeError for transformers' own arguments; a model of peft's told to be one of transformers'."""
    stock = TrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"^args are TrainingArguments; give nt_failures.ObjectiveTrainingArguments"):
        ObjectiveTrainer(tiny_model("gpt2"), stock, objective=NextToken())
    args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"^Linear is no model of transformers; give that itself \(LoRA: model.add_a"):
        ObjectiveTrainer(torch.nn.Linear(2, 2), args, objective=NextToken())


def test_allowed(tmp_path):
    """Catches: a limit that leaves out what is of use: rates of 0, NumPy's numbers, None where it is the default."""
    args = ObjectiveTrainingArguments(
        str(tmp_path), learning_rate=0, weight_decay=np.float32(0.5), max_steps=np.int64(3), eval_steps=None, seed=0
    )
    assert (args.learning_rate, args.weight_decay, args.max_steps) == (0, 0.5, 3)


@pytest.mark.parametrize(
    ("flag", "value", "place"),
    [
        ("lr_scheduler_kwargs", '{"min_lr_rate": NaN}', "min_lr_rate"),
        ("config_overrides", '{"rope": [{"theta": -Infinity}]}', "rope.0.theta"),
        ("objective_options", '{"weight": NaN}', "weight"),
    ],
)
def test_refused_inside_of_json(flag, value, place):
    """Catches: a NaN within what is passed on to others, none of whom looks."""
    with pytest.raises(ValueError, match=rf"^{flag}: {place} is no finite number; give one, or leave it out\.$"):
        parse(["--use_cpu", f"--{flag}={value}"])


def test_nothing_is_built_or_written(tmp_path, monkeypatch):
    """Catches: minutes of data built, and a folder made, for a run that cannot be."""
    main = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "train.py"), run_name="train")["main"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="learning_rate=nan"):
        main(["--learning_rate", "nan", "--use_cpu", "true", "--output_dir", str(tmp_path / "run")])
    assert list(tmp_path.iterdir()) == []


def test_places():
    """Catches: a place that nobody finds, a number that is whole and called none, a nest that ends the search."""
    deep = [float("nan")]
    for _ in range(5000):
        deep = [deep]
    assert not_finite({"a": [1, {"b": float("inf")}], "c": 10**400, "d": float("nan")}) == ["d", "a.1.b"]
    assert not_finite(deep) == [".".join("0" * 5001)]


def test_what_accelerate_launch_changes_is_recorded(tmp_path, monkeypatch):
    """Catches: a run in bfloat16, as `accelerate launch` was told, that recipe.yaml repeats in float32."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True)
    assert changed_arguments(args)["bf16"] is True
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="--mixed_precision fp8 is in no recipe; give bf16, fp16 or no"):
        ObjectiveTrainingArguments(str(tmp_path), use_cpu=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(ValueError, match="give --torch_compile true --torch_compile_backend inductor in its place"):
        ObjectiveTrainingArguments(str(tmp_path), use_cpu=True)
    assert "bf16" not in changed_arguments(ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, torch_compile=True))
