"""What we add to `transformers.TrainingArguments`, apart from it: importing it imports torch, which `--help` need not do."""

import dataclasses
from typing import Any


def option(text: str, default: Any) -> Any:
    """A field that is a flag, with its help."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass
class TrainerOptions:
    """How an ObjectiveTrainer trains and evaluates."""

    optimizer: str = option("`adamw` (the `optim` of TrainingArguments), or `muon` for matrices beside AdamW.", "adamw")
    muon_learning_rate: float = option("Learning rate of Muon's matrices.", 5e-3)
    full_decode: bool = option(
        "Decode token by token at every evaluation: adds free accuracies per position; slower.", False
    )


@dataclasses.dataclass
class RunOptions:
    """How a run of examples/train.py behaves."""

    sample_rows: int = option("Sample predictions shown at every evaluation; 0 for none.", 3)
    overwrite_output_dir: bool = option("Replace an earlier run in output_dir.", False)
    stop_when_solved: int = option("End after so many evaluations in a row at 0.95 or more; 0: never.", 0)
    resume: bool = option("Go on from the newest whole checkpoint in output_dir; begin where there is none.", False)
