"""Floating-point operations that a training step really takes: counted on one step, whatever the objective.

transformers estimates them as 6 x tokens x parameters, which knows nothing of an objective's own modules, of positions whose
logits are never computed, of attention, or of a second pass through the model.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    grad: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The fused attention of CPUs, which torch's own list lacks."""


class StepFlops:
    """FLOPs of training steps, per row: counted on the first batch, then scaled by the rows of each.

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
        with eager, FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            yield
        self.per_row = counter.get_total_flops() / rows

    def of(self, rows: int) -> int:
        """FLOPs of a step over so many rows."""
        if self.per_row is None:
            raise ValueError("nothing was counted yet; run one training step within `counting`.")
        return math.ceil(self.per_row * rows)
