"""SteadyTrainer: a `transformers.Trainer` whose checkpoints are whole or not counted, and that stops when it diverges.

It changes when things are written and checked, not how it trains.
"""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from nt_failures.training import checkpoint_files, divergence
from nt_failures.training.callbacks import StopWhenSolved


class SteadyTrainer(Trainer):
    """As `transformers.Trainer`, with checkpoints that say whether they are whole, and a watch over the loss.

    Raises, while training:
        FloatingPointError: the loss or a weight is NaN or infinite. On a CPU the loss is checked at every step; elsewhere,
            where a check waits for the device, at each log, evaluation and checkpoint. Weights are checked before each
            checkpoint and at the end, so none is written that holds a NaN.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._watch = divergence.LossWatch()
        self._sealed: Path | None = None
        self._save_total_limit: int | None = None
        self.resumed_at = 0
        """the step of the checkpoint from which the last `train` went on"""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `transformers.Trainer`; `True` resumes the newest whole checkpoint of the output folder.

        A checkpoint at `max_steps`, or of a run that `StopWhenSolved` had stopped, is loaded and nothing is trained (the
        Trainer would take one more step); the training loss returned is then NaN.

        Raises:
            ValueError: there is no whole checkpoint to resume; one without an optimizer; or a finished one, with FSDP.
        """
        self._sealed = None
        if resume_from_checkpoint is True:
            resume_from_checkpoint = checkpoint_files.newest_whole(Path(self.args.output_dir))
            if resume_from_checkpoint is None:
                raise ValueError(f"output_dir {self.args.output_dir!r} holds no whole checkpoint to resume.")
        if resume_from_checkpoint:
            folder = Path(resume_from_checkpoint)
            state = TrainerState.load_from_json(str(folder / checkpoint_files.STATE_FILE))
            self.resumed_at = state.global_step
            if self._is_finished(state):
                return self._load_finished(folder, state)
            if not (any(folder.glob("optimizer*")) or any(folder.glob("global_step*"))):
                raise ValueError(
                    f"{folder} holds no optimizer (save_only_model), so training cannot go on from it: it would begin its "
                    "schedule again. Give it as the model of a new run, or train again without save_only_model."
                )
            resume_from_checkpoint = str(folder)
        # The Trainer's own rotation, at a save and at the end, would delete checkpoints that `rotate` keeps.
        self._save_total_limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            output = super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.args.save_total_limit = self._save_total_limit
        self._check_finite(weights=True)
        return output

    def _is_finished(self, state: TrainerState) -> bool:
        """Whether a resumed run has nothing left to train; whole epochs aside, behind which the Trainer stops by itself."""
        steps = self.args.max_steps
        if steps <= 0 and self.args.num_train_epochs % 1:
            *_, steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        solved = any(c.solved(state) for c in self.callback_handler.callbacks if isinstance(c, StopWhenSolved))
        return solved or 0 < steps <= state.global_step

    def _load_finished(self, folder: Path, state: TrainerState) -> TrainOutput:
        if self.is_fsdp_enabled:  # which shards a model only together with an optimizer that trains it
            raise ValueError(
                f"{folder}, at step {state.global_step}, is finished already, and FSDP evaluates only what it trains; "
                f"give a larger --max_steps, or evaluate the checkpoint: python examples/diagnose.py {folder}."
            )
        self._load_from_checkpoint(str(folder))
        state.is_local_process_zero, state.is_world_process_zero = (
            self.is_local_process_zero(),
            self.is_world_process_zero(),
        )
        self.state = state
        if self.args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load_best_model()
        return TrainOutput(state.global_step, math.nan, {})

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `transformers.Trainer`; notes a loss that is not finite."""
        loss = super().training_step(*args, **kwargs)
        self._watch.see(loss, self.state.global_step + 1, self._get_learning_rate())
        return loss

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        control = self.control
        looked_at = control.should_log or control.should_evaluate or control.should_save
        if looked_at or self.args.device.type == "cpu":
            self._check_finite(weights=control.should_save)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _check_finite(self, weights: bool) -> None:
        bad = self._watch.first_bad(self.accelerator)
        what = "the loss"
        if bad is None and weights and not divergence.finite(self.model, self.accelerator):
            what, bad = "a weight", (self.state.global_step, self._get_learning_rate())
        if bad is not None:
            raise divergence.diverged(
                what, *bad, self.args, checkpoint_files.newest_whole(Path(self.args.output_dir), warn=False)
            )

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """As in `transformers.Trainer`, then the manifest, then the rotation: at no moment is there no whole checkpoint."""
        run = Path(self._get_output_dir(trial))
        folder = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if folder == self._sealed:  # the end of an epoch on the step of a save: the same weights
            return
        if self.args.should_save:
            checkpoint_files.remove(folder)  # of a run that was stopped here; a file of it might outlive the new ones
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint_files.seal(folder)
            checkpoint_files.rotate(run, self._save_total_limit, self.state.best_model_checkpoint)
        self._sealed = folder
