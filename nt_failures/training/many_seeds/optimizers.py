"""The optimizer of one model, turned into that of a stack: each parameter replaced by the stack that holds it.

AdamW works number by number, so on a stack it does what it does on each model. Muon works matrix by matrix: here all
matrices of a shape go through it as one batch.

Shapes: K models, R x C rows and columns of a matrix.
"""

from collections.abc import Mapping

import torch

from nt_failures.training.optimizers import MuonAdamW, StackedMuon


def of_stack(
    optimizer: torch.optim.Optimizer, stacked: Mapping[torch.nn.Parameter, torch.Tensor]
) -> torch.optim.Optimizer:
    """The same optimizer, not used yet, for the stacks (K, ...) of its parameters; it is changed and returned."""
    if not isinstance(optimizer, MuonAdamW):
        _replace(optimizer, stacked)
        return optimizer
    _replace(optimizer.adamw, stacked)
    groups = [{**group, "params": [stacked[p] for p in group["params"]]} for group in optimizer.muon.param_groups]
    optimizer.take(MuonOfStacks(groups))
    return optimizer


def _replace(optimizer: torch.optim.Optimizer, stacked: Mapping[torch.nn.Parameter, torch.Tensor]) -> None:
    for group in optimizer.param_groups:
        group["params"] = [stacked[p] for p in group["params"]]


class MuonOfStacks(StackedMuon):
    """torch.optim.Muon, which takes matrices (R, C) alone, for stacks (K, R, C) of them.

    Args:
        groups: of a `torch.optim.Muon`, with stacks in the place of its parameters.
    """

    def __init__(self, groups: list[dict]):
        torch.optim.Optimizer.__init__(self, groups, {})
