"""What a run records of a training: budget (steps, rows, FLOPs), changed arguments, learning curve, gradients."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length

from nt_failures.diagnosis import Budget
from nt_failures.hub.json_files import portable


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from their defaults, JSON-ready, without folders and tokens."""
    default = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(args)
    }
    default["accelerator_config"] = AcceleratorConfig().to_dict()
    private = ("output_dir", "run_name", "hub_token")
    given = {name: value for name, value in args.to_dict().items() if name not in private}
    given["accelerator_config"] = AcceleratorConfig().to_dict() | given["accelerator_config"]
    return portable({name: value for name, value in given.items() if value not in (default.get(name), [])})


def budget_of(trainer: Trainer) -> Budget:
    """What the model that is judged has cost: all training, or up to the best checkpoint where that was loaded."""
    args, state = trainer.args, trainer.state
    steps = state.global_step
    if args.load_best_model_at_end and state.best_model_checkpoint is not None:
        # Not `best_global_step`, which may be that of an evaluation without a checkpoint.
        steps = int(Path(state.best_model_checkpoint).name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))
    flops = state.total_flos * steps / max(state.global_step, 1)
    return Budget(steps, _examples(trainer, steps), flops or None)


def _examples(trainer: Trainer, steps: int) -> int:
    """Rows that so many steps were trained on. The last batch of an epoch may be short, or dropped."""
    args = trainer.args
    batch = args.train_batch_size * args.world_size
    per_step = batch * args.gradient_accumulation_steps
    if not has_length(trainer.train_dataset):
        return steps * per_step
    rows = len(trainer.train_dataset)
    if args.dataloader_drop_last:
        rows = rows // batch * batch
    elif args.world_size > 1:  # every process gets a full batch, filled up with the epoch's first rows
        rows = math.ceil(rows / batch) * batch
    epochs, rest = divmod(steps, max(math.ceil(rows / per_step), 1))
    return epochs * rows + min(rest * per_step, rows)


def seen_all(examples: int, num_train: int | None, drop_last: bool = False) -> bool:
    """Whether training saw each of its instances; with `drop_last` nobody knows which rows every epoch left out."""
    return num_train is not None and examples >= num_train and not drop_last


def learning_curve(state: TrainerState) -> list[dict[str, float]]:
    """The evaluations during training: `step` and every `eval_` metric without its prefix."""
    skip = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
    curve = []
    for entry in state.log_history:
        if "eval_free/exact" in entry:
            kept = {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_") and k not in skip}
            curve.append({"step": entry["step"], **kept})
    return curve


def logged_gradients(state: TrainerState) -> list[dict[str, float]]:
    """What `GradientShares` logged: `step`, and each term's share without its prefix."""
    start = "grad/"
    shares = [
        (entry, {k.removeprefix(start): v for k, v in entry.items() if k.startswith(start)})
        for entry in state.log_history
    ]
    return [{"step": entry["step"], **found} for entry, found in shares if found]
