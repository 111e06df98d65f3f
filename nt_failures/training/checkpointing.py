"""CheckpointMixin: how an ObjectiveTrainer saves its model, writes checkpoints, and resumes from whole ones."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from nt_failures.hub.integrity import description, save_run
from nt_failures.hub.json_files import portable, read_object
from nt_failures.hub.load import stock_model
from nt_failures.hub.run_files import EXTRA, MODEL, RUN_FILE, TOKENIZER
from nt_failures.models import lora
from nt_failures.models.load import ADAPTER_WEIGHTS
from nt_failures.objectives import auxiliary_modules
from nt_failures.training import checkpoint_files
from nt_failures.training.callbacks import StopWhenSolved
from nt_failures.training.compat import run_folder


class _KnowsBest(TrainerCallback):
    """Puts the best checkpoint of a resumed run into the state, once the Trainer has read that."""

    def __init__(self, best: str | None):
        self.best = best

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.best_model_checkpoint = self.best


class CheckpointMixin:
    """Saving, loading and resuming, for a `transformers.Trainer` with a `training_objective` and a `task`.

    A folder that it saves holds a stock model or adapter, and beside it the objective, its modules and the task.
    """

    resumed_at: int = 0
    """the step of the checkpoint from which the last `train` went on"""
    best_flos: float = 0.0
    """FLOPs up to the best checkpoint, once it is loaded"""
    _best: str | None = None
    """the best checkpoint up to there"""
    last_checkpoint: Path | None = None
    """the checkpoint that is being written, or was written last, or from which the last `train` went on"""
    _read_from: str = ""
    """the checkpoint that is being loaded, or was loaded last"""
    _save_total_limit: int | None = None

    def _checkpoint_to_resume(self, asked: str | bool | None) -> Path | None:
        """The folder to resume from; where `True` was asked for, the newest whole checkpoint."""
        found = Path(asked) if asked and asked is not True else None
        if asked is True and (found := checkpoint_files.newest_whole(Path(self.args.output_dir))) is None:
            raise ValueError(f"output_dir {self.args.output_dir!r} holds no whole checkpoint to resume.")
        if found is not None and not (found / checkpoint_files.STATE_FILE).is_file():
            raise ValueError(f"{found} is no checkpoint, as it has no {checkpoint_files.STATE_FILE}; give another one.")
        if found is not None and (found / RUN_FILE).is_file():
            self._check_same_training(found)
        self.last_checkpoint = found
        return found

    def _check_same_training(self, folder: Path) -> None:
        """ValueError for a checkpoint of another objective or task, or of other options: that is no one training."""
        began, now = read_object(folder / RUN_FILE), description(self.training_objective, self.task)
        began, now = portable(began), portable(now)
        for part in ("objective", "task"):
            for name, value in began.get(part, {}).items() if part in now else ():
                if now[part].get(name) != value:
                    raise ValueError(
                        f"{folder} was trained with {name}={value!r}, not {now[part].get(name)!r}; resume it under the "
                        f"{part} that it began with, or start a new run from its weights."
                    )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in `transformers.Trainer`; ValueError for other rates of the schedule, or other groups of parameters."""
        asked = [group.get("initial_lr") for group in self.optimizer.param_groups]
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:  # of torch
            raise ValueError(f"{checkpoint} is of another optimizer ({error}); resume it with its own.") from error
        if asked != (kept := [group.get("initial_lr") for group in self.optimizer.param_groups]):
            raise ValueError(
                f"{checkpoint} was trained at the learning rates {kept}, with which resuming goes on, not at {asked}; "
                "give those, or start a new run from its weights."
            )

    def _load_finished(self, folder: Path) -> TrainOutput | None:
        """Load a checkpoint with nothing left to train; None, with nothing loaded, if training can go on from it."""
        state = TrainerState.load_from_json(str(folder / checkpoint_files.STATE_FILE))
        self.resumed_at, self._best = state.global_step, self._best_beside(folder, state)
        if not self._is_finished(state):
            if not (any(folder.glob("optimizer*")) or any(folder.glob("global_step*"))):  # the latter are DeepSpeed's
                raise ValueError(
                    f"{folder} holds no optimizer (save_only_model), so training cannot go on from it; give it as the "
                    "model of a new run, or train again without save_only_model."
                )
            return None
        if self.is_fsdp_enabled:  # which shards a model only together with an optimizer that trains it
            raise ValueError(
                f"{folder}, at step {state.global_step}, is finished already, and FSDP evaluates only what it trains; "
                f"give a larger --max_steps, or evaluate the checkpoint: python examples/diagnose.py {folder}."
            )
        self._load_from_checkpoint(str(folder))
        state.is_local_process_zero = self.is_local_process_zero()
        state.is_world_process_zero = self.is_world_process_zero()
        self.state, state.best_model_checkpoint = state, self._best
        if self.args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load_best_model()
        return TrainOutput(state.global_step, math.nan, {})

    def _best_beside(self, folder: Path, state: TrainerState) -> str | None:
        """The best checkpoint so far, of this run: what stands at the recorded path may be another's by now."""
        if state.best_model_checkpoint is None:
            return None
        best = folder.resolve().parent / Path(state.best_model_checkpoint).name
        if damage := checkpoint_files.damage(best) if best.is_dir() else "it is missing":
            if self.args.load_best_model_at_end:
                raise ValueError(
                    f"{best}, the best checkpoint up to {folder.name}, is not whole ({damage}); bring it back, or "
                    "resume without load_best_model_at_end."
                )
            return None
        return str(folder.parent / best.name)

    def _is_finished(self, state: TrainerState) -> bool:
        """Whether a resumed run has nothing left to train. Behind whole epochs the Trainer stops by itself."""
        steps = self.args.max_steps
        if steps <= 0 and self.args.num_train_epochs % 1:
            *_, steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        solved = any(c.solved(state) for c in self.callback_handler.callbacks if isinstance(c, StopWhenSolved))
        return solved or 0 < steps <= state.global_step

    @contextlib.contextmanager
    def _own_checkpoints(self, resumed: bool) -> Iterator[None]:
        """Keep the Trainer from deleting, at a save and at the end, checkpoints that `rotate` keeps, and from loading
        the best one from where it had been recorded."""
        self._save_total_limit, self.args.save_total_limit = self.args.save_total_limit, None
        on_start = self.args.eval_on_start
        self.args.eval_on_start = on_start and not resumed  # a resumed run has been at this step before
        found = _KnowsBest(self._best)
        if resumed:
            self.add_callback(found)
        try:
            yield
        finally:
            if resumed:
                self.remove_callback(found)
            self.args.save_total_limit, self.args.eval_on_start = self._save_total_limit, on_start

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """The Trainer's, then the manifest, then the rotation: at no moment is there no whole checkpoint."""
        run = run_folder(self, trial)
        folder = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if folder == self.last_checkpoint:  # the end of an epoch on the step of a save: the same weights
            return
        self.last_checkpoint = folder
        if self.args.should_save:
            checkpoint_files.remove(folder)  # of a run that was stopped here; a file of it might outlive the new ones
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint_files.seal(folder)
            checkpoint_files.rotate(run, self._save_total_limit, self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        state = self.accelerator.get_state_dict(self.model) if state_dict is None else state_dict
        if self.is_fsdp_enabled:  # gathered, a tied weight stands there twice, no longer seen to be one
            state = {name: t for name, t in state.items() if name not in self.model.all_tied_weights_keys}
        if not self.args.should_save:  # the other processes only take part in gathering what is sharded
            super()._save(output_dir, state)
            return
        # Of an earlier model in this folder, for one of another form would be read beside it, or in its place.
        for pattern in (*MODEL, *(() if self.processing_class is None else (*TOKENIZER, *EXTRA))):
            for earlier in folder.glob(pattern):
                earlier.unlink()
        rest = auxiliary_modules.save(state, folder, self._adapter)
        if self._adapter:
            lora.save(auxiliary_modules.unwrap_model(self.model), rest, folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
        else:
            super()._save(output_dir, rest)
        # Hashing reads all of the weights again; for a checkpoint, its manifest does.
        save_run(folder, self.training_objective, self.task, hashes=folder != self.last_checkpoint)
        # A pickle that nothing reads, and that holds the token of `hub_token`.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """In place of warnings: what the Trainer left out is read as `from_pretrained` does.

        It leaves out weights whose names in a checkpoint are others, such as GPT-NeoX's unembedding `embed_out`. A tied
        weight and an objective's modules are missing as they should be: once is enough, and these have a file of their
        own.

        Raises:
            ValueError: a weight is missing.
        """
        model = auxiliary_modules.unwrap_model(self.model)
        lost = {*load_result.missing_keys} - {*model.all_tied_weights_keys}
        if load_result.unexpected_keys or any(not name.startswith(f"{auxiliary_modules.NAME}.") for name in lost):
            stock = stock_model(self._read_from, {"dtype": model.dtype})
            model.load_state_dict(stock.state_dict(), strict=False)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self._read_from = resume_from_checkpoint
        if not self._adapter:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_rest(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        self._read_from = self.state.best_model_checkpoint
        if not self._adapter:
            super()._load_best_model()
        folder = Path(self.state.best_model_checkpoint)
        self._load_rest(str(folder))
        self.best_flos = TrainerState.load_from_json(str(folder / checkpoint_files.STATE_FILE)).total_flos

    def _load_rest(self, folder: str) -> None:
        """An adapter and an objective's modules, which transformers does not load by itself."""
        if self._adapter:
            lora.load_weights(auxiliary_modules.unwrap_model(self.model), Path(folder) / ADAPTER_WEIGHTS)
        # A sharded checkpoint holds model and modules as one, and has brought both back.
        if auxiliary_modules.in_own_file(self.model) and not self.is_fsdp_enabled:
            auxiliary_modules.load(self.model, Path(folder) / auxiliary_modules.MODULES_FILE)

    @property
    def _adapter(self) -> bool:
        return lora.has_adapter(auxiliary_modules.unwrap_model(self.model))
