"""Mamba-1's selective scan in plain torch, with its gradient written by hand; exact, any device, any floating dtype.

The recurrence of arXiv 2312.00752, equation 2, with the zero-order hold for A and its first-order form for B:

    h_t = exp(dt_t A) h_{t-1} + B_t x_t        x_t = dt_t u_t
    y_t = C_t h_t

Autograd through a loop over positions writes a gradient as large as the whole sequence at every position. Here forward and
backward walk the positions once each, in place, on states of one position at a time, which a CPU's cache holds. Exponentials
cost most, so the backward pass reads the forward pass's again: 2 B S N D numbers are kept for it.

The two passes are operators of their own, so torch.compile does not unroll them and a FLOP counter sees the matrix products
that transformers' scan has.

Shapes: B rows, S positions, D channels, N states of a channel. Channels lie innermost, so every product runs along memory.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula


def selective_scan(
    dt_BSD: torch.Tensor, x_BSD: torch.Tensor, A_ND: torch.Tensor, B_BSN: torch.Tensor, C_BSN: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_BSD and the last state, (B, N, D) and without a gradient, of a scan that starts at zero.

    Args:
        dt_BSD: step sizes, positive.
        x_BSD: inputs times step sizes.
        A_ND: decay rates, negative.
        B_BSN, C_BSN: what enters a state, and what is read from it.
            All five have one dtype, in which everything is computed.
    """
    tensors = (dt_BSD, x_BSD, A_ND, B_BSN, C_BSN)
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    y_BSD, states_SBND, _ = _forward(*tensors, keep=learning)
    return y_BSD, states_SBND[-1].detach()


@torch.library.custom_op("nt_failures::selective_scan", mutates_args=())
def _forward(
    dt_BSD: torch.Tensor,
    x_BSD: torch.Tensor,
    A_ND: torch.Tensor,
    B_BSN: torch.Tensor,
    C_BSN: torch.Tensor,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y; the states and the decays exp(dt A) of all positions, or of the last one unless `keep`."""
    y_BSD, states_SBND, decays_SBND = _empty(dt_BSD, x_BSD, A_ND, B_BSN, C_BSN, keep)
    kept = len(states_SBND)
    for t in range(dt_BSD.shape[1]):
        decay_BND, state_BND = decays_SBND[t % kept], states_SBND[t % kept]
        torch.mul(dt_BSD[:, t, None], A_ND, out=decay_BND).exp_()
        if t == 0:
            torch.mul(B_BSN[:, t, :, None], x_BSD[:, t, None], out=state_BND)
        else:
            torch.mul(states_SBND[(t - 1) % kept], decay_BND, out=state_BND)
            state_BND.addcmul_(B_BSN[:, t, :, None], x_BSD[:, t, None])
        # `out` also keeps autocast, under which operators still run, from rounding states to 16 bits.
        torch.bmm(C_BSN[:, t, None], state_BND, out=y_BSD[:, t, None])
    return y_BSD, states_SBND, decays_SBND


@_forward.register_fake
def _empty(
    dt_BSD: torch.Tensor,
    x_BSD: torch.Tensor,
    A_ND: torch.Tensor,
    B_BSN: torch.Tensor,
    C_BSN: torch.Tensor,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, positions, channels = dt_BSD.shape
    shape = (positions if keep else 1, rows, len(A_ND), channels)
    return dt_BSD.new_empty(dt_BSD.shape), dt_BSD.new_empty(shape), dt_BSD.new_empty(shape)


@torch.library.custom_op("nt_failures::selective_scan_backward", mutates_args=())
def _backward(
    dy_BSD: torch.Tensor,
    dt_BSD: torch.Tensor,
    x_BSD: torch.Tensor,
    A_ND: torch.Tensor,
    B_BSN: torch.Tensor,
    C_BSN: torch.Tensor,
    states_SBND: torch.Tensor,
    decays_SBND: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of dt, x, A, B and C: the recurrence backwards, from the last position to the first."""
    ddt_BSD, dx_BSD, dA_ND, dB_BSN, dC_BSN = _empty_gradients(
        dy_BSD, dt_BSD, x_BSD, A_ND, B_BSN, C_BSN, states_SBND, decays_SBND
    )
    dstate_BND = torch.zeros_like(states_SBND[0])
    dA_BND = torch.zeros_like(dstate_BND)
    scratch_BND = torch.empty_like(dstate_BND)
    for t in reversed(range(dt_BSD.shape[1])):
        dstate_BND.addcmul_(C_BSN[:, t, :, None], dy_BSD[:, t, None])
        torch.bmm(states_SBND[t], dy_BSD[:, t, :, None], out=dC_BSN[:, t, :, None])
        torch.bmm(dstate_BND, x_BSD[:, t, :, None], out=dB_BSN[:, t, :, None])
        torch.bmm(B_BSN[:, t, None], dstate_BND, out=dx_BSD[:, t, None])
        if t == 0:
            ddt_BSD[:, 0] = 0  # nothing stands before the first position that could decay
            break
        dstate_BND.mul_(decays_SBND[t])
        torch.mul(dstate_BND, states_SBND[t - 1], out=scratch_BND)  # the gradient of the exponent, dt A
        dA_BND.addcmul_(scratch_BND, dt_BSD[:, t, None])
        torch.sum(scratch_BND.mul_(A_ND), dim=1, out=ddt_BSD[:, t])
    return ddt_BSD, dx_BSD, torch.sum(dA_BND, dim=0, out=dA_ND), dB_BSN, dC_BSN


@_backward.register_fake
def _empty_gradients(dy_BSD: torch.Tensor, *inputs_and_kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs_and_kept[:5])


def _keep_for_backward(ctx: Any, inputs: tuple, output: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], *output[1:])


def _gradients(ctx: Any, dy_BSD: torch.Tensor, *_: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    return (*_backward(dy_BSD, *ctx.saved_tensors), None)


_forward.register_autograd(_gradients, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.nt_failures.selective_scan)
def _forward_flops(dt: Sequence[int], x: Sequence[int], A: Sequence[int], *_: Any, **__: Any) -> int:
    """The product C h, as transformers' scan has it."""
    return 2 * dt[0] * dt[1] * A[0] * A[1]


@register_flop_formula(torch.ops.nt_failures.selective_scan_backward)
def _backward_flops(dy: Sequence[int], dt: Sequence[int], x: Sequence[int], A: Sequence[int], *_: Any, **__: Any) -> int:
    """The gradients of C and h."""
    return 4 * dt[0] * dt[1] * A[0] * A[1]
