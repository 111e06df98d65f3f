"""Divergence: notice a loss or weights that are not finite without stalling the device, and say what to do."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

NEVER = torch.iinfo(torch.int64).max


class LossWatch:
    """The first step whose loss was NaN or infinite, kept on the device until somebody asks."""

    def __init__(self) -> None:
        self._first: torch.Tensor | None = None
        self._rates: dict[int, float] = {}

    def see(self, loss: torch.Tensor, step: int, learning_rate: float) -> None:
        """Note the loss, a scalar, of (a part of) a step."""
        found = torch.where(loss.detach().isfinite(), NEVER, step)
        self._first = found if self._first is None else torch.minimum(self._first, found)
        self._rates[step] = learning_rate

    def first_bad(self, accelerator: Accelerator) -> tuple[int, float] | None:
        """The step and its learning rate, over all processes, since the last call; all processes must call it alike."""
        if self._first is None:
            return None
        step = int(accelerator.gather(self._first.reshape(1)).min())
        rate = self._rates.get(step)
        self._first, self._rates = None, {}
        return None if step == NEVER else (step, rate)


@torch.no_grad()
def finite(model: torch.nn.Module, accelerator: Accelerator) -> bool:
    """Whether every weight of the model is a finite number, on all processes; all of them must call it alike."""
    here = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]  # a shard of it, or all
    whole = torch.stack([weights.isfinite().all() for weights in here]).all()
    return bool(accelerator.gather(whole.reshape(1)).all())


def diverged(
    what: str, step: int, learning_rate: float, args: TrainingArguments, checkpoint: Path | None
) -> FloatingPointError:
    """The error that stops the run.

    Args:
        learning_rate: at that step; the schedule has made it of `args.learning_rate`.
        checkpoint: the last whole one.
    """
    lower = f"--learning_rate {args.learning_rate / 10:g}"
    if vars(args).get("optimizer") == "muon":
        lower += f" --muon_learning_rate {args.muon_learning_rate / 10:g}"
    said = (
        f"{what} became NaN or infinite at step {step:,}, at learning rate {learning_rate:g}; training stopped there. "
    )
    if step <= 1:
        return FloatingPointError(
            said
            + "No step had been made yet, so no rate is to blame: look at the objective's loss, the starting weights, the data "
            "and --dtype."
        )
    if checkpoint is None:
        return FloatingPointError(
            said + f"There is no checkpoint before it; begin again with a lower rate: {lower} --overwrite_output_dir."
        )
    return FloatingPointError(
        said
        + f"The last good checkpoint is {checkpoint}; nothing was saved after it. Resuming would repeat the same steps: start "
        f"from its weights at a lower rate, --model {checkpoint} {lower} --output_dir NEW_FOLDER."
    )
