"""ObjectiveTrainer: a `transformers.Trainer` that trains under any objective and evaluates by decoding.

Here are the loss, the optimizer, and what a step costs. Batches are in loading.py, evaluation in evaluating.py, saving
and resuming in checkpointing.py, the model card and the push to the Hub in publishing.py, searches in searching.py.
"""

import functools
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import TrainOutput

from nt_failures.data.columns import check_first_rows
from nt_failures.diagnosis import Budget
from nt_failures.evaluation.prediction import collate_answers
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.objectives.checks import check_batch, check_loss, check_tokenizer
from nt_failures.objectives.losses import Loss
from nt_failures.tasks.base import Task
from nt_failures.training import divergence
from nt_failures.training.arguments import ObjectiveTrainingArguments, check_used
from nt_failures.training.budget import budget_of
from nt_failures.training.checkpointing import CheckpointMixin
from nt_failures.training.compat import prepare_anew
from nt_failures.training.evaluating import EvaluationMixin
from nt_failures.training.flops import StepFlops
from nt_failures.training.gradient_shares import GradientShares
from nt_failures.training.loading import LoadingMixin
from nt_failures.training.optimizers import MuonAdamW
from nt_failures.training.publishing import PublishMixin
from nt_failures.training.searching import SearchMixin
from nt_failures.training.seeded_collator import SeededCollator
from nt_failures.training.throughput import Clock


class ObjectiveTrainer(CheckpointMixin, EvaluationMixin, LoadingMixin, PublishMixin, SearchMixin, Trainer):
    """Train a stock causal LM under an objective.

    What `evaluate` measures, such as `eval_free/exact`, is said by `EvaluationMixin` (evaluating.py).

    `state.total_flos` is counted on the first batch of each shape, not estimated, and `throughput` says how fast the
    training went.
    `grad/<part>`, logged at the start, behind 100 steps and at the end, is the norm of a further term's gradient into
    the first block over the next token's: whether an auxiliary loss engages.

    Args:
        model: None with a `model_init`, which `hyperparameter_search` needs (searching.py).
        objective: how targets are shown and predictions read; becomes `training_objective`, its modules attached here.
        task: what the data are; saved beside the model, and the source of `decision` and `chance`. Optional; rows with
            the columns of another task or size are a ValueError.
        Everything else: as in `transformers.Trainer`; datasets are rows of `nt_failures.tokenize`. A `data_collator` of
            one's own is for training alone.

    Raises:
        ValueError: an argument of `transformers.Trainer` that would not be used, such as `compute_loss_func`.
        FloatingPointError: while training, the loss or a weight is NaN or infinite. On a CPU the loss is checked at
            every step; on other devices, which a check stalls, at each log, evaluation and checkpoint. Weights are
            checked before each checkpoint and at the end, so none is written that holds a NaN.

    Example:
        >>> import datasets
        >>> import nt_failures as ntf
        >>> task = ntf.PathStar(degree=2, path_length=3, num_nodes=10)
        >>> tokenizer = ntf.word_level_tokenizer(task)
        >>> data = datasets.load_dataset("nt_failures/pathstar", **task.to_dict(), num_train=64, num_test=32)
        >>> rows = ntf.tokenize(data, tokenizer)
        >>> model, objective = ntf.load_model("gpt2-1x16", tokenizer, 32), ntf.Teacherless.from_tokenizer(tokenizer)
        >>> args = ntf.ObjectiveTrainingArguments("outputs/run", max_steps=2, use_cpu=True, report_to=[])
        >>> sets = {"train_dataset": rows["train"], "eval_dataset": rows["test"], "processing_class": tokenizer}
        >>> trainer = ObjectiveTrainer(model, args, objective=objective, task=task, **sets)
        >>> trainer.train().global_step  # doctest: +ELLIPSIS
        {'train_runtime': ...}
        2
    """

    def __init__(
        self,
        model: PreTrainedModel | None,
        args: ObjectiveTrainingArguments,
        *,
        objective: Objective,
        task: Task | None = None,
        **kwargs: Any,
    ):
        kwargs = {name: value for name, value in kwargs.items() if value is not None}  # as a stock Trainer takes None
        check_used(args, kwargs)
        self.training_objective, self.task = objective, task
        self.prepare_model(model)
        if isinstance(tokenizer := kwargs.get("processing_class"), PreTrainedTokenizerBase):
            check_tokenizer(objective, tokenizer)
        self.curriculum: torch.utils.data.Sampler | None = None
        """draws the training rows, where it is given: a `Curriculum`, which is a callback, too"""
        self.results: RunResults | None = None
        """of the run, once it is tested: what the card shows"""
        self._collates = "data_collator" not in kwargs  # else somebody's own collator gets the rows as they are
        collate = SeededCollator(objective.collate, args.seed)
        answers = functools.partial(collate_answers, objective=objective)
        self._collate_answers = SeededCollator(answers, args.seed)  # the same weights have the same loss
        if task is not None:
            check_first_rows(task, train_dataset=kwargs.get("train_dataset"), eval_dataset=kwargs.get("eval_dataset"))
        super().__init__(model, args, **{"compute_metrics": self._metrics, "data_collator": collate, **kwargs})
        if self.optimizer is not None:
            auxiliary_modules.check_trained(self.model, self.optimizer)
        self.add_callback(collate)
        self.gradient_shares = GradientShares(self)
        self.add_callback(self.gradient_shares)
        if self.is_fsdp_enabled and "SHARDED" in str(self.accelerator.state.fsdp_plugin.state_dict_type):
            raise ValueError(
                "FSDP with SHARDED_STATE_DICT leaves no model that can be loaded; give fsdp_state_dict_type: "
                "FULL_STATE_DICT, as examples/accelerate_configs/fsdp2.yaml does."
            )
        # The objective's loss is a sum; it is divided by the labels of the whole accumulated batch, on every model.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        # Each process collates its own rows of a stream: joined to one batch, they lose what only some of them have.
        self.accelerator.dataloader_config.dispatch_batches = False
        self.step_flops = StepFlops()
        self.earlier = Budget(0, 0)
        """of each `train` before the last one"""
        self._spent = self.earlier
        self.throughput: dict[str, Any] | None
        """of the last `train`, as `Clock.total` gives it; None before it, and where it was too short"""
        self._start_anew()

    def _start_anew(self) -> None:
        """Forget what an earlier training has counted and not yet logged, and how an evaluation prepared the model."""
        self._clock, self.throughput = Clock(self.args.device), None
        self._watch = divergence.LossWatch()
        self._parts: dict[str, torch.Tensor] = {}
        self._items: torch.Tensor | float = 0.0
        self._widest = 0
        self.resumed_at = 0
        self.gradient_shares.forget()
        prepare_anew(self)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `transformers.Trainer`; `True` resumes the newest whole checkpoint of the output folder.

        A checkpoint at `max_steps`, or of a run that `StopWhenSolved` had stopped, is loaded and nothing is trained
        (transformers would take one more step); the training loss returned is then NaN.

        Raises:
            ValueError: there is no whole checkpoint to resume; one without an optimizer; or a finished one, with FSDP.
        """
        self._start_anew()
        checkpoint = self._checkpoint_to_resume(resume_from_checkpoint)
        anew = checkpoint or self.model_init or not self.state.global_step
        self.earlier = Budget(0, 0) if anew else self._spent
        try:
            if checkpoint is not None and (output := self._load_finished(checkpoint)) is not None:
                return output
            with self._own_checkpoints(resumed=checkpoint is not None):
                output = super().train(None if checkpoint is None else str(checkpoint), *args, **kwargs)
        finally:
            self._spent = budget_of(self)  # on the rows that it had: the next training may be given others
        divergence.check(self, self._watch, weights=True)
        self.throughput = self._clock.total(self.accelerator, auxiliary_modules.unwrap_model(self.model))
        return output

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `transformers.Trainer`; counts the FLOPs of a new shape and notes a loss that is not finite."""
        self.gradient_shares.see(inputs)
        with self.step_flops.counting(inputs):
            loss = super().training_step(model, inputs, *args, **kwargs)
            self._watch.see(loss, self.state.global_step + 1, self.optimizer.param_groups[0]["lr"])
        self._clock.batch(inputs["input_ids"].numel(), self.floating_point_ops(inputs))
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """FLOPs of a step on this batch, forward and backward, the objective's own modules and passes included."""
        return self.step_flops.of(len(inputs["input_ids"]))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Check the loss before anything is logged, evaluated or saved, whose time the throughput leaves out."""
        control, state = self.control, self.state
        busy = control.should_evaluate or control.should_save
        last = control.should_training_stop or state.global_step >= state.max_steps
        with self._clock.after(state.global_step, busy, last):
            if busy or control.should_log or self.args.device.type == "cpu":
                # "best" decides whether it saves behind the evaluation.
                saves = control.should_save or (control.should_evaluate and self.args.save_strategy == "best")
                divergence.check(self, self._watch, weights=saves)
            super()._maybe_log_save_evaluate(*args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, dict]:
        """Mean loss per labelled token of the whole accumulated batch, over all processes.

        A subclass with another loss overrides `objective_loss`, which evaluation reads, too.
        """
        loss = self.objective_loss(model, inputs)
        if model.training:
            for name, part in loss.parts.items():  # on the device: reading it at every step would stall it
                self._parts[name] = self._parts.get(name, 0.0) + part.detach()
            self._items = self._items + loss.count
        value = loss.sum / (loss.count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            value = value * self.accelerator.num_processes  # DDP takes the mean of the gradients
        return (value, {}) if return_outputs else value

    def objective_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Loss:
        """The objective's loss of a batch on this device, in the precision of the training arguments."""
        columns, first = inputs["input_ids"].shape[1], self._widest == 0
        if columns > self._widest:  # reading a batch's numbers would stall a device at every step
            check_batch(auxiliary_modules.unwrap_model(model), inputs)
            self._widest = columns
        with self.accelerator.autocast():  # of the model alone it is accelerate's; an objective's modules want it, too
            if self.accelerator.num_processes > 1 and auxiliary_modules.has_modules(model):
                loss = Loss(*auxiliary_modules.inside_forward(model, self.training_objective.loss, inputs))
            else:
                loss = self.training_objective.loss(model, inputs)
        if first:
            check_loss(loss, inputs, type(self.training_objective).__name__)
        return loss

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """That of the training arguments, or Muon beside AdamW."""
        args = self.args
        if self.optimizer is None and args.optimizer == "muon":
            rates = {"lr": args.learning_rate, "muon_lr": args.muon_learning_rate, "weight_decay": args.weight_decay}
            adam = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
            self.optimizer = MuonAdamW(self.model if model is None else model, **rates, **adam)
        return super().create_optimizer() if model is None else super().create_optimizer(model)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's logs, with the named parts of the loss beside it: `loss/next_token`, ..., means per label."""
        if "loss" in logs and self._parts:
            items, *sums = self.accelerator.reduce(torch.stack([self._items, *self._parts.values()])).tolist()
            logs |= {f"loss/{name}": value / max(items, 1) for name, value in zip(self._parts, sums, strict=True)}
            self._parts, self._items = {}, 0.0
        super().log(logs, start_time)
