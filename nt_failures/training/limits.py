"""What every number of a training may be, checked before anything is built: a NaN passes each comparison that follows."""

import dataclasses
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # imports torch
    from transformers import TrainingArguments


class Limits(NamedTuple):
    """The least and the largest value, both allowed."""

    least: float
    largest: float = math.inf
    """infinity itself is never allowed"""


FROM_0, FROM_1, SEED = Limits(0), Limits(1), Limits(0, 2**32 - 1)  # NumPy takes no larger seed

LIMITS = {
    "learning_rate": FROM_0,
    "muon_learning_rate": FROM_0,
    "weight_decay": FROM_0,
    "adam_beta1": Limits(0, math.nextafter(1, 0)),
    "adam_beta2": Limits(0, math.nextafter(1, 0)),
    "adam_epsilon": FROM_0,
    "max_grad_norm": FROM_0,
    "warmup_steps": FROM_0,
    "num_train_epochs": FROM_0,
    "max_steps": Limits(-1),
    "label_smoothing_factor": Limits(0, 1),
    "neftune_noise_alpha": FROM_0,
    "logging_steps": FROM_0,
    "eval_steps": FROM_0,
    "eval_delay": FROM_0,
    "save_steps": FROM_0,
    "per_device_train_batch_size": FROM_1,
    "per_device_eval_batch_size": FROM_1,
    "gradient_accumulation_steps": FROM_1,
    "eval_accumulation_steps": FROM_1,
    "dataloader_num_workers": FROM_0,
    "seed": SEED,
    "data_seed": SEED,
}
"""Fields of the training arguments."""

WHOLE = ("max_steps", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
WHOLE += ("eval_accumulation_steps", "dataloader_num_workers", "seed", "data_seed")
"""Fields that count something."""


def check_numbers(args: "TrainingArguments") -> None:
    """ValueError unless each number of `LIMITS` is finite and within its limits; one whose default is None may be None."""
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    for name, limits in LIMITS.items():
        value = vars(args)[name]
        if value is None and defaults[name] is None:
            continue
        kind = Integral if name in WHOLE else Real
        good = isinstance(value, kind) and not isinstance(value, bool) and abs(value) != math.inf
        if not (good and limits.least <= value <= limits.largest):  # false for NaN
            raise ValueError(f"{name}={value!r} cannot be used; give {_wanted(name, limits)}, or leave it out.")


def _wanted(name: str, limits: Limits) -> str:
    kind = "a whole number" if name in WHOLE else "a finite number"
    if limits.largest == math.inf:
        return f"{kind} >= {limits.least:g}"
    if limits.largest == math.nextafter(1, 0):
        return f"{kind} >= 0 and < 1"
    return f"{kind} from {limits.least:g} to {int(limits.largest)}"
