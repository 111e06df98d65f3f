"""A causal language model whose hidden states are given: what a golden file puts in place of a trunk."""

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from nt_failures.objectives import auxiliary_modules


class StoredTrunk(nn.Module):
    """Answers the first S columns of its rows with the first S of its states (B, columns, D), U behind them.

    It fails where it is asked about other tokens. All in float64, for 1e-9.
    """

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(self, ids: Tensor, states: Tensor, unembedding: Tensor, embedding: Tensor | None = None):
        super().__init__()
        self.ids = ids
        self.states = nn.Parameter(states)
        self.unembedding = _filled(nn.Linear(*unembedding.shape[::-1], bias=False, dtype=torch.float64), unembedding)
        embedding = unembedding if embedding is None else embedding
        self.embedding = _filled(nn.Embedding(*embedding.shape, dtype=torch.float64), embedding)

    def with_modules(self, **modules: nn.Module) -> "StoredTrunk":
        """This model with the modules of an objective in it."""
        self.add_module(auxiliary_modules.NAME, nn.ModuleDict(modules).double())
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.unembedding

    def forward(self, input_ids: Tensor, logits_to_keep: int, **kwargs: object) -> CausalLMOutput:
        rows, columns = input_ids.shape
        assert torch.equal(input_ids, self.ids[:rows, :columns])
        states = self.states[:rows, :columns]
        return CausalLMOutput(logits=self.unembedding(states[:, -logits_to_keep:]), hidden_states=(states,))


def _filled(module: nn.Module, weight: Tensor) -> nn.Module:
    module.weight = nn.Parameter(weight)
    return module
