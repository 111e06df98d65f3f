"""Fetch: the module of `joint_multi_token` that reads a state and the tokens behind it, slot by slot."""

import torch
from torch import Tensor, nn


class Fetch(nn.Module):
    """One causal self-attention over slots, each a mix of one state and one token's embedding; no MLP.

    Shapes: N states, K slots, H heads of width d, D = H d.

        slot 0        mix(h_c, E[x_c])      -> the next token, behind c
        slot k        mix(h_c, E[x_c+k])    -> the token behind c + k

    mix(h, e) = LayerNorm(e + gamma h). Scores are q k / sqrt(d) and a learned bias for each head and pair of slots.

    Args:
        width: D.
        heads: H, which divides D.
        slots: largest K, the horizon and one.
    """

    def __init__(self, width: int, heads: int, slots: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1,), 0.1))
        self.mix = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(heads, slots, slots))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, states_ND: Tensor, read_NKD: Tensor) -> Tensor:
        """What to unembed, (N, K, D): slot 0's attention alone for the next token, later slots' with the state added.

        `read_NKD` are the embeddings of the tokens in the slots.
        """
        mixed_NKD = self.mix(read_NKD + self.gamma * states_ND[:, None])
        rows, slots, width = mixed_NKD.shape
        heads = len(self.bias)
        split = (rows, slots, heads, width // heads)
        q, k, v = (x.reshape(split).transpose(1, 2) for x in self.qkv(mixed_NKD).chunk(3, dim=-1))
        scores_NHKK = q @ k.mT / (width // heads) ** 0.5 + self.bias[:, :slots, :slots]
        later_KK = torch.ones(slots, slots, dtype=torch.bool, device=scores_NHKK.device).triu(1)
        shares_NHKK = scores_NHKK.masked_fill(later_KK, -torch.inf).softmax(dim=-1)
        fetched_NKD = self.out((shares_NHKK @ v).transpose(1, 2).reshape(mixed_NKD.shape))
        without_K1 = torch.arange(slots, device=fetched_NKD.device)[:, None].clamp(max=1)
        return self.norm(fetched_NKD + without_K1 * states_ND[:, None])


def attention_heads(width: int, most: int) -> int:
    """The largest number of heads up to `most` that divides the width."""
    return max(heads for heads in range(1, most + 1) if width % heads == 0)
