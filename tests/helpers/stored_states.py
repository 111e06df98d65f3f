"""A causal LM whose trunk is replaced by stored numbers: what an objective computes from a model's outputs alone."""

from types import SimpleNamespace

import torch
from torch import nn


class Given(nn.Module):
    """Gives its weight (B, S, D) as the embeddings of whatever tokens, by columns from the first."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, ids):
        return self.weight[:, : ids.shape[1]]


class GivenStates(nn.Module):
    """In place of a module of a trunk: these states (B, S, D), as many columns as come in."""

    def __init__(self, states):
        super().__init__()
        self.states = nn.Parameter(states)

    def forward(self, hidden, *args, **kwargs):
        return self.states[:, : hidden.shape[1]]


GPT2_BLOCK = {"o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj", "ln1": "ln_1", "ln2": "ln_2"}


def gpt2_block(read):
    """A block's weights as GPT-2 stores them, (in, out), of `read(name)` as golden files store them, (out, in).

    Of gradients the same, where `read` gives those.
    """
    found = {}
    for kind, name in (("w", "weight"), ("b", "bias")):
        joined = torch.cat([read(f"{piece}_{kind}") for piece in "qkv"])
        found[f"attn.c_attn.{name}"] = joined.T if kind == "w" else joined
        for piece, renamed in GPT2_BLOCK.items():
            value = read(f"{piece}_{kind}")
            found[f"{renamed}.{name}"] = value.T if value.ndim == 2 else value
    return found


class StoredStates(nn.Module):
    """Last hidden states (B, S, D), unembedding (V, D) and the embeddings (B, S, D) of each column's token."""

    def __init__(self, hidden, unembedding, embedded):
        super().__init__()
        self.hidden, self.embedded = nn.Parameter(hidden), Given(embedded)
        self.unembedding = nn.Linear(*unembedding.shape[::-1], bias=False, dtype=unembedding.dtype)
        self.unembedding.weight.data = unembedding.clone()
        self.config = SimpleNamespace(hidden_size=hidden.shape[-1])
        self.dtype, self.device = hidden.dtype, hidden.device

    def _init_weights(self, module):
        """As it is."""

    def get_output_embeddings(self):
        return self.unembedding

    def get_input_embeddings(self):
        return self.embedded

    def forward(self, input_ids, logits_to_keep, **kwargs):
        states = self.hidden[:, : input_ids.shape[1]]
        logits = self.unembedding(states[:, states.shape[1] - logits_to_keep :])
        return SimpleNamespace(logits=logits, hidden_states=(None, states))


class StoredLogits(nn.Module):
    """Logits (B, S, V) of the columns, and what the last call was given, in `given`."""

    def __init__(self, logits, width=4):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.embeddings = nn.Embedding(logits.shape[-1], width, dtype=logits.dtype)
        self.config = SimpleNamespace(hidden_size=width)
        self.dtype, self.device = logits.dtype, logits.device
        self.given = {}

    def _init_weights(self, module):
        """As it is."""

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, logits_to_keep, **given):
        self.given = given
        return SimpleNamespace(logits=self.logits[:, self.logits.shape[1] - logits_to_keep :])
