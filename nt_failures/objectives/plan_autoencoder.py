"""The autoencoder of `semformer`: latents of a whole target, and a shallow decoder that reads it back from them.

Shapes: B rows, T target columns, K latents of width Z, D hidden size, L layers, H heads of width d.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from nt_failures.models.attention_masks import additive, causal
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.losses import VocabularyHead


class TargetEncoder(nn.Module):
    """K latents of a target: learned queries q attend to all its states, z = N LayerNorm(q + attention(LayerNorm(q))).

    N, without bias, is left out where D is no more than Z.
    """

    def __init__(self, width: int, heads: int, latents: int, latent_size: int):
        super().__init__()
        self.heads = heads
        self.queries = nn.Embedding(latents, width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.project = nn.Linear(width, latent_size, bias=False) if width > latent_size else nn.Identity()

    def forward(self, states_BTD: Tensor, real_BT: Tensor) -> Tensor:
        """Latents (B, K, Z) of the states of the columns that are real."""
        queries_KD = self.queries.weight
        asked_BKD = self.query(self.ln_1(queries_KD)).expand(len(states_BTD), -1, -1)
        pieces = (asked_BKD, *self.key_value(states_BTD).chunk(2, dim=-1))
        q, k, v = (piece.unflatten(-1, (self.heads, -1)).transpose(1, 2) for piece in pieces)
        mask_B11T = additive(real_BT[:, None], q.dtype)
        found_BHKd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T)
        return self.project(self.ln_2(queries_KD + self.out(found_BHKd.transpose(1, 2).flatten(2))))


class TargetDecoder(nn.Module):
    """A copy of a model's first layers that reads a target behind keys and values made of its latents.

    It has an embedding and an unembedding of its own, one matrix where the model's are one.
    """

    def __init__(self, model: PreTrainedModel, layers: int, latent_size: int):
        super().__init__()
        own, unembedding, config = model.get_input_embeddings(), model.get_output_embeddings(), model.config
        heads = config.num_attention_heads
        # Some models share keys and values among heads, and some have heads of a width of their own.
        pairs = getattr(config, "num_key_value_heads", None) or heads
        self.shape = (layers, 2, pairs, getattr(config, "head_dim", None) or config.hidden_size // heads)
        self.embedding = nn.Embedding(*own.weight.shape)
        self.trunk = auxiliary_modules.encoder_like(model, layers)
        self.head = None
        if unembedding.weight is not own.weight:
            self.head = VocabularyHead(*unembedding.weight.shape[::-1], bias=unembedding.bias is not None)
        self.prefix = nn.Linear(latent_size, torch.Size(self.shape).numel())

    @torch.no_grad()
    def start_as(self, model: PreTrainedModel) -> None:
        """Take over the model's weights."""
        # Beside the weights of an adapter's layers, which are left out, those of the base have this in their name.
        weights = {name.replace("base_layer.", ""): w for name, w in model.base_model.state_dict().items()}
        self.trunk.load_state_dict({name: weights[name] for name in self.trunk.state_dict()})
        self.embedding.weight.copy_(model.get_input_embeddings().weight)
        if self.head is not None:
            for name, weight in self.head.named_parameters():
                weight.copy_(getattr(model.get_output_embeddings(), name))

    def prefixes(self, latents_BKZ: Tensor) -> Tensor:
        """Keys and values (L, 2, B, H, K, d) that stand before the target in each layer, a map of each latent."""
        return self.prefix(latents_BKZ).unflatten(-1, self.shape).permute(2, 3, 0, 4, 1, 5)

    def forward(self, ids_BT: Tensor, latents_BKZ: Tensor) -> Tensor:
        """Logits (B, T, V), each of the token behind the one read."""
        cache, latents = DynamicCache(), latents_BKZ.shape[1]
        for layer, (keys, values) in enumerate(self.prefixes(latents_BKZ)):
            cache.update(keys, values, layer)
        for part in self.trunk.modules():  # activation checkpointing drops a cache, and the latents with it
            if hasattr(part, "gradient_checkpointing"):
                part.gradient_checkpointing = False
        seen_BTS = F.pad(causal(torch.ones_like(ids_BT)), (latents, 0), value=True)
        states_BTD = self.trunk(
            inputs_embeds=self.embedding(ids_BT),
            attention_mask=additive(seen_BTS, self.trunk.dtype),
            position_ids=latents + torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return F.linear(states_BTD, self.embedding.weight) if self.head is None else self.head(states_BTD)
