"""How strongly the further terms of a loss pull at the model, beside the next token's: `grad/<part>` in the log.

A term that sends the trunk no gradient worth the name cures nothing, however fast its own loss falls.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nt_failures.objectives.last_block import parts as blocks_and_norm
from nt_failures.objectives.losses import Loss

NEXT_TOKEN = "next_token"
ALL = "auxiliary"
"""The name of all further terms together."""
PREFIX = "grad/"
"""Of the shares' names in the log."""
STEPS = (0, 100)
"""Steps behind which shares are measured, beside the end of the training."""


def gradient_shares(loss: Loss, parameters: Sequence[torch.nn.Parameter]) -> dict[str, Tensor]:
    """Norm of each further term's gradient over that of the next token's; by name, and of all together.

    Terms weigh as they do in the loss; a part that the loss was not computed from is left out. Empty for a loss that
    has no term of the next token, or no other, and where that sends no gradient.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0]))
        >>> terms = {"next_token": 2 * w.sum(), "mine": w.sum()}
        >>> loss = Loss(terms["next_token"] + 0.5 * terms["mine"], torch.tensor(1), terms)
        >>> {name: float(share) for name, share in gradient_shares(loss, [w]).items()}
        {'mine': 0.25, 'auxiliary': 0.25}
    """
    terms = {name: part for name, part in loss.parts.items() if part.requires_grad}
    if not terms or not parameters:
        return {}
    # The loss is linear in its terms: what it is multiplied by is its derivative.
    weights = torch.autograd.grad(loss.sum, [*terms.values()], retain_graph=True, allow_unused=True)
    pulls = {}
    for (name, term), weight in zip(terms.items(), weights, strict=True):
        if weight is not None:  # else the loss was not built from this tensor
            grads = torch.autograd.grad(term, parameters, weight, retain_graph=True, materialize_grads=True)
            pulls[name] = torch.cat([grad.flatten() for grad in grads])
    if NEXT_TOKEN not in pulls or len(pulls) == 1:
        return {}
    next_token = pulls.pop(NEXT_TOKEN).norm()
    pulls[ALL] = torch.stack([*pulls.values()]).sum(dim=0)
    return {name: pull.norm() / next_token for name, pull in pulls.items()} if next_token else {}


class GradientShares(TrainerCallback):
    """Logs `grad/<part>` of the first block's weights at the start, behind 100 steps and at the end of the training.

    Each is of one batch of this process, whose loss is computed once more for it, and leaves training as it is. Nothing
    is logged where weights are sharded (FSDP, DeepSpeed), or for a trunk that is no list of blocks.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.forget()

    def forget(self) -> None:
        """Begin as for a first training."""
        self._measured, self._inputs = -1, None

    def see(self, inputs: Mapping[str, Any]) -> None:
        """Measure the batch, if it is the first behind such a step."""
        step, self._inputs = self.trainer.state.global_step, inputs
        if step in STEPS and step != self._measured:
            self._measured = step
            self._log()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure the last batch with the weights that the training ends with."""
        if self._inputs is not None:
            self._log()

    def _log(self) -> None:
        trainer = self.trainer
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            return
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False).train()
        try:
            first = blocks_and_norm(model)[0][0]
        except ValueError:
            return
        device = trainer.args.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            loss = trainer.objective_loss(model, trainer._prepare_inputs(self._inputs))
        shares = gradient_shares(loss, [weight for weight in first.parameters() if weight.requires_grad])
        if shares:
            trainer.log({f"{PREFIX}{name}": float(share) for name, share in shares.items()})


def logged_gradients(state: TrainerState) -> list[dict[str, float]]:
    """What `GradientShares` logged: `step`, and each term's share without its prefix."""
    shares = [
        (entry, {k.removeprefix(PREFIX): v for k, v in entry.items() if k.startswith(PREFIX)})
        for entry in state.log_history
    ]
    return [{"step": entry["step"], **found} for entry, found in shares if found]
