"""SavingTrainer: a `transformers.Trainer` that keeps, loads and publishes a model with what an objective attached to it."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy

from nt_failures.hub.push import create_repo_of, explained, push_checkpoint, push_trainer
from nt_failures.hub.run_card import card_of_trainer
from nt_failures.hub.run_files import save_run
from nt_failures.models import lora
from nt_failures.models.load import ADAPTER_WEIGHTS
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task
from nt_failures.training.measured import MeasuredTrainer


class SavingTrainer(MeasuredTrainer):
    """As MeasuredTrainer; a folder that it saves holds a stock checkpoint or adapter, and what describes the run beside it."""

    objective: Objective
    task: Task | None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self._adapter:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_rest(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if not self._adapter:
            super()._load_best_model()
        self._load_rest(self.state.best_model_checkpoint)

    @property
    def _adapter(self) -> bool:
        return lora.has_adapter(auxiliary_modules.plain(self.model))

    def _load_rest(self, folder: str) -> None:
        """What transformers does not load by itself."""
        if self._adapter:
            lora.load_weights(auxiliary_modules.plain(self.model), Path(folder) / ADAPTER_WEIGHTS)
        # A sharded checkpoint holds model and modules as one, and has brought both back.
        if auxiliary_modules.has_modules(self.model) and not self.is_fsdp_enabled:
            auxiliary_modules.load(self.model, Path(folder) / auxiliary_modules.MODULES_FILE)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        state = self.accelerator.get_state_dict(self.model) if state_dict is None else state_dict
        if self.is_fsdp_enabled:  # gathered, a tied weight stands there twice, no longer seen to be one
            state = {name: t for name, t in state.items() if name not in self.model.all_tied_weights_keys}
        if not self.args.should_save:  # the other processes only take part in gathering what is sharded
            super()._save(output_dir, state)
            return
        rest = auxiliary_modules.save(state, folder)
        if self._adapter:
            lora.save(auxiliary_modules.plain(self.model), rest, folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
        else:
            super()._save(output_dir, rest)
        save_run(folder, self.objective, self.task)
        # A pickle that nothing reads, and that holds the token of `hub_token`.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `transformers.Trainer`, before training; says what is missing if the Hub refuses or is out of reach."""
        if self.is_world_process_zero():
            with explained(self.args.hub_model_id or Path(self.args.output_dir).resolve().name):
                create_repo_of(self, token, private)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write README.md and its figures into the output folder. Arguments: as in `transformers.Trainer`."""
        if self.is_world_process_zero():
            card_of_trainer(self, *args, **kwargs)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future | None:
        """Save, write the card and push. Arguments: as in `transformers.Trainer`.

        Pushed are weights, tokenizer, description, results, recipe, card and figures; no pickles, no optimizer states.

        Raises:
            OSError: the push failed; the run is whole on disk, and the message says how to push it again.
        """
        return push_trainer(self, commit_message, blocking, token, revision, private, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero() and self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            push_checkpoint(self, Path(checkpoint_folder))
