"""Attention masks of more than padding: who sees whom, and the form in which every attention kernel takes it.

Shapes: B rows, S columns; entry (b, i, j) says whether column i sees column j.
"""

import torch


def causal(real_BS: torch.Tensor) -> torch.Tensor:
    """Each column sees itself and the real columns before it, (B, S, S) booleans."""
    columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
    return (columns_S[None, :] <= columns_S[:, None]) & real_BS.bool()[:, None, :]


def full(real_BS: torch.Tensor) -> torch.Tensor:
    """Each column sees all real columns, (B, S, S) booleans."""
    return real_BS.bool()[:, None, :].expand(-1, real_BS.shape[1], -1)


def additive(seen_BSS: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask as a (B, 1, S, S) term of the attention scores: 0 where seen, the lowest number where not.

    A term serves the eager and the sdpa kernel alike; booleans would be added as 0 and 1 by the eager one.
    """
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen_BSS.shape, dtype=dtype, device=seen_BSS.device).masked_fill(~seen_BSS, lowest)[:, None]
