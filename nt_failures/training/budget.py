"""What a run records of a training: budget (steps, rows, FLOPs), changed arguments, learning curve."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments
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
    """What the model that is judged has cost: all training, or up to the best checkpoint where that was loaded.

    That is what every `train` has cost, each of which went on with the weights of the one before.
    """
    args, state, earlier = trainer.args, trainer.state, trainer.earlier
    steps, flops = state.global_step, state.total_flos
    if args.load_best_model_at_end and state.best_model_checkpoint is not None:
        # Not `best_global_step`, which may be that of an evaluation without a checkpoint.
        steps = int(Path(state.best_model_checkpoint).name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))
        flops = trainer.best_flos
    flops += earlier.flops or 0
    return Budget(earlier.steps + steps, earlier.examples + _examples(trainer, steps), flops or None)


def _examples(trainer: Trainer, steps: int) -> int:
    """Rows that so many steps were trained on. The last batch of an epoch may be short, or dropped."""
    args = trainer.args
    batch = args.train_batch_size * args.world_size
    per_step = batch * args.gradient_accumulation_steps
    if isinstance(trainer.train_dataset, IterableDataset) or not has_length(trainer.train_dataset):  # no short batches
        return steps * per_step
    rows = len(trainer.train_dataset)
    if args.dataloader_drop_last:
        rows = rows // batch * batch
    elif args.world_size > 1:  # every process gets a full batch, filled up with the epoch's first rows
        rows = math.ceil(rows / batch) * batch
    epochs, rest = divmod(steps, max(math.ceil(rows / per_step), 1))
    return epochs * rows + min(rest * per_step, rows)


def seen_all(examples: int, num_train: int | None, training: Mapping[str, Any]) -> bool:
    """Whether training, by its arguments, saw each of its instances.

    Nobody knows where some are left out, or drawn with repetition.
    """
    drawn = training.get("dataloader_drop_last") or training.get("curriculum")
    return num_train is not None and examples >= num_train and not drawn


def learning_curves(log: Sequence[Mapping[str, float]]) -> dict[str, list[dict[str, float]]]:
    """The evaluations of a `log_history`, of each set that was evaluated: `step` and every metric without its prefix.

    Sets are named by the prefix of their metrics: `eval_`, or `eval_<name>_` of a dict of sets.
    """
    exact = "free/exact"
    skip = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    curves: dict[str, list[dict[str, float]]] = {}
    for entry in log:
        for name in (name for name in entry if name.startswith("eval_") and name.endswith(exact)):
            start = name.removesuffix(exact)
            kept = {k.removeprefix(start): v for k, v in entry.items() if k.startswith(start)}
            shares = {k: v for k, v in kept.items() if k not in skip}
            curves.setdefault(start, []).append({"step": entry["step"], **shares})
    return curves


def learning_curve(log: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The evaluations during training of one set, the one that was evaluated first."""
    return next(iter(learning_curves(log).values()), [])
