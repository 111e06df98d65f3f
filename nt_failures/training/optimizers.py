"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimizer."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nt_failures.objectives.losses import VocabularyHead

# Shapes: N matrices of R rows and C columns.


def matrix_parameters(model: PreTrainedModel) -> set[nn.Parameter]:
    """Weights of linear layers, without those to the vocabulary: what Muon's orthogonalised step is meant for."""
    head = model.get_output_embeddings()
    linear = (m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D)))
    return {m.weight for m in linear if m is not head and not isinstance(m, VocabularyHead)}


def orthogonalised(
    matrices_NRC: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """The Newton-Schulz iterations of `torch.optim.Muon`, in bfloat16, on each of the matrices."""
    a, b, c = coefficients
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x_NRC = matrices_NRC.bfloat16()
    x_NRC = x_NRC.mT if tall else x_NRC
    x_NRC = x_NRC / x_NRC.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x_NRC @ x_NRC.mT
        x_NRC = torch.baddbmm(x_NRC, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x_NRC, beta=a)
    return x_NRC.mT if tall else x_NRC


class StackedMuon(torch.optim.Muon):
    """`torch.optim.Muon`, with all matrices of one shape stepped together.

    One small matrix at a time leaves a GPU waiting for kernels to start. A group with `transposed` holds matrices of R
    inputs and C outputs; others are of R outputs and C inputs, as `nn.Linear` stores them.
    """

    @torch.no_grad()
    def step(self) -> None:
        """One step. Options of the groups, and the state, are those of `torch.optim.Muon`."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape, parameter.dtype, parameter.device].append(parameter)
            for parameters in alike.values():
                self._step_together(parameters, group)

    def _step_together(self, parameters: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        wanted = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        updates = orthogonalised(torch.stack(wanted), group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = parameters[0].shape
        if group.get("transposed"):
            rows, columns = columns, rows
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * math.sqrt(max(1, rows / columns))
        torch._foreach_add_(parameters, updates.to(parameters[0].dtype).unbind(), alpha=-rate)


class MuonAdamW(torch.optim.Optimizer):
    """Muon on `matrix_parameters`, torch's fused AdamW on the rest (Keller Jordan's division of labour).

    The factor sqrt(max(1, outputs / inputs)) of `torch.optim.Muon` is the layer's, also where GPT-2's `Conv1D` stores
    its weight transposed: at one rate the layers of all families step alike. Fused matrices of query, key and value are
    orthogonalised as one. Schedulers scale both learning rates alike.

    Args:
        model: whose trainable parameters to optimise.
        lr, betas, eps: of AdamW.
        muon_lr: learning rate of Muon.
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
        chosen = [p for p in trainable if p in matrices]
        rest = [p for p in trainable if p not in matrices]
        if not chosen or not rest:
            raise ValueError(
                "optimizer='muon' needs trainable linear layers and other parameters beside them, which an adapter "
                "alone has not; use optimizer='adamw' (--optimizer adamw)."
            )
        stored = {m.weight for m in model.modules() if isinstance(m, Conv1D)}  # as (in, out)
        kinds = [{"params": [p for p in chosen if (p in stored) == kind], "transposed": kind} for kind in (False, True)]
        self.muon = StackedMuon([kind for kind in kinds if kind["params"]], lr=muon_lr, weight_decay=weight_decay)
        decayed = {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay}
        others = {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}
        self.adamw = torch.optim.AdamW([decayed, others], lr=lr, betas=betas, eps=eps, fused=True)
        super().__init__([*self.adamw.param_groups, *self.muon.param_groups], {"lr": lr})
        self._share()

    def _share(self) -> None:
        """Give both the very groups and state: a schedule, a checkpoint or sharding then changes theirs."""
        self.adamw.param_groups, self.muon.param_groups = self.param_groups[:2], self.param_groups[2:]
        self.adamw.state = self.muon.state = self.state

    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One step of both; a closure that computes the loss again is called once."""
        loss = self.adamw.step(closure)
        self.muon.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()
