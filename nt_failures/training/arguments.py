"""The settings of an ObjectiveTrainer and of a run of examples/train.py: `transformers.TrainingArguments` and ours."""

import dataclasses
from collections.abc import Sequence

import torch
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import HubStrategy

from nt_failures.hub.json_files import check_finite
from nt_failures.training import launch
from nt_failures.training.limits import check_numbers
from nt_failures.training.options import RunOptions, TrainerOptions

OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass
class ObjectiveTrainingArguments(TrainerOptions, TrainingArguments):
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

    def __post_init__(self) -> None:
        check_numbers(self)
        if launch.needs_cpu():
            self.use_cpu = True
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is not a choice; give one of {', '.join(OPTIMIZERS)}.")
        if self.optimizer == "muon" and self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"optim={self.optim.value!r} is a choice of optimizer='adamw'; leave one of the two out.")
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns=True would remove what the objective reads, columns that a model's forward has no argument "
                "for; leave it out."
            )
        if not self.eval_do_concat_batches:
            raise ValueError("eval_do_concat_batches=False leaves no whole predictions to count; leave it out.")
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={self.label_smoothing_factor!r} would change nothing, as the loss is the "
                "objective's own; leave it out, or write an objective with a smoothed loss."
            )
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self.hub_strategy.value!r} would publish optimizer states, which are pickles; give "
                "every_save (the weights of every checkpoint) or end."
            )


@dataclasses.dataclass
class RunArguments(RunOptions, ObjectiveTrainingArguments):
    """How the run behaves: all of TrainingArguments, and these."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sample_rows <= 100:
            raise ValueError(f"sample_rows={self.sample_rows} is not in 0..100; 0 shows none.")
        if self.stop_when_solved < 0:
            raise ValueError(
                f"stop_when_solved={self.stop_when_solved} must be a number of evaluations; 0 never stops."
            )
        if self.max_steps == 0:
            raise ValueError("max_steps=0 would train nothing; give at least 1, or -1 for num_train_epochs.")
        if self.prediction_loss_only:
            raise ValueError(
                "prediction_loss_only=True would leave a run without accuracies and verdict; leave it out."
            )
        exclusive = ("overwrite_output_dir", "resume_from_checkpoint", "resume")
        both = [name for name in exclusive if vars(self)[name]]
        if len(both) > 1:
            raise ValueError(f"{both[0]} and {both[1]} exclude each other; give one of them.")
        check_finite("lr_scheduler_kwargs", self.lr_scheduler_kwargs)
        _check_trackers(self.report_to)


def _check_trackers(names: Sequence[str]) -> None:
    """Make the callbacks as the Trainer will, once the data are built: it is there that they miss their packages."""
    try:
        for callback_class in get_reporting_integration_callbacks(names):
            callback_class()
    except (RuntimeError, ImportError, ValueError) as error:
        raise ValueError(f"report_to={' '.join(map(_plain, names))}: {_plain(str(error))}") from error


def _plain(text: str) -> str:
    """On one line, without characters that move a terminal's cursor, and cut where it goes on for long."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:500])
