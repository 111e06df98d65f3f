"""Private names of transformers and torch that this folder needs, each with the public API that would replace it.

Some methods of the Trainer are replaced, and so cannot stand here:

| replaced | no public hook |
|---|---|
| `_save`, `_load_from_checkpoint`, `_load_best_model` | for files beside the weights, on every way to save or load |
| `_issue_warnings_after_load` | for weights that a checkpoint has in another file, once, or under another name |
| `_load_optimizer_and_scheduler` | for the rates before a checkpoint's state replaces them |
| `_save_checkpoint` | after a checkpoint is whole and before older ones are deleted (`on_save` comes after both) |
| `_maybe_log_save_evaluate` | before a log, an evaluation or a checkpoint, which could still be called off |
| `_get_dataloader` | for rows other than those of `datasets`, while `train_dataset` stays as it was given |
| `_get_train_sampler` | for rows that a curriculum draws |
| `_push_from_checkpoint` | for the choice of the files that `hub_strategy` pushes |

`Trainer._prepare_inputs` is called to put batches on the device, and `torch._foreach_...` for Muon's steps.
"""

from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer

__all__ = ["TorchDispatchMode"]  # torch's only way to see every operation


def run_folder(trainer: Trainer, trial: Any) -> Path:
    """Where checkpoints go: `output_dir`, or a folder below it for each trial of a hyperparameter search."""
    return Path(trainer._get_output_dir(trial))


def prepare_anew(trainer: Trainer) -> None:
    """Let the next training prepare a model that an evaluation prepared for itself, without data parallelism.

    accelerate marks the model, and takes one with its mark as it is: each process would train alone. Sharded models it
    refuses by itself.
    """
    if trainer.model is None:  # a search has let go of its last trial's
        return
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    several = trainer.args.world_size > 1 and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    if several and vars(model).pop("_is_accelerate_prepared", False):
        trainer.model_wrapped = model


def wait_for_pushes(trainer: Trainer) -> None:
    """Wait until the pushes of checkpoints are done; `push_in_progress` is public, its waiting is not."""
    trainer._finish_current_push()
