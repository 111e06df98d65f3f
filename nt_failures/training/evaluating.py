"""EvaluationMixin: how an ObjectiveTrainer evaluates, by the loss and by decoding."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput

from nt_failures.data.columns import check_order, task_columns
from nt_failures.evaluation.prediction import first_pass_once, objective_metrics, predict, rows_of_its_own


class EvaluationMixin:
    """Evaluation, for a `transformers.Trainer` with the attributes of an `ObjectiveTrainer`.

    Metrics of `evaluate`, as shares in 0..1 (k counts answer symbols from 1, in the task's own order):
        `eval_forced/exact`, `eval_forced/position_k`: argmax with the true earlier tokens revealed, one forward pass.
        `eval_free/exact`: the objective's own decoding, which never sees the target. An autoregressive objective needs
            no pass for it: up to the first error, forced and free see the same input.
        `eval_free/position_k`: token by token; only with `full_decode` for autoregressive objectives.
        `eval_parallel/...`: one pass behind dummies, where the objective trains for it.
        `eval_decision`, `eval_chance`: accuracy at the task's decision (forced; by its own decoding where an objective
            is not autoregressive), and what guessing gives (with a `task` that has a decision).
        `eval_problems`: how many different problems the rows pose, the n of every interval; `eval_n/position_k` of a
            position that some of them lack (with a `task`, for rows that kept its columns).

        `eval_free/unseen`, `eval_free/creativity`: answers that are right and surely of no train row, and the same with
            each different one counted once (for a task in which any right answer will do).

    What is exact is asked of `Task.judge` where a task has more than one right answer.
    """

    evaluation: EvalLoopOutput | None = None
    """what the last evaluation predicted, and of how many rows"""
    of_other_rows: Sequence[dict[str, float]] = ()
    """entries of the log that are no evaluation of `eval_dataset`"""
    _evaluated: torch.Tensor | float = 0.0
    """sum of the loss and its labels, over the rows of this evaluation"""

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `transformers.Trainer`. What other rows than `eval_dataset` gave, such as those of train, stands in the
        log and in no card, unless they are named for it: `metric_key_prefix="test"`.
        """
        begin = len(self.state.log_history)
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        if not self._is_own(eval_dataset):
            self.of_other_rows = [*self.of_other_rows, *self.state.log_history[begin:]]
        return metrics

    def _is_own(self, eval_dataset: Any) -> bool:
        return eval_dataset is None or isinstance(eval_dataset, str) or eval_dataset is self.eval_dataset

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
        real = rows_of_its_own(self.accelerator, len(inputs["input_ids"]))
        # Without a row of its own a process runs all the same: a sharded model wants all of them.
        kept = {name: value[: real or None] for name, value in inputs.items()}
        plain = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        alone = plain is model and self.accelerator.num_processes == 1  # sharded processes must run the same passes
        with self.compute_loss_context_manager(), first_pass_once(model) if alone else contextlib.nullcontext():
            loss = self.objective_loss(model, kept)
            if real:
                self._evaluated = self._evaluated + torch.stack([loss.sum.detach(), loss.count])
            mean = loss.sum.detach() / loss.count.clamp(min=1)
            if prediction_loss_only:
                return mean, None, None
            if "prefix_ids" not in inputs:
                raise ValueError("batches without the answers cannot be judged; leave get_eval_dataloader as it is.")
            with self.accelerator.autocast():
                full = self.args.full_decode or not (self.task is None or self.task.one_answer)
                predictions = predict(plain, self.training_objective, inputs, full_decode=full)
        target = inputs["target_ids"]
        answers = {
            name: self.training_objective.reorder(inputs[name], target) for name in ("target_ids", "target_positions")
        }
        return mean, predictions, answers

    def _metrics(self, output: EvalPrediction) -> dict[str, float]:
        if self._columns is not None:
            check_order(self._rows, output.label_ids["target_ids"])
        return objective_metrics(output, self.training_objective, self.task, self._columns, self.processing_class)

    def evaluation_loop(
        self, dataloader: torch.utils.data.DataLoader, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """As in `transformers.Trainer`, but the loss is the mean per label over all rows, not a mean over batches.

        The training goes on as if there had been no evaluation.
        """
        self._evaluated = torch.zeros(2, device=self.args.device)
        self._rows = dataloader.dataset
        self._columns = None if self.task is None else task_columns(self._rows, self.task)
        with torch.random.fork_rng([]):  # a DataLoader draws a number, which would change the dropout of the next step
            output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        self.evaluation = output
        total, labels = self.accelerator.reduce(self._evaluated).tolist()
        if labels:
            output.metrics[f"{metric_key_prefix}_loss"] = total / labels
        return output
