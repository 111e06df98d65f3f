"""StepFlops: the floating-point operations of training steps, counted where a shape is new, whatever the objective.

transformers estimates 6 x tokens x parameters, without an objective's own modules and second passes, attention, and
positions whose logits are never computed. Left out here is the optimizer: on the small graphs of examples/recipes/delay
Muon takes 12 to 21 % as much again.
"""

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from nt_failures.data.batches import first_label
from nt_failures.objectives.losses import Batch
from nt_failures.training.compat import TorchDispatchMode

aten = torch.ops.aten


def _convolution_backward(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *options: Any, **__: Any) -> int:
    """For each gradient that is wanted as much as forward; a weight is (out, in / groups, kernel), so it has groups."""
    *_, transposed, _output_padding, _groups, wanted = options
    positions = (x if transposed else grad).shape[2:]
    return 2 * len(x) * math.prod(positions) * weight.numel() * sum(wanted[:2])


ATTENTION = "_scaled_dot_product_flash_attention"
OWN = {
    getattr(aten, f"{ATTENTION}_for_cpu"): flop_registry[getattr(aten, ATTENTION)],
    getattr(aten, f"{ATTENTION}_for_cpu_backward"): flop_registry[getattr(aten, f"{ATTENTION}_backward")],
    aten.convolution_backward: _convolution_backward,
}
"""Looked up before torch's list, which lacks the fused attention of CPUs, and counts the gradient of a convolution's
weight as if all channels met: of a Mamba's depthwise one, as many times too much as it has channels (torch 2.13)."""


class _Counter(TorchDispatchMode):
    """Adds up the FLOPs of what runs, and runs it as it is.

    torch's FlopCounterMode splits operations up, so their results differ in the last bit. A resumed run, which counts
    at another step, would then not end as an uninterrupted one.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kind = getattr(func, "overloadpacket", func)
        count = OWN.get(kind) or flop_registry.get(kind)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


class StepFlops:
    """FLOPs of training steps, per row: counted on the first batch of each shape, then scaled by the rows of others.

    Counted are matrix products, convolutions and attention, forward and backward, a multiplication and an addition as
    two. Padding counts, and so does what activation (gradient) checkpointing computes again, a forward pass at most.
    Element-wise work does not, which for a Mamba's scan is a part that matters for time.
    """

    def __init__(self) -> None:
        self.per_row: dict[Hashable, float] = {}
        self._shape: Hashable = None

    @contextmanager
    def counting(self, batch: Batch) -> Iterator[None]:
        """Count what runs within, a step on this batch, if its shape is new."""
        self._shape = _shape(batch)
        if self._shape in self.per_row:
            yield
            return
        eager = torch.compiler.set_stance("force_eager")  # else torch.compile meets the counter, and gives up for good
        with eager, _Counter() as counter:
            yield
        self.per_row[self._shape] = counter.total / len(batch["input_ids"])

    def of(self, rows: int) -> int:
        """FLOPs of a step over so many rows, shaped as in the last step that was counted or known."""
        return math.ceil(self.per_row[self._shape] * rows)


def _shape(batch: Batch) -> Hashable:
    """What the FLOPs of a row depend on: the columns of all tensors, and of how many of them logits are computed."""
    return first_label(batch), *((name, tensor.shape[1:]) for name, tensor in batch.items())
