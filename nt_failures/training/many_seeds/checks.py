"""What can be trained together: seeds of one recipe that differ in nothing else, with arguments that are known to work."""

import dataclasses
from collections.abc import Sequence

from transformers import TrainingArguments

from nt_failures.training.trainer import ObjectiveTrainer

PER_SEED = frozenset({"seed", "output_dir", "run_name", "logging_dir", "accelerator_config"})
KNOWN = frozenset(
    [
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "disable_tqdm",
        "do_eval",
        "eval_steps",
        "eval_strategy",
        "full_decode",
        "learning_rate",
        "logging_first_step",
        "logging_steps",
        "logging_strategy",
        "lr_scheduler_kwargs",
        "lr_scheduler_type",
        "max_grad_norm",
        "max_steps",
        "muon_learning_rate",
        "num_train_epochs",
        "optimizer",
        "overwrite_output_dir",
        "per_device_eval_batch_size",
        "per_device_train_batch_size",
        "sample_rows",
        "save_strategy",
        "stop_when_solved",
        "tf32",
        "use_cpu",
        "warmup_steps",
        "weight_decay",
    ]
)
"""Training arguments that may differ from their defaults. The others change the loop, which is not the Trainer's here."""

NOTHING = (None, False, "", "none", [], {})
"""Forms of an argument that was not given, before and after TrainingArguments has looked at it."""


def check_together(trainers: Sequence[ObjectiveTrainer]) -> None:
    """Raise ValueError unless `train_together` gives these Trainers what each one's `train()` would."""
    if not trainers:
        raise ValueError("no trainers were given; give one for each seed.")
    lead = _values(trainers[0])
    for trainer in trainers:
        args = trainer.args
        if args.lr_scheduler_type == "reduce_lr_on_plateau":
            raise ValueError(
                "reduce_lr_on_plateau is not made for many seeds at once; give another --lr_scheduler_type."
            )
        unknown = sorted(_changed(args) - KNOWN - PER_SEED)
        if unknown:
            raise ValueError(
                f"{unknown[0]}={vars(args)[unknown[0]]!r} is not made for many seeds at once; leave it out, or train these "
                "seeds as processes."
            )
        if args.save_strategy != "no":
            raise ValueError(
                f"save_strategy={args.save_strategy.value!r}: seeds that are trained at once keep no checkpoints; give "
                "--save_strategy no, or train these seeds as processes."
            )
        for name in ("eval_strategy", "logging_strategy"):
            if vars(args)[name] == "epoch":
                raise ValueError(f"{name}='epoch' is not made for many seeds at once; count in steps: --{name} steps.")
        if args.world_size > 1 or args.n_gpu > 1:
            raise ValueError("many seeds at once take one process and one device; start them without a launcher.")
        differing = sorted(name for name, value in _values(trainer).items() if value != lead[name])
        if differing or trainer.objective != trainers[0].objective:
            raise ValueError(
                f"many seeds at once differ in their seed alone; these differ in {(differing or ['objective'])[0]}."
            )


def _changed(args: TrainingArguments) -> set[str]:
    """Names of the arguments that were given another value than their default."""
    default = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(args)
    }
    values = {name: vars(args)[name] for name in default}
    return {n for n, v in values.items() if v != default[n] and not (v in NOTHING and default[n] in NOTHING)}


def _values(trainer: ObjectiveTrainer) -> dict[str, str]:
    """All arguments but those in which seeds differ."""
    names = {field.name for field in dataclasses.fields(trainer.args)} - PER_SEED
    return {name: str(vars(trainer.args)[name]) for name in names}
