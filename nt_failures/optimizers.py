"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nt_failures.attached import VocabularyHead


def matrix_parameters(model: PreTrainedModel) -> set[nn.Parameter]:
    """Weights of linear layers, without those to the vocabulary: what Muon's orthogonalised step is meant for."""
    head = model.get_output_embeddings()
    linear = (m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D)))
    return {m.weight for m in linear if m is not head and not isinstance(m, VocabularyHead)}


class MuonAdamW(torch.optim.Optimizer):
    """torch.optim.Muon on `matrix_parameters`, torch.optim.AdamW on the rest (Keller Jordan's division of labour).

    Schedulers scale both learning rates alike. One `state_dict` holds both, so the Trainer's checkpoints resume it.

    Args:
        model: whose trainable parameters to optimise.
        lr: learning rate of AdamW.
        muon_lr: learning rate of Muon.
        betas, eps: AdamW's.
        weight_decay: decoupled, for Muon's matrices and AdamW's parameters of two or more dimensions.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        lr: float,
        muon_lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        trainable = [p for p in model.parameters() if p.requires_grad]
        matrices = matrix_parameters(model)
        rest = [p for p in trainable if p not in matrices]
        chosen = [p for p in trainable if p in matrices]
        if not chosen or not rest:
            raise ValueError("muon needs trainable linear layers and other parameters; use optimizer='adamw'.")
        self.muon = torch.optim.Muon(chosen, lr=muon_lr, weight_decay=weight_decay)
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
                {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=lr,
            betas=betas,
            eps=eps,
        )
        super().__init__([{"params": trainable}], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dictionaries of the two optimizers, so that a scheduler's change reaches them.
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.adamw.step()
        self.muon.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of both, by name."""
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.adamw.load_state_dict(state_dict["adamw"])
        self.muon.load_state_dict(state_dict["muon"])
        self._share_groups()
