"""Floating-point operations of a step, forward and backward: counted on the first one, whatever the objective.

transformers estimates them as 6 x tokens x parameters, which knows nothing of an objective's own modules, of positions whose
logits are never computed, of attention, or of a second pass through the model. Left out is what the optimizer computes: on the
small graphs of examples/recipes/delay Muon's orthogonalisation takes 12 to 21 % as much again. `registers` draws how far it looks ahead
for each batch, so its first step may be some percent cheaper or dearer than the mean.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The fused attention of CPUs, which torch's own list lacks."""


class _Counter(TorchDispatchMode):
    """Adds up the FLOPs of what runs, and runs it as it is.

    torch's own FlopCounterMode splits operations up before it counts them. Their results then differ in the last bit, and so
    would a resumed run, whose first step is another one.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kind = func.overloadpacket if isinstance(func, torch._ops.OpOverload) else func
        count = CPU_ATTENTION.get(kind) or flop_registry.get(kind)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


class StepFlops:
    """FLOPs of training steps, per row: counted on the first step, then scaled by the rows of each.

    Counted are matrix products, convolutions and attention, forward and backward, a multiplication and an addition as two.
    Element-wise work is not, which for a Mamba's scan is a part that counts for time. Padding counts as computed.
    """

    def __init__(self) -> None:
        self.per_row: float | None = None

    @contextmanager
    def counting(self, rows: int) -> Iterator[None]:
        """Count what runs within, forward and backward of `rows` rows; once."""
        if self.per_row is not None:
            yield
            return
        eager = torch.compiler.set_stance("force_eager")  # else torch.compile meets the counter, and gives up for good
        with eager, _Counter() as counter:
            yield
        self.per_row = counter.total / rows

    def of(self, rows: int) -> int:
        """FLOPs of a step over so many rows."""
        if self.per_row is None:
            raise ValueError("nothing was counted yet; run one training step within `counting`.")
        return math.ceil(self.per_row * rows)
