"""ObjectiveTrainingArguments: `transformers.TrainingArguments` and three more, with every number in range."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Literal

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg

from nt_failures.registry import check_choice

LEAST = dict.fromkeys(["per_device_train_batch_size", "per_device_eval_batch_size"], 1)
LEAST |= {"gradient_accumulation_steps": 1, "eval_accumulation_steps": 1}
LEAST |= {"max_steps": -1, "local_rank": -1, "save_total_limit": -1}
"""The least value of a number among the training arguments, where it is not 0."""

FIXED = {
    "remove_unused_columns": "would remove columns that the objective reads",
    "logging_nan_inf_filter": "would hide a NaN loss, which stops training",
    "eval_do_concat_batches": "leaves no whole predictions to count",
    "label_smoothing_factor": "would change nothing, as the loss is the objective's own",
    "neftune_noise_alpha": "would scale its noise by the shape of each look-up, and objectives make others than inputs",
    "auto_find_batch_size": "would begin again from weights already trained, on rows that nobody counts",
    "batch_eval_metrics": "would count the problems of each batch by itself",
    "ignore_data_skip": "would train a resumed run on other rows",
}
"""Arguments that stay at their defaults, and why."""
FIXED |= dict.fromkeys(["bf16_full_eval", "fp16_full_eval"], "would cast the weights that are trained and saved")

DEALING = {"dispatch_batches": True, "split_batches": True, "even_batches": False}
"""Values of `accelerator_config` that are refused: only without them does each process collate full batches."""

BELOW_1 = math.nextafter(1, 0)
LARGEST = {"adam_beta1": BELOW_1, "adam_beta2": BELOW_1}
LARGEST |= {"seed": 2**32 - 1, "data_seed": 2**32 - 1}  # NumPy takes no larger one
"""The largest value, where there is one; infinity itself is never allowed."""


@dataclasses.dataclass
class ObjectiveTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with an optimizer choice and the full decode. Every other field is theirs.

    Raises:
        ValueError: a number that is NaN, infinite or out of range, or a choice that this Trainer does not keep.

    Example:
        >>> args = ObjectiveTrainingArguments("outputs/run", optimizer="muon", max_steps=1_000, eval_strategy="steps")
        >>> args.muon_learning_rate, args.remove_unused_columns
        (0.005, False)
    """

    optimizer: Literal["adamw", "muon"] = HfArg(
        help="`adamw` (the `optim` of TrainingArguments), or `muon` beside AdamW.", default="adamw"
    )
    muon_learning_rate: float = HfArg(help="Learning rate of Muon's matrices.", default=5e-3)
    full_decode: bool = HfArg(help="Decode free answers token by token at every evaluation; slower.", default=False)
    remove_unused_columns: bool = HfArg(help="Kept off: the objective needs all columns.", default=False)
    dataloader_pin_memory: bool = HfArg(
        help="Pin batches in memory; default: with a GPU only.", default_factory=torch.cuda.is_available
    )
    logging_nan_inf_filter: bool = HfArg(help="Kept off: a NaN loss stops training.", default=False)

    def __post_init__(self) -> None:
        check_numbers(self)
        if needs_cpu():
            self.use_cpu = True
        adopt_launch(self)
        # The one name of earlier versions of transformers, of which later ones warn; so one recipe is for both.
        if self.gradient_checkpointing is not None and getattr(self, "activation_checkpointing", False) is None:
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        if self.optimizer == "muon" and self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"optim={self.optim.value!r} is a choice of optimizer='adamw'; leave one of the two out.")
        if self.hub_strategy in ("checkpoint", "all_checkpoints"):
            raise ValueError(
                f"hub_strategy={self.hub_strategy.value!r} would publish optimizer states, which are pickles; give "
                "every_save (the weights of every checkpoint) or end."
            )
        for name, reason in FIXED.items():
            if (value := getattr(self, name)) != self.__dataclass_fields__[name].default:
                raise ValueError(f"{name}={value!r} {reason}; leave it out.")
        if self.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            by_length = f"train_sampling_strategy={self.train_sampling_strategy!r}"
            raise ValueError(f"{by_length} looks for input_ids, which tokenised rows have not; leave it out.")
        for name, value in DEALING.items():
            if getattr(self.accelerator_config, name) == value:
                dealt = "deals out other rows than are counted"
                raise ValueError(f"accelerator_config: {name}={value} {dealt}; leave it out.")


UNUSED = {
    "compute_loss_func": "the loss is the objective's own",
    "preprocess_logits_for_metrics": "metrics are made of decoded tokens",
}
"""Arguments of `transformers.Trainer` that an `ObjectiveTrainer` would not use, and why."""


def check_used(args: TrainingArguments, given: Mapping[str, Any]) -> None:
    """ValueError for an argument of the Trainer that would be taken and not used, and for arguments of another one."""
    if not isinstance(args, ObjectiveTrainingArguments):
        raise ValueError(f"args are {type(args).__name__}; give nt_failures.ObjectiveTrainingArguments(...).")
    unused = dict(UNUSED)
    if args.optimizer == "muon":
        unused |= dict.fromkeys(["optimizers", "optimizer_cls_and_kwargs"], "optimizer='muon' chooses another one")
    for name, reason in unused.items():
        if given.get(name) not in (None, (None, None)):
            raise ValueError(f"{name} would not be used, as {reason}; leave it out.")


def check_numbers(args: TrainingArguments) -> None:
    """ValueError unless each number is its default, or finite and in range.

    Called before anything else: a NaN passes every comparison that asks whether a number is too large or too small.
    """
    for field in dataclasses.fields(args):
        value, kinds = getattr(args, field.name), {field.type, *typing.get_args(field.type)} & {int, float}
        if not kinds or value is field.default:
            continue
        least, largest = LEAST.get(field.name, 0), LARGEST.get(field.name, math.inf)
        number = isinstance(value, Integral if int in kinds else Real) and not isinstance(value, bool)
        if not (number and least <= value <= largest and abs(value) != math.inf):  # false for NaN
            kind = "a whole number" if int in kinds else "a finite number"
            limit = {math.inf: "", BELOW_1: " and < 1"}.get(largest, f" and <= {largest}")
            raise ValueError(f"{field.name}={value!r} cannot be used; give {kind} >= {least}{limit}, or leave it out.")


def needs_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several processes and there is no GPU for it.

    Unless told to use the CPU, accelerate then joins nothing: each process would train alone, all into the same folder.
    """
    several = "LOCAL_RANK" in environment and int(environment.get("WORLD_SIZE", "1")) > 1
    device = torch.accelerator.current_accelerator(check_available=True)  # a build for GPUs may find none
    return several and (device is None or device.type == "mps")


def adopt_launch(args: TrainingArguments) -> None:
    """Make what `accelerate launch` changes of the training part of its arguments, which are recorded and compared.

    ValueError for a compiler or a precision that it was told to use, which would stand nowhere.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16", "fp16"):
        raise ValueError(f"accelerate launch --mixed_precision {launched} is in no recipe; give bf16, fp16 or no.")
    if launched in ("bf16", "fp16") and not (args.bf16 or args.fp16):
        setattr(args, launched, True)
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no" and not args.torch_compile:
        raise ValueError(
            f"accelerate launch compiles with dynamo_backend {backend!r}, which no recipe would repeat; give "
            f"--torch_compile true --torch_compile_backend {backend} in its place."
        )


def launch_note(script: str, world_size: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """A note where `accelerate launch` was asked for several processes on a CPU and silently started one; else None."""
    # Its launcher for one process sets an address to meet at only where several were asked for (accelerate 1.15).
    launched = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    if world_size > 1 or not launched or "WORLD_SIZE" in environment:
        return None
    return (
        "note: accelerate launch was asked for several processes, and without GPUs it has started one. For two on the "
        f"CPU:\n  torchrun --nproc_per_node 2 {script} ...\n"
        f"or: accelerate launch --config_file examples/accelerate_configs/cpu_2.yaml {script} ..."
    )
