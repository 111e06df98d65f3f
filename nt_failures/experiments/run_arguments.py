"""RunArguments: the training arguments of a run of examples/train.py. Apart from arguments.py, as it imports torch."""

import dataclasses

from transformers.integrations import get_reporting_integration_callbacks

from nt_failures.experiments.arguments import RunOptions
from nt_failures.hub.json_files import check_finite
from nt_failures.training.arguments import ObjectiveTrainingArguments


@dataclasses.dataclass
class RunArguments(RunOptions, ObjectiveTrainingArguments):
    """How the run behaves: all of TrainingArguments, and these."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rows > 100:
            raise ValueError(f"sample_rows={self.sample_rows} is not in 0..100; 0 shows none.")
        if self.max_steps == 0:
            raise ValueError("max_steps=0 would train nothing; give at least 1, or -1 for num_train_epochs.")
        if self.prediction_loss_only:
            raise ValueError(
                "prediction_loss_only=True would leave a run without accuracies and verdict; leave it out."
            )
        exclusive = ("overwrite_output_dir", "resume_from_checkpoint", "resume")
        both = [name for name in exclusive if getattr(self, name)]
        if len(both) > 1:
            raise ValueError(f"{both[0]} and {both[1]} exclude each other; give one of them.")
        check_finite("lr_scheduler_kwargs", self.lr_scheduler_kwargs)
        try:
            get_reporting_integration_callbacks(self.report_to)  # the Trainer would find an unknown one after the data
        except ValueError as error:
            raise ValueError(_printable(f"report_to={' '.join(self.report_to)}: {error}")) from error


def _printable(text: str) -> str:
    """Without line breaks and characters that move a terminal's cursor, and cut where it goes on for long."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:1000])
