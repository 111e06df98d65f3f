"""MeasuredTrainer: a `transformers.Trainer` that knows what its steps cost, in FLOPs and in time."""

from typing import Any

import torch
from transformers.trainer_utils import TrainOutput

from nt_failures import attached
from nt_failures.flops import StepFlops
from nt_failures.objectives.base import Loss, Objective
from nt_failures.steady import SteadyTrainer
from nt_failures.throughput import Clock, Throughput


class MeasuredTrainer(SteadyTrainer):
    """As SteadyTrainer; `state.total_flos` is counted, not estimated, and `throughput` says how fast it went.

    It changes nothing of what is trained. The device is waited for only where an evaluation or a checkpoint does so anyway.
    """

    objective: Objective

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._flops = StepFlops()
        self._clock = Clock()
        self.throughput: Throughput | None = None
        """of the last `train`; None before it, and where it was too short"""

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `transformers.Trainer`; measures the throughput."""
        on_cpu = self.args.device.type == "cpu"
        self._clock = Clock() if on_cpu else Clock(wait=torch.accelerator.synchronize)
        output = super().train(*args, **kwargs)
        self.throughput = self._clock.total(self.accelerator, attached.plain(self.model))
        return output

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `transformers.Trainer`; before the first one, a pass that counts its FLOPs."""
        if self._flops.per_row is None:
            self._count_flops(model, self._prepare_inputs(inputs))
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._clock.batch(inputs["input_ids"].numel(), self.floating_point_ops(inputs))
        return loss

    def _count_flops(self, model: torch.nn.Module, inputs: dict[str, Any]) -> None:
        """A pass of its own, that leaves nothing behind: the counter takes operations apart, and they round otherwise then.

        A resumed run counts again, at another step; in a step that trains, its weights would not be those of one never stopped.
        """
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        model.train()
        with torch.random.fork_rng(devices), self._flops.counting(len(inputs["input_ids"])):
            with self.compute_loss_context_manager():
                loss = self._loss(model, inputs)
            loss.sum.backward()
        model.zero_grad()

    def _loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Loss:
        if self.accelerator.num_processes > 1 and attached.has_modules(model):
            return Loss(*attached.inside_forward(model, self.objective.loss, inputs))
        return self.objective.loss(model, inputs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """FLOPs of a step on this batch, forward and backward, as counted: of the objective, not of the model."""
        return self._flops.of(len(inputs["input_ids"]))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        control, state = self.control, self.state
        last = control.should_training_stop or state.global_step >= state.max_steps
        with self._clock.after(state.global_step, control.should_evaluate or control.should_save, last):
            super()._maybe_log_save_evaluate(*args, **kwargs)
