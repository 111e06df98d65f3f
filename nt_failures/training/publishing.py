"""PublishMixin: the model card of an ObjectiveTrainer, and its push to the Hub."""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.utils import PushInProgress

from nt_failures.hub.card import write_card
from nt_failures.hub.card_data import base_model
from nt_failures.hub.environment import hardware, versions
from nt_failures.hub.integrity import save_run
from nt_failures.hub.load import load
from nt_failures.hub.push import explained, logger, make_repo, reason, upload
from nt_failures.hub.run_files import PUSHED
from nt_failures.hub.run_results import RunResults
from nt_failures.models.families import from_folder
from nt_failures.objectives import auxiliary_modules
from nt_failures.training.budget import budget_of, changed_arguments, learning_curve
from nt_failures.training.compat import wait_for_pushes


class PublishMixin:
    """Card and push, for a `transformers.Trainer` with the attributes of an `ObjectiveTrainer`."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `transformers.Trainer`, before training; says what is missing if the Hub refuses or is out of reach."""
        if self.is_world_process_zero():
            token = token if token is not None else self.args.hub_token
            private = private if private is not None else self.args.hub_private_repo
            with explained(self._repo_name):
                self.hub_model_id = make_repo(self._repo_name, self.args.hub_revision, token, private)
            self.push_in_progress = None

    @property
    def _repo_name(self) -> str:
        return self.args.hub_model_id or Path(self.args.output_dir).resolve().name

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
        args, folder = self.args, Path(self.args.output_dir)
        self.callback_handler.on_push_begin(args, self.state, self.control)
        token = token if token is not None else args.hub_token
        self.save_model(_internal_call=True)  # by all processes
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**{"model_name": self._repo_name.split("/")[-1], **kwargs})
        revision = args.hub_revision if revision is None else revision
        private = args.hub_private_repo if private is None else private
        with explained(self._repo_name, folder, revision, private):
            self.hub_model_id = make_repo(self.hub_model_id or self._repo_name, revision, token, private)
            wait_for_pushes(self)
            return upload(folder, self.hub_model_id, commit_message, token, revision, not blocking)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint's weights in the background; a failure is a warning, never the end of the training."""
        args, earlier = self.args, self.push_in_progress
        running = [] if earlier is None or earlier.is_done() else earlier.jobs
        waits = running and not args.hub_always_push
        if not self.is_world_process_zero() or args.hub_strategy == "end" or waits:
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        staged = Path(tempfile.mkdtemp())  # a checkpoint may be deleted (save_total_limit) before it is sent
        for pattern in PUSHED:
            for path in Path(checkpoint_folder).glob(pattern):
                shutil.copy(path, staged)
        save_run(staged, self.training_objective, self.task)  # with the hashes, which a checkpoint does not have

        def clear(job: Future) -> None:
            shutil.rmtree(staged)
            if (error := job.exception()) is not None:
                logger.warning("a push during training failed, training goes on: %s", reason(error, self.hub_model_id))

        message = f"Training in progress, step {self.state.global_step}"
        job = upload(staged, self.hub_model_id, message, args.hub_token, args.hub_revision, run_as_future=True)
        job.add_done_callback(clear)
        self.push_in_progress = PushInProgress([*running, job])

    def create_model_card(
        self,
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
        """Write README.md and its figures into the output folder. Arguments: as in `transformers.Trainer`.

        `dataset` and `dataset_args` are not used: the task names the data of the results.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if self.is_fsdp_enabled:  # one process writes the card, and a sharded model answers only if all of them ask
            model = load(str(folder)).model
        else:
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        results = self.results or self._known_results()
        given = {"language": language, "license": license, "tags": [tags] if isinstance(tags, str) else tags or []}
        given |= {"base_model": finetuned_from, "pipeline_tag": tasks, "datasets": dataset_tags}
        if finetuned_from is None and results.arguments is None:
            given["base_model"] = base_model(model.name_or_path)
        name = model_name or folder.resolve().name
        write_card(
            folder, model, self.processing_class, self.training_objective, self.task, results, name=name, **given
        )

    def _known_results(self) -> RunResults:
        """Those entries of a results.json that a trainer knows by itself."""
        known = {"parameters": auxiliary_modules.stock_parameters(self.model)}
        known["training_arguments"] = changed_arguments(self.args)
        known |= {"versions": versions(), "hardware": hardware(self.args.device), "throughput": self.throughput}
        watched = [entry for entry in self.state.log_history if entry not in self.of_other_rows]
        known["learning_curve"] = learning_curve(watched)
        if from_folder(auxiliary_modules.unwrap_model(self.model).name_or_path):
            known["local"] = ["model"]
        spent = budget_of(self) if self.is_in_train else self._spent
        steps = spent.steps - self.earlier.steps  # of the last training, as the log counts them; else of another model
        if last := _evaluated(self.state.log_history, "test_", steps) or _evaluated(watched, "eval_", steps):
            known["metrics"] = {k[len("eval_") :]: v for k, v in last.items() if k.startswith(("eval_", "test_"))}
            same = self.evaluation is not None and self.evaluation.metrics.items() <= last.items()
            rows = self.evaluation.num_samples if same else None
            known["n"] = known["metrics"].get("problems", rows)
            known["rows"] = rows if "problems" in known["metrics"] else None
            known["chance"] = known["metrics"].get("chance")
        if self.task is not None:
            decision = self.task.decision_position(self.training_objective.order)
            chance = self.task.chance if decision else None  # else only the rows know
            known |= {"chance": known.get("chance", chance), "decision_position": decision or None}
        if self.state.global_step:
            known |= dataclasses.asdict(spent)
        return RunResults(**known)


def _evaluated(log: Sequence[Mapping[str, float]], start: str, step: int) -> Mapping[str, float]:
    """The last evaluation at this step whose metrics begin so; empty where there is none."""
    names = {f"{start}loss", f"{start}free/exact"}
    return next((entry for entry in reversed(log) if entry["step"] == step and names & entry.keys()), {})
