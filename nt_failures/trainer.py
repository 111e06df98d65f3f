"""ObjectiveTrainer: a `transformers.Trainer` that trains under any objective and evaluates by decoding.

It adds three things to the Trainer and nothing else: the loss is the objective's, the metrics come from predictions
(forced, free, parallel), and the objective and task are saved beside the model.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, HubStrategy

from nt_failures import decoding, hub, run_card, scoring
from nt_failures.models import check_needs
from nt_failures.objectives.base import Objective
from nt_failures.optimizers import MuonAdamW
from nt_failures.records import save_run
from nt_failures.tasks.base import Task

OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass
class ObjectiveTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with an optimizer choice and the full decode. Every other field is theirs."""

    remove_unused_columns: bool = dataclasses.field(
        default=False, metadata={"help": "Kept off: the objective needs the columns that a model's forward does not."}
    )
    dataloader_pin_memory: bool = dataclasses.field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin batches in memory; default: with a GPU only."}
    )
    optimizer: str = dataclasses.field(
        default="adamw",
        metadata={"help": "`adamw` (the `optim` of TrainingArguments), or `muon` for matrices beside AdamW."},
    )
    muon_learning_rate: float = dataclasses.field(default=5e-3, metadata={"help": "Learning rate of Muon's matrices."})
    full_decode: bool = dataclasses.field(
        default=False,
        metadata={"help": "Decode token by token at every evaluation: adds free accuracies per position; slower."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is not a choice; give one of {', '.join(OPTIMIZERS)}.")
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self.hub_strategy.value!r} would publish optimizer states, which are pickles; give "
                "every_save (the weights of every checkpoint) or end."
            )


class ObjectiveTrainer(Trainer):
    """Train a stock causal LM under an objective.

    Metrics of `evaluate`, as shares in 0..1 (k counts answer symbols from 1, in the task's own order):
        `eval_forced/exact`, `eval_forced/position_k`: argmax with the true earlier tokens revealed, one forward pass.
        `eval_free/exact`: the objective's own decoding, which never sees the target. For an autoregressive objective it
            equals `forced/exact`: up to the first error, both see the same input. So it costs no pass of its own.
        `eval_free/position_k`: token by token; only with `full_decode` for autoregressive objectives.
        `eval_parallel/...`: one pass behind dummies, where the objective trains for it.
        `eval_decision`, `eval_chance`: accuracy at the task's decision (forced; the own decoding of an objective that is
            not autoregressive), and what guessing gives (with a `task`).

    Args:
        objective: how targets are shown and predictions read; its modules are attached to the model here.
        task: what the data are; saved beside the model, and the source of `decision` and `chance`. Optional.
        Everything else: as in `transformers.Trainer`; datasets are rows of `nt_failures.tokenize`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: ObjectiveTrainingArguments,
        *,
        objective: Objective,
        task: Task | None = None,
        **kwargs: Any,
    ):
        check_needs(objective, model)
        objective.attach(model)
        self.objective = objective
        self.task = task
        self.eval_rows: int | None = None  # of the last `evaluate`, for the intervals of the card
        kwargs.setdefault("compute_metrics", functools.partial(objective_metrics, objective=objective, task=task))
        kwargs.setdefault("data_collator", objective.collate)
        super().__init__(model, args, **kwargs)
        # The objective's loss is a sum; it is divided by the labels of the whole accumulated batch, on every model.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, dict]:
        """Mean loss per labelled token of the whole accumulated batch, over all processes."""
        loss = self.objective.loss(model, inputs)
        if num_items_in_batch is None:
            value = loss.sum / loss.count.clamp(min=1)
        else:
            value = loss.sum / num_items_in_batch
            if self.args.average_tokens_across_devices:
                value = value * self.accelerator.num_processes  # DDP takes the mean of the gradients
        return (value, {}) if return_outputs else value

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's own optimizer, or Muon beside AdamW."""
        if self.optimizer is None and self.args.optimizer == "muon":
            self.optimizer = MuonAdamW(
                self.model if model is None else model,
                lr=self.args.learning_rate,
                muon_lr=self.args.muon_learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
            )
            return self.optimizer
        return super().create_optimizer() if model is None else super().create_optimizer(model)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader:
        """Batches of the objective, with the answers beside them."""
        with self._collating_answers():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> torch.utils.data.DataLoader:
        """Batches of the objective, with the answers beside them."""
        with self._collating_answers():
            return super().get_test_dataloader(test_dataset)

    @contextlib.contextmanager
    def _collating_answers(self) -> Iterator[None]:
        collate = self.data_collator
        self.data_collator = functools.partial(_collate_answers, objective=self.objective)
        try:
            yield
        finally:
            self.data_collator = collate

    @torch.no_grad()
    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None, dict[str, torch.Tensor] | None]:
        """Loss, predicted ids by way of decoding, and the answers, for one batch."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs).detach()
            if prediction_loss_only:
                return loss, None, None
            plain = self.accelerator.unwrap_model(model, keep_torch_compile=False)
            predictions = predict(plain, self.objective, inputs, full_decode=self.args.full_decode)
        answers = {name: self.objective.reorder(inputs[name]) for name in ("target_ids", "target_positions")}
        return loss, predictions, answers

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As in `transformers.Trainer`; remembers how many rows the metrics stand on."""
        output = super().evaluation_loop(*args, **kwargs)
        self.eval_rows = output.num_samples
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        save_run(folder, self.objective, self.task)
        # A pickle that nothing reads, and that holds the token of `hub_token`.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `transformers.Trainer`, before training; says what is missing if the Hub refuses or is out of reach."""
        if self.is_world_process_zero():
            with hub.explained(self.args.hub_model_id or Path(self.args.output_dir).resolve().name):
                hub.create_repo_of(self, token, private)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write README.md and its figures into the output folder. Arguments: as in `transformers.Trainer`."""
        if self.is_world_process_zero():
            run_card.card_of_trainer(self, *args, **kwargs)

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
        return hub.push_trainer(self, commit_message, blocking, token, revision, private, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero() and self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            hub.push_checkpoint(self, Path(checkpoint_folder))


def predict(
    model: PreTrainedModel, objective: Objective, batch: Mapping[str, torch.Tensor], full_decode: bool = False
) -> dict[str, torch.Tensor]:
    """Predicted ids (B, T) in the task's own order, by way: `forced`, `free` and `parallel` as they apply.

    Args:
        batch: `prefix_ids`, `prefix_mask`, `target_ids` as `Objective.layout` makes them (the objective's order).
        full_decode: decode autoregressive objectives token by token; otherwise their `free` is left out.
    """
    prefix, mask, target = batch["prefix_ids"], batch["prefix_mask"], batch["target_ids"]
    lengths = target.ne(scoring.IGNORE).sum(dim=1)
    predictions = {"forced": objective.reorder(decoding.one_pass(model, prefix, mask, target))}
    first = objective.decodings[0]
    if first == "parallel" or full_decode:
        predictions["free"] = objective.decode(model, prefix, lengths, mask)
    if first != "parallel" and "parallel" in objective.decodings:
        predictions["parallel"] = objective.decode(model, prefix, lengths, mask, way="parallel")
    return predictions


def objective_metrics(output: EvalPrediction, objective: Objective, task: Task | None) -> dict[str, float]:
    """The metrics of `ObjectiveTrainer.evaluate` from gathered predictions."""
    target, positions = output.label_ids["target_ids"], output.label_ids["target_positions"]
    metrics = scoring.path_metrics(output.predictions, target, positions)
    metrics.setdefault("free/exact", metrics["forced/exact"])
    if task is not None:
        # Forced where it decodes token by token: a model trained on the decision alone writes junk before it when free.
        way = "forced" if objective.decodings[0] == "autoregressive" else "free"
        metrics["decision"] = metrics[f"{way}/position_{task.decision_position(objective.order)}"]
        metrics["chance"] = task.chance
    return metrics


def _collate_answers(examples: Sequence[Mapping[str, Any]], objective: Objective) -> dict[str, torch.Tensor]:
    return {**objective.layout(examples), **objective.collate(examples)}
