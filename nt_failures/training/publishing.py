"""SavingTrainer: a `transformers.Trainer` that keeps, loads and publishes a model with what an objective attached to it."""

import shutil
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from nt_failures.hub.card import write_card
from nt_failures.hub.card_data import base_model
from nt_failures.hub.description import save_run
from nt_failures.hub.environment import hardware, versions
from nt_failures.hub.load import load
from nt_failures.hub.push import Again, explained, logger, make_branch, make_repo, reason, upload
from nt_failures.hub.run_files import PUSHED
from nt_failures.hub.run_results import RunResults
from nt_failures.models import lora
from nt_failures.models.families import from_folder
from nt_failures.models.load import ADAPTER_WEIGHTS, parameter_count
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task
from nt_failures.training.budget import budget_of, changed_arguments, learning_curve
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
        return lora.has_adapter(auxiliary_modules.unwrap_model(self.model))

    def _load_rest(self, folder: str) -> None:
        """What transformers does not load by itself."""
        if self._adapter:
            lora.load_weights(auxiliary_modules.unwrap_model(self.model), Path(folder) / ADAPTER_WEIGHTS)
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
            lora.save(auxiliary_modules.unwrap_model(self.model), rest, folder)
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


def push_trainer(
    trainer: Any,
    commit_message: str | None,
    blocking: bool,
    token: str | None,
    revision: str | None,
    private: bool | None,
    **card_options: Any,
) -> CommitInfo | Future | None:
    """What `ObjectiveTrainer.push_to_hub` does: that of transformers, with our card and our choice of files."""
    args, folder = trainer.args, Path(trainer.args.output_dir)
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    token = token if token is not None else args.hub_token
    trainer.save_model(_internal_call=True)  # by all processes
    if not trainer.is_world_process_zero():
        return None
    name = (args.hub_model_id or folder.resolve().name).split("/")[-1]
    trainer.create_model_card(**{"model_name": name, **card_options})
    pushed_revision = args.hub_revision if revision is None else revision
    with explained(args.hub_model_id or name, Again(folder, pushed_revision, private or args.hub_private_repo)):
        if trainer.hub_model_id is None:
            create_repo_of(trainer, token, private)
        make_branch(trainer.hub_model_id, pushed_revision, token)
        trainer._finish_current_push()
        return upload(folder, trainer.hub_model_id, commit_message, token, pushed_revision, not blocking)


def create_repo_of(trainer: Any, token: str | None, private: bool | None) -> None:
    """Create the trainer's repository, or find that it is there and may be written; what transformers notes is noted."""
    args = trainer.args
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    token = token if token is not None else args.hub_token
    private = private if private is not None else args.hub_private_repo
    trainer.hub_model_id = make_repo(name, args.hub_revision, token, private)
    trainer.push_in_progress = None


def push_checkpoint(trainer: Any, checkpoint: Path) -> None:
    """Push the weights of a checkpoint in the background; a failure is a warning, never the end of the training."""
    args, earlier = trainer.args, trainer.push_in_progress
    if earlier is not None and not earlier.is_done() and not args.hub_always_push:
        return
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    staged = Path(tempfile.mkdtemp())  # a checkpoint may be deleted (save_total_limit) before it is sent
    for pattern in PUSHED:
        for path in checkpoint.glob(pattern):
            shutil.copy(path, staged)

    def clear(job: Future) -> None:
        shutil.rmtree(staged)
        if job.exception() is not None:
            logger.warning(
                "a push during training failed, training goes on: %s", reason(job.exception(), trainer.hub_model_id)
            )

    message = f"Training in progress, step {trainer.state.global_step}"
    job = upload(staged, trainer.hub_model_id, message, args.hub_token, args.hub_revision, run_as_future=True)
    job.add_done_callback(clear)
    running = [] if earlier is None or earlier.is_done() else earlier.jobs
    trainer.push_in_progress = PushInProgress([*running, job])


def card_of_trainer(
    trainer: Any,
    language: str | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    tasks: str | list[str] | None = None,
    dataset_tags: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
    dataset_args: str | list[str] | None = None,
) -> None:
    """What `ObjectiveTrainer.create_model_card` does, with transformers' arguments.

    `dataset` and `dataset_args` describe results on data that a task does not name; here the task names them.
    """
    folder = Path(trainer.args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if trainer.is_fsdp_enabled:  # one process writes the card, and a sharded model answers only if all of them ask
        model = load(str(folder)).model
    else:
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    results = RunResults.read(folder)
    if not _is_of(results, trainer):
        results = RunResults(**known_results(trainer))
    given = {"language": language, "license": license, "tags": [tags] if isinstance(tags, str) else tags or []}
    given |= {"base_model": finetuned_from, "pipeline_tag": tasks, "datasets": dataset_tags}
    if finetuned_from is None and results.arguments is None:
        given["base_model"] = base_model(model.name_or_path)
    write_card(
        folder,
        model,
        trainer.processing_class,
        trainer.objective,
        trainer.task,
        results,
        name=model_name or folder.resolve().name,
        **given,
    )


def _is_of(results: RunResults, trainer: Any) -> bool:
    """Whether the results on disk are of the model that the trainer holds, not of an earlier one in the same folder."""
    steps = (trainer.state.global_step, trainer.state.best_global_step)
    return results.steps in steps and results.parameters == parameter_count(trainer.model)


def known_results(trainer: Any) -> dict[str, Any]:
    """Those entries of a results.json that a trainer knows by itself."""
    task, known = trainer.task, {"training_arguments": changed_arguments(trainer.args)}
    known |= {"parameters": parameter_count(trainer.model), "versions": versions(), "hardware": hardware()}
    known["learning_curve"] = learning_curve(trainer.state)
    if from_folder(auxiliary_modules.unwrap_model(trainer.model).name_or_path):
        known["local"] = ["model"]
    evaluated = [entry for entry in trainer.state.log_history if "eval_loss" in entry or "eval_free/exact" in entry]
    if evaluated:
        last = {name.removeprefix("eval_"): value for name, value in evaluated[-1].items() if name.startswith("eval_")}
        known["metrics"] = last
    if evaluated and trainer.eval_rows is not None:
        known["n"] = trainer.eval_rows
    if task is not None:
        known |= {"chance": task.chance, "decision_position": task.decision_position(trainer.objective.order)}
    if trainer.throughput is not None:
        known["throughput"] = trainer.throughput.to_dict()
    if trainer.state.global_step:
        budget = budget_of(trainer)
        known |= {"steps": budget.steps, "examples": budget.examples, "flops": budget.flops}
    return known
