"""Divergence: a NaN or infinite loss or weight, noticed without stalling the device, and the error to raise."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from transformers import Trainer

from nt_failures.training.arguments import ObjectiveTrainingArguments

NEVER = torch.iinfo(torch.int64).max


class LossWatch:
    """The first step whose loss was NaN or infinite, on the device until asked for."""

    def __init__(self) -> None:
        self._first: torch.Tensor | None = None
        self._rates: dict[int, float] = {}

    def see(self, loss: torch.Tensor, step: int, learning_rate: float) -> None:
        """Note the loss of (a part of) a step."""
        found = torch.where(loss.detach().isfinite(), NEVER, step)
        self._first = found if self._first is None else torch.minimum(self._first, found)
        self._rates[step] = learning_rate

    def first_bad(self, gather: Callable[[torch.Tensor], torch.Tensor]) -> tuple[int, float] | None:
        """Step and learning rate of the first loss since the last call that was bad, of all that `gather` gathers."""
        if self._first is None:
            return None
        step, rates = int(gather(self._first.reshape(1)).min()), self._rates
        self._first, self._rates = None, {}
        return None if step == NEVER else (step, rates[step])


@torch.no_grad()
def finite(model: torch.nn.Module, accelerator: Accelerator) -> bool:
    """Whether every weight of the model is a finite number, on all processes; all of them must call it alike."""
    here = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]  # a shard of it, or all
    whole = torch.stack([weights.isfinite().all() for weights in here]).all()
    return bool(accelerator.gather(whole.reshape(1)).all())


def check(trainer: Trainer, watch: LossWatch, weights: bool) -> None:
    """Raise what `diverged` makes if a loss that was seen is bad, or a weight; all processes must call it alike."""
    bad, what = watch.first_bad(trainer.accelerator.gather), "the loss"
    if bad is None and weights and not finite(trainer.model, trainer.accelerator):
        bad, what = (trainer.state.global_step, trainer.optimizer.param_groups[0]["lr"]), "a weight"
    if bad is not None:
        raise diverged(what, *bad, trainer.args, trainer.last_checkpoint)


def diverged(
    what: str, step: int, learning_rate: float, args: ObjectiveTrainingArguments, checkpoint: Path | None
) -> FloatingPointError:
    """The error that stops the run; `learning_rate` is that of the step, `checkpoint` the last whole one."""
    lower = f"--learning_rate {args.learning_rate / 10:g}"
    if args.optimizer == "muon":
        lower += f" --muon_learning_rate {args.muon_learning_rate / 10:g}"
    if step <= 1 and what == "the loss":
        advice = "No step was made, so no rate is to blame: look at the objective's loss, the weights and --dtype."
    elif checkpoint is None:
        advice = f"There is no checkpoint before it; begin again with a lower rate: {lower} --overwrite_output_dir."
    else:
        advice = (
            f"The last good checkpoint is {checkpoint}; nothing was saved after it. Resuming would repeat the same "
            f"steps: start from its weights at a lower rate, --model {checkpoint} {lower} --output_dir NEW_FOLDER."
        )
    where = f"at step {step:,}, at learning rate {learning_rate:g}; training stopped there"
    return FloatingPointError(f"{what} became NaN or infinite {where}. {advice}")
