"""Semformer: plan tokens between prompt and target, whose states must foretell latents of the whole target."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.decoding import Prefix, greedy, insert_tokens, revealing_inputs, token_by_token
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import (
    Batch,
    ForwardPass,
    Loss,
    at_least_float32,
    bag_nats,
    row_mean_sum,
    states_of_pass,
    token_nats,
    unembed,
    upcoming,
)
from nt_failures.objectives.options import option
from nt_failures.objectives.plan_autoencoder import TargetDecoder, TargetEncoder


@dataclasses.dataclass(frozen=True)
class Semformer(ExtraLoss):
    """Predict the next token behind plan tokens, whose states are held to latents of the target.

    For the prompt `.. 12 =`, the target `32 34 6 16 12` and two plan tokens P1, P2:

        input_ids    ..   12    =   P1   P2   32   34    6   16   12
        labels       .. -100 -100 -100 -100   32   34    6   16   12     (the model shifts: 32 is predicted from P2)
        encoder                               32   34    6   16   12     gives the latents z1 z2
        regression                M h1 M h2                              h the last states; to z1 z2, stopped
        decoder                  [ z1   z2 ]  32   34    6   16   12
        its labels                            34    6   16   12    -

    loss = CE + regression_weight * SmoothL1(M h, stopgrad z) + reconstruction_weight * CE of the decoder (Semformer,
    arXiv 2409.11143). The encoder: the model itself reads the target alone, without gradient, and learned queries
    attend to its states (`TargetEncoder`). The decoder: a copy of the model's first layers, which sees, in each layer,
    one key and value made of each latent before the target; it counts positions on from them (`TargetDecoder`). M is
    linear without bias. SmoothL1 is a mean over plan tokens and the latent's numbers. The reconstruction trains decoder
    and encoder, and not the model.

    Equal to the authors' code (golden), their bag of words included: `regression_weight=0, reconstruction_weight=0,
    bag_weight=w` is CE + w * the sum over the vocabulary of BCE(U mean(h), token in target). Ours: each row has means
    of its own, weighed by its number of labels, so accumulated batches add up as one batch would (the same for rows of
    one length); encoder and decoder see no padding; the encoder has no dropout; plan tokens are no tokens of the
    vocabulary, so no logit is theirs.
    Decoding: prompt and plan tokens are given, then token by token. The plan tokens' embeddings are saved beside the
    model, so the stock checkpoint alone does not decode. They need positions: the model must take that many more.
    Relations: `registers` stand behind every token and are dropped; without weights it is `next_token` with pauses.
    Needs: attention, with a 4-D mask and a cache; hidden states.

    Args:
        plan_tokens: k, one latent for each.
        latent_size: numbers of a latent; where the hidden size is no more, as many, without a map N (M stays, ours).
        regression_weight, reconstruction_weight: the source's alpha and beta.
        decoder_layers: all of the model's, where it has fewer.
        bag_weight: of the bag of words.

    The defaults are those of the source's path-star script; it fine-tunes GPT-2 at a learning rate of 1e-5.

    Example:
        >>> from nt_failures import Semformer
        >>> batch = Semformer(plan_tokens=2).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8]}])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist()
        ([[1, 2, -1, -2, 7, 8]], [[-100, -100, -100, -100, 7, 8]])
    """

    plan_tokens: int = option(4, least=1, most=256, whole=True)
    latent_size: int = option(32, least=1, whole=True)
    regression_weight: float = option(1.0)
    reconstruction_weight: float = option(1.0)
    decoder_layers: int = option(6, least=1, whole=True)
    bag_weight: float = option(0.0)

    needs = frozenset({"4d_mask"})
    stock = False
    citation = "Yin et al., Semformer: Transformer Language Models with Semantic Planning, arXiv 2409.11143"

    @property
    def inserted_tokens(self) -> int:
        return self.plan_tokens

    def attach(self, model: PreTrainedModel) -> None:
        plan = nn.Embedding(self.plan_tokens, model.get_input_embeddings().weight.shape[1])
        config, width = model.config, model.config.hidden_size
        heads = auxiliary_modules.attention_heads(width, config.num_attention_heads)
        latent_size = min(self.latent_size, width)
        encoder = TargetEncoder(width, heads, self.plan_tokens, latent_size)
        decoder = TargetDecoder(model, min(self.decoder_layers, config.num_hidden_layers), latent_size)
        projection = nn.Linear(width, latent_size, bias=False)
        auxiliary_modules.attach(model, plan=plan, encoder=encoder, decoder=decoder, projection=projection)
        decoder.start_as(model)
        for layer in (projection, decoder.prefix):  # drawn as torch draws them in the source
            layer.reset_parameters()

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        ids, mask = insert_tokens((parts["prefix_ids"], parts["prefix_mask"]), self.plan_tokens)
        parts |= {"prefix_ids": ids, "prefix_mask": mask}
        return join(parts, parts["target_ids"], parts["target_ids"], self.pad_token_id)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        return super().loss(model, {**batch, "inputs_embeds": _embedded(model, batch["input_ids"])})

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        modules, labels_BT = auxiliary_modules.modules_of(model), output.labels_BT
        plan_BKD = output.states_BSD[:, output.first - self.plan_tokens : output.first]
        real_BT = labels_BT.ne(IGNORE)
        ids_BT = labels_BT.where(real_BT, self.pad_token_id)
        latents_BKZ = modules["encoder"](_read_alone(model, ids_BT), real_BT)
        foretold, wanted = (at_least_float32(z) for z in (modules["projection"](plan_BKD), latents_BKZ.detach()))
        distance_BK = F.smooth_l1_loss(foretold, wanted, reduction="none").mean(dim=-1)
        later_BT = labels_BT[:, 1:]
        nats_BT = token_nats(modules["decoder"](ids_BT, latents_BKZ)[:, :-1], later_BT)
        regression = row_mean_sum(distance_BK, torch.ones_like(distance_BK, dtype=torch.bool), labels_BT)
        reconstruction = row_mean_sum(nats_BT, later_BT.ne(IGNORE), labels_BT)
        terms: Terms = {
            "regression": (self.regression_weight, regression),
            "reconstruction": (self.reconstruction_weight, reconstruction),
        }
        if self.bag_weight:
            logits_BV = unembed(model, plan_BKD.mean(dim=1))
            bag_B = bag_nats(logits_BV, upcoming(labels_BT, logits_BV.shape[-1])[:, 0].isfinite())
            terms["bag"] = (self.bag_weight, row_mean_sum(bag_B[:, None], real_BT.any(dim=1, keepdim=True), labels_BT))
        return terms

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        return token_by_token(model, *prefix, lengths_B, self.pad_token_id, _embedded_to_decode(model, prefix[0]))

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        inputs = revealing_inputs(*prefix, shown_BT)
        inputs["inputs_embeds"] = _embedded_to_decode(model, inputs.pop("input_ids"))
        logits_BTV = model(**inputs, use_cache=False, logits_to_keep=shown_BT.shape[1]).logits
        return greedy(logits_BTV, shown_BT)


def _embedded(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """Embeddings (B, S, D) of tokens, and of plan tokens -1, -2, .."""
    plan = auxiliary_modules.modules_of(model)["plan"]
    tokens = auxiliary_modules.unwrap_model(model).get_input_embeddings()(ids.clamp(min=0))
    return plan((-1 - ids).clamp(min=0)).to(tokens.dtype).where(ids[..., None] < 0, tokens)


def _embedded_to_decode(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The same from a forward pass of its own: outside of one, the weights of a sharded model are in pieces."""
    return auxiliary_modules.inside_forward(model, lambda inner, given: _embedded(inner, **given), {"ids": ids})


@torch.no_grad()
def _read_alone(model: torch.nn.Module, ids_BT: Tensor) -> Tensor:
    """The model's last states (B, T, D) of the target without its prompt; padding is behind, where nobody sees it."""
    embedded = _embedded(model, ids_BT)  # given ids, transformers looks for padding in them
    inner = auxiliary_modules.unwrap_model(model)  # torch.compile would make graphs of their own for this width
    return states_of_pass(inner, inputs_embeds=embedded)
