"""RunningLoss: losses of K seeds since the last log, kept on the device: reading each step would stall a GPU."""

import torch

from nt_failures.objectives.base import Loss
from nt_failures.training.divergence import LossWatch
from nt_failures.training.trainer import ObjectiveTrainer


class RunningLoss:
    """Losses since the last log, and a watch over those that are NaN or infinite; all tensors are (K,)."""

    def __init__(self) -> None:
        self.watch = LossWatch()
        self.clear()

    def clear(self) -> None:
        """Begin anew, after a log."""
        self._steps = self._losses = self._items = 0
        self._parts: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, means: torch.Tensor, loss: Loss, norms: torch.Tensor | None, step: int, learning_rate: float) -> None:
        """Note a step: its mean losses, sums as `Loss` and norms of the gradient, each (K,)."""
        self._steps += 1
        self._losses = self._losses + means
        self._items = self._items + loss.count
        self._norms = norms
        for name, part in loss.parts.items():
            self._parts[name] = self._parts.get(name, 0) + part
        self.watch.see(means, step, learning_rate)
        self._rate = learning_rate

    def log(self, trainer: ObjectiveTrainer, index: int) -> None:
        """Log one seed's means through its own Trainer."""
        logs = {"loss": float(self._losses[index]) / self._steps}
        if self._norms is not None:
            logs["grad_norm"] = float(self._norms[index])
        parts = {name: part[index] for name, part in self._parts.items()}
        trainer.add_to_log(Loss(self._losses[index], self._items[index], parts))
        trainer.log(logs | {"learning_rate": self._rate})
