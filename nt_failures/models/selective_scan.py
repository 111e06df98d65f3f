"""Mamba-1's selective scan in plain torch, with its gradient written by hand; exact, any device, any floating dtype.

The recurrence of arXiv 2312.00752, equation 2, with the zero-order hold for A and its first-order form for B:

    h_t = exp(dt_t A) h_{t-1} + B_t x_t        x_t = dt_t u_t
    y_t = C_t h_t

Autograd through a loop over positions writes a gradient as large as the whole sequence at every position. Here both
passes update the states of one position in place, which fit a CPU's cache. About sqrt(S) of the S states are kept for
the backward pass, which computes the others again; that takes less time than writing all of them to memory.

Both passes are custom operators, so torch.compile does not unroll them, and a FLOP counter sees the matrix products of
transformers' scan.

Shapes: B rows, S positions, D channels, N states of a channel, K kept states. Channels lie innermost, so every product
runs along memory. `bmm` is fast on a CPU for row vectors and contiguous results, so results are laid out by position.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


def selective_scan(dt_BSD: Tensor, x_BSD: Tensor, A_ND: Tensor, B_BSN: Tensor, C_BSN: Tensor) -> tuple[Tensor, Tensor]:
    """y_BSD and the last state (B, N, D), which has no gradient, of a scan that starts at zero.

    Args:
        dt_BSD: step sizes, positive.
        x_BSD: inputs times step sizes.
        A_ND: decay rates, negative.
        B_BSN, C_BSN: what enters a state, and what is read from it.

    All five have one dtype, in which everything is computed.
    """
    y_SBD, last_BND, _ = _forward(dt_BSD, x_BSD, A_ND, B_BSN, C_BSN, keep=torch.is_grad_enabled())
    return y_SBD.transpose(0, 1), last_BND.detach()


@torch.library.custom_op("nt_failures::selective_scan", mutates_args=())
def _forward(
    dt_BSD: Tensor, x_BSD: Tensor, A_ND: Tensor, B_BSN: Tensor, C_BSN: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y_SBD, the last state and, if `keep`, the states before every `_stride` positions."""
    y_SBD, state_BND, kept_KBND = _empty(dt_BSD, x_BSD, A_ND, B_BSN, C_BSN, keep)
    stride = _stride(len(y_SBD))
    decay_BND = torch.empty_like(state_BND)
    state_BND.zero_()
    for t in range(len(y_SBD)):
        if keep and t % stride == 0:
            kept_KBND[t // stride] = state_BND
        torch.mul(dt_BSD[:, t, None], A_ND, out=decay_BND).exp_()
        state_BND.mul_(decay_BND).addcmul_(B_BSN[:, t, :, None], x_BSD[:, t, None])
        # With `out`, autocast does not round the states to 16 bits.
        torch.bmm(C_BSN[:, t, None], state_BND, out=y_SBD[t, :, None])
    return y_SBD, state_BND, kept_KBND


@_forward.register_fake
def _empty(
    dt_BSD: Tensor, x_BSD: Tensor, A_ND: Tensor, B_BSN: Tensor, C_BSN: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows, positions, channels = dt_BSD.shape
    state = (rows, len(A_ND), channels)
    kept = math.ceil(positions / _stride(positions)) if keep else 0
    return dt_BSD.new_empty(positions, rows, channels), dt_BSD.new_empty(state), dt_BSD.new_empty(kept, *state)


def _stride(positions: int) -> int:
    """Positions from one kept state to the next."""
    return math.isqrt(positions - 1) + 1


@torch.library.custom_op("nt_failures::selective_scan_backward", mutates_args=())
def _backward(
    dy_SBD: Tensor, dt_BSD: Tensor, x_BSD: Tensor, A_ND: Tensor, B_BSN: Tensor, C_BSN: Tensor, kept_KBND: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients: ddt_SBD, dx_SBD, dA_ND, dB_SBN, dC_SBN."""
    ddt_SBD, dx_SBD, dA_ND, dB_SBN, dC_SBN = _empty_gradients(dy_SBD, dt_BSD, x_BSD, A_ND)
    positions = len(dy_SBD)
    stride = _stride(positions)
    states = dt_BSD.new_empty(stride + 1, *kept_KBND.shape[1:])
    decays = torch.empty_like(states[1:])
    dstate_BND, dA_BND = torch.zeros_like(states[:2])
    for start in reversed(range(0, positions, stride)):
        columns = range(start, min(start + stride, positions))
        states[0] = kept_KBND[start // stride]
        for i, t in enumerate(columns):  # the forward pass again
            torch.mul(dt_BSD[:, t, None], A_ND, out=decays[i]).exp_()
            torch.mul(states[i], decays[i], out=states[i + 1]).addcmul_(B_BSN[:, t, :, None], x_BSD[:, t, None])
        for i, t in reversed(list(enumerate(columns))):
            dstate_BND.addcmul_(C_BSN[:, t, :, None], dy_SBD[t, :, None])
            torch.bmm(dy_SBD[t, :, None], states[i + 1].mT, out=dC_SBN[t, :, None])
            torch.bmm(x_BSD[:, t, None], dstate_BND.mT, out=dB_SBN[t, :, None])
            torch.bmm(B_BSN[:, t, None], dstate_BND, out=dx_SBD[t, :, None])
            dstate_BND.mul_(decays[i])
            exponent_BND = torch.mul(dstate_BND, states[i], out=decays[i])  # the gradient of dt A
            dA_BND.addcmul_(exponent_BND, dt_BSD[:, t, None])
            torch.sum(exponent_BND.mul_(A_ND), dim=1, out=ddt_SBD[t])
    return ddt_SBD, dx_SBD, torch.sum(dA_BND, dim=0, out=dA_ND), dB_SBN, dC_SBN


@_backward.register_fake
def _empty_gradients(
    dy_SBD: Tensor, dt_BSD: Tensor, x_BSD: Tensor, A_ND: Tensor, *_: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    positions, rows, channels = dy_SBD.shape
    wide, narrow = (positions, rows, channels), (positions, rows, len(A_ND))
    return tuple(dt_BSD.new_empty(shape) for shape in (wide, wide, A_ND.shape, narrow, narrow))


def _keep_for_backward(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], output[-1])
    ctx.set_materialize_grads(False)  # else zeros as large as the kept states are written


def _gradients(ctx: Any, dy_SBD: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if dy_SBD is None:  # the loss does not depend on y
        return (None,) * 6
    ddt, dx, dA, dB, dC = _backward(dy_SBD, *ctx.saved_tensors)
    ddt, dx, dB, dC = (gradient.transpose(0, 1) for gradient in (ddt, dx, dB, dC))
    # Contiguous: torch.compile expects other strides after softplus than its backward pass returns (torch 2.13).
    return ddt.contiguous(), dx, dA, dB, dC, None


_forward.register_autograd(_gradients, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.nt_failures.selective_scan)
def _forward_flops(dt: Sequence[int], x: Sequence[int], A: Sequence[int], *_: Any, **__: Any) -> int:
    """The product C h, as transformers' scan has it."""
    return 2 * dt[0] * dt[1] * A[0] * A[1]


@register_flop_formula(torch.ops.nt_failures.selective_scan_backward)
def _backward_flops(
    dy: Sequence[int], dt: Sequence[int], x: Sequence[int], A: Sequence[int], *_: Any, **__: Any
) -> int:
    """The gradients of C and h."""
    return 4 * dt[0] * dt[1] * A[0] * A[1]
