"""MeasuredTrainer: a `transformers.Trainer` that knows what its steps cost, in FLOPs and in time."""

from typing import Any

import torch
from transformers.trainer_utils import TrainOutput

from nt_failures.objectives import auxiliary_modules
from nt_failures.training.checkpointing import SteadyTrainer
from nt_failures.training.flops import StepFlops
from nt_failures.training.throughput import Clock, Throughput


class MeasuredTrainer(SteadyTrainer):
    """As SteadyTrainer; `state.total_flos` is counted, not estimated, and `throughput` says how fast it went.

    It changes nothing of what is trained. The device is waited for only where an evaluation or a checkpoint does so anyway.
    """

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
        self.throughput = self._clock.total(self.accelerator, auxiliary_modules.unwrap_model(self.model))
        return output

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `transformers.Trainer`; counts the FLOPs of the first one."""
        with self._flops.counting(len(inputs["input_ids"]), model):
            loss = super().training_step(model, inputs, *args, **kwargs)
        self._clock.batch(inputs["input_ids"].numel(), self.floating_point_ops(inputs))
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """FLOPs of a step on this batch, forward and backward, as counted on the first: of the objective, not of the model."""
        return self._flops.of(len(inputs["input_ids"]))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        control, state = self.control, self.state
        last = control.should_training_stop or state.global_step >= state.max_steps
        with self._clock.after(state.global_step, control.should_evaluate or control.should_save, last):
            super()._maybe_log_save_evaluate(*args, **kwargs)
