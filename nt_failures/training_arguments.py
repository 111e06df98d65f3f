"""ObjectiveTrainingArguments: those of transformers, with what training under an objective adds."""

import dataclasses

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from nt_failures import launch

OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass
class ObjectiveTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with an optimizer choice and the full decode. Every other field is theirs."""

    remove_unused_columns: bool = dataclasses.field(
        default=False, metadata={"help": "Kept off: the objective needs the columns that a model's forward does not."}
    )
    dataloader_pin_memory: bool = dataclasses.field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin batches in memory; default: with a GPU only."}
    )
    logging_nan_inf_filter: bool = dataclasses.field(
        default=False, metadata={"help": "Kept off: it hides a NaN loss, at which training is to stop."}
    )
    optimizer: str = dataclasses.field(
        default="adamw",
        metadata={"help": "`adamw` (the `optim` of TrainingArguments), or `muon` for matrices beside AdamW."},
    )
    muon_learning_rate: float = dataclasses.field(default=5e-3, metadata={"help": "Learning rate of Muon's matrices."})
    full_decode: bool = dataclasses.field(
        default=False,
        metadata={"help": "Decode token by token at every evaluation: adds free accuracies per position; slower."},
    )

    def __post_init__(self) -> None:
        if launch.needs_cpu():
            self.use_cpu = True
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is not a choice; give one of {', '.join(OPTIMIZERS)}.")
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self.hub_strategy.value!r} would publish optimizer states, which are pickles; give "
                "every_save (the weights of every checkpoint) or end."
            )
