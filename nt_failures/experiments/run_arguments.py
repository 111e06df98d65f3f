"""RunArguments: the training arguments of a run of examples/train.py. Apart from arguments.py, as it imports torch."""

import dataclasses

import torch
from transformers import get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from nt_failures.experiments.arguments import RunOptions
from nt_failures.hub.run_results import SHARE
from nt_failures.registry import first_line
from nt_failures.training.arguments import ObjectiveTrainingArguments


@dataclasses.dataclass
class RunArguments(RunOptions, ObjectiveTrainingArguments):
    """How the run behaves: all of TrainingArguments, and these."""

    def __post_init__(self) -> None:
        super().__post_init__()
        best = self.metric_for_best_model and self.metric_for_best_model.removeprefix("eval_")
        unwatched = f"stop_when_solved={self.stop_when_solved} has no evaluations to stop at"
        broken = {
            f"sample_rows={self.sample_rows} is not in 0..100; 0 shows none": self.sample_rows > 100,
            "max_steps=0 would train nothing; give at least 1, or -1 for num_train_epochs": self.max_steps == 0,
            "prediction_loss_only=True would leave a run without verdict; leave it out": self.prediction_loss_only,
            f"metric_for_best_model={best!r} is measured by no evaluation; give loss, decision, free/exact, ...": (
                best not in (None, "loss") and (not SHARE.fullmatch(best) or best.startswith("cheat/"))
            ),
            "resume_from_checkpoint is not taken; give --resume": self.resume_from_checkpoint,
            "overwrite_output_dir and resume exclude each other": self.overwrite_output_dir and self.resume,
            f"{unwatched}; add --eval_strategy steps": self.stop_when_solved and self.eval_strategy == "no",
        }
        if wrong := [rule for rule, is_broken in broken.items() if is_broken]:
            raise ValueError(f"{wrong[0]}.")
        self._check_schedule()
        try:
            get_reporting_integration_callbacks(self.report_to)  # the Trainer would find an unknown one after the data
        except ValueError as error:
            text = f"report_to={' '.join(self.report_to)}: {error}"[:1000]
            printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)  # moves no terminal's cursor
            raise ValueError(printable) from error

    def _check_schedule(self) -> None:
        """ValueError for a schedule that the Trainer would fail to make, after the data."""
        optimizer, options = torch.optim.SGD([torch.zeros(1)], lr=1.0), dict(self.lr_scheduler_kwargs or {})
        try:
            get_scheduler(self.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=options)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"lr_scheduler_type={self.lr_scheduler_type.value} with lr_scheduler_kwargs={options} cannot be made "
                f"({first_line(error)}); change lr_scheduler_kwargs."
            ) from error
