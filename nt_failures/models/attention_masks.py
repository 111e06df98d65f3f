"""Attention masks (which column sees which), and the form of them that the attention kernels take.

Shapes: B rows, S columns; entry (b, i, j) says whether column i sees column j.
"""

import torch
from torch import Tensor


def causal(real_BS: Tensor) -> Tensor:
    """Each column sees itself and the real columns before it, (B, S, S) booleans."""
    columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
    return (columns_S[None, :] <= columns_S[:, None]) & real_BS.bool()[:, None, :]


def full(real_BS: Tensor) -> Tensor:
    """Each column sees all real columns, (B, S, S) booleans."""
    return real_BS.bool()[:, None, :].expand(-1, real_BS.shape[1], -1)


def additive(seen_BSS: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as a (B, 1, S, S) term of the attention scores: 0 where seen, the lowest number where not.

    The eager and the sdpa kernel both add such a term; booleans the eager one would add as 0 and 1.
    """
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen_BSS.shape, dtype=dtype, device=seen_BSS.device).masked_fill(~seen_BSS, lowest)[:, None]
