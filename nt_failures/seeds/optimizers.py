"""The optimizer of one model, turned into that of a stack: each parameter replaced by the stack that holds it.

AdamW works number by number, so on a stack it does what it does on each model. Muon works matrix by matrix: here all
matrices of a shape go through it as one batch.

Shapes: K models, N matrices of one shape of each, R x C their rows and columns.
"""

from collections.abc import Callable, Mapping

import torch

from nt_failures.optimizers import MuonAdamW


def of_stack(
    optimizer: torch.optim.Optimizer, stacked: Mapping[torch.nn.Parameter, torch.Tensor]
) -> torch.optim.Optimizer:
    """The same optimizer, not used yet, for the stacks (K, ...) of its parameters; it is changed and returned."""
    if not isinstance(optimizer, MuonAdamW):
        _replace(optimizer, stacked)
        return optimizer
    _replace(optimizer.adamw, stacked)
    groups = [{**group, "params": [stacked[p] for p in group["params"]]} for group in optimizer.muon.param_groups]
    optimizer.muon = StackedMuon(groups)
    optimizer._share_groups()
    return optimizer


def _replace(optimizer: torch.optim.Optimizer, stacked: Mapping[torch.nn.Parameter, torch.Tensor]) -> None:
    for group in optimizer.param_groups:
        group["params"] = [stacked[p] for p in group["params"]]


class StackedMuon(torch.optim.Optimizer):
    """torch.optim.Muon for stacks (K, R, C): every matrix is orthogonalised by itself, those of one shape in one batch.

    Args:
        groups: of a `torch.optim.Muon`, with stacks in the place of its parameters.
    """

    def __init__(self, groups: list[dict]):
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> None:
        """One step; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.Tensor]] = {}
            for stack in group["params"]:
                if stack.grad is not None:
                    shapes.setdefault(stack.shape, []).append(stack)
            for stacks in shapes.values():
                self._step(group, stacks)

    def _step(self, group: dict, stacks: list[torch.Tensor]) -> None:
        grads = [stack.grad for stack in stacks]
        for stack in stacks:
            if not self.state[stack]:
                self.state[stack]["momentum_buffer"] = torch.zeros_like(stack)
        buffers = [self.state[stack]["momentum_buffer"] for stack in stacks]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, buffers, group["momentum"]) if group["nesterov"] else buffers
        ortho = orthogonalised(torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(stacks, 1 - group["lr"] * group["weight_decay"])
        rows, columns = stacks[0].shape[-2:]
        rate = group["lr"] * max(1, rows / columns) ** 0.5  # Keller Jordan's scale, the default of torch.optim.Muon
        for stack, update in zip(stacks, ortho, strict=True):
            stack.add_(update, alpha=-rate)


def orthogonalised(
    updates_NKRC: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Newton-Schulz iterations on a batch of matrices, in bfloat16 and order of operations as `torch.optim.Muon` on one."""
    a, b, c = coefficients
    shape = updates_NKRC.shape
    matrices = updates_NKRC.flatten(0, -3).bfloat16()
    wide = shape[-2] <= shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).reshape(shape)
