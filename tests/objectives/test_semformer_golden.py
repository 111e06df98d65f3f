"""Semformer against numbers of its authors' code (ARIES-LM/Semformer, arXiv 2409.11143), and against plain passes."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.data.batches import IGNORE
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.hub.load import load
from nt_failures.models.load import load_model
from nt_failures.objectives import Semformer, auxiliary_modules, last_block
from nt_failures.objectives.plan_autoencoder import TargetDecoder, TargetEncoder

FOLDER = Path(__file__).parents[1] / "goldens"
GOLDEN = np.load(FOLDER / "semformer.npz")
BAG = np.load(FOLDER / "future_bag.npz")
RAGGED = [
    {"prefix_ids": [1, 2, 3], "target_ids": [7, 8]},
    {"prefix_ids": [4], "target_ids": [9, 10, 11, 12]},
    {"prefix_ids": [5, 6], "target_ids": [3]},
]
ENCODER = {
    "queries.weight": "queries",
    "ln_1.weight": "ln1_w",
    "ln_1.bias": "ln1_b",
    "ln_2.weight": "ln2_w",
    "ln_2.bias": "ln2_b",
    "query.weight": "cross_q_w",
    "query.bias": "cross_q_b",
    "key_value.weight": "cross_kv_w",
    "key_value.bias": "cross_kv_b",
    "out.weight": "cross_o_w",
    "out.bias": "cross_o_b",
    "project.weight": "latent_projection",
}


def read(name):
    return torch.from_numpy(GOLDEN[name])


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-9, atol=1e-9)


def numbers(weights):
    """A layer without bias of these weights (out, in)."""
    layer = nn.Linear(*weights.shape[::-1], bias=False, dtype=weights.dtype)
    layer.weight = nn.Parameter(weights.clone())
    return layer


def encoder():
    made = TargetEncoder(8, int(GOLDEN["attention_heads"]), int(GOLDEN["plan_tokens"]), 5).double()
    made.load_state_dict({own: read(name) for own, name in ENCODER.items()})
    return made


class GivenDecoder(nn.Module):
    """Answers with the file's logits; what it was given is in `latents`."""

    def __init__(self, ids, logits):
        super().__init__()
        self.ids, self.logits = ids, nn.Parameter(logits)

    def forward(self, ids, latents):
        assert torch.equal(ids, self.ids)
        self.latents = latents
        return self.logits + 0 * latents.sum()


class Given(nn.Module):
    """A model whose states are the file's: of whole rows, and of the targets alone. It fails on any other input."""

    dtype = torch.float64

    def __init__(self, golden, prompt, plan, alone):
        super().__init__()
        ids = torch.from_numpy(golden["ids"]).long()
        self.hidden, self.alone = (nn.Parameter(torch.as_tensor(t)) for t in (golden["hidden"], alone))
        self.unembedding = numbers(torch.from_numpy(golden["U"]))
        self.embedding = nn.Embedding(20, 8, dtype=torch.float64)
        self.rows, self.targets = (self.embedding(i).detach() for i in (ids, ids[:, prompt + plan :]))
        self.config = SimpleNamespace(hidden_size=8)
        self.examples = [{"prefix_ids": row[:prompt], "target_ids": row[prompt + plan :]} for row in ids.tolist()]
        plan_ids = ids[0, prompt : prompt + plan]
        self.plan = nn.Embedding(plan, 8, dtype=torch.float64)
        self.plan.weight.data = self.embedding.weight.data[plan_ids]

    def get_input_embeddings(self):
        return self.embedding

    def get_output_embeddings(self):
        return self.unembedding

    def forward(self, inputs_embeds, logits_to_keep, **kwargs):
        columns = inputs_embeds.shape[1]
        whole = columns > self.targets.shape[1]
        assert torch.equal(inputs_embeds, self.rows[:, :columns] if whole else self.targets)
        states = (self.hidden if whole else self.alone)[:, :columns]  # a slice: no_grad leaves a Parameter as it is
        return SimpleNamespace(logits=self.unembedding(states[:, -logits_to_keep:]), hidden_states=(states,))


def test_loss_and_gradients():
    """Catches: plan tokens elsewhere or one state off, latents that learn from the regression, r_1 among the decoder's
    labels, an encoder that reads the prompt or sends a gradient to the model, a sum for a mean. The reconstruction's
    gradient reaches the encoder, here as zeros, for the decoder's logits are given."""
    prompt, plan = int(GOLDEN["prompt_length"]), int(GOLDEN["plan_tokens"])
    alpha, beta = GOLDEN["alpha_beta"].tolist()
    objective = Semformer(plan_tokens=plan, latent_size=5, regression_weight=alpha, reconstruction_weight=beta)
    model = Given(GOLDEN, prompt, plan, GOLDEN["encoder_states"])
    decoder = GivenDecoder(read("decoder_labels"), read("decoder_logits"))
    parts = {"plan": model.plan, "encoder": encoder(), "decoder": decoder}
    parts["projection"] = numbers(read("plan_projection"))
    model.add_module(auxiliary_modules.NAME, nn.ModuleDict(parts))
    batch = objective.collate(model.examples)
    assert torch.equal(batch["labels"], read("labels").long())
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    close(decoder.latents, read("latents"))
    close(mean.detach(), read("total"))
    for name, part in loss.parts.items():
        close(part / loss.count, read(name))
    close(model.hidden.grad, read("grad_hidden"))
    close(model.unembedding.weight.grad, read("grad_U"))
    close(parts["projection"].weight.grad, read("grad_plan_projection"))
    close(decoder.logits.grad, read("grad_decoder_logits"))
    assert model.alone.grad is None
    assert all(p.grad is not None and not p.grad.any() for p in parts["encoder"].parameters())


def test_keys_and_values_of_the_latents():
    """Catches: queries without the norm or the residual, heads before layers, values before keys, latents stopped."""
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "bos_token_id": None, "eos_token_id": None}
    decoder = TargetDecoder(GPT2LMHeadModel(GPT2Config(vocab_size=13, **sizes)), 2, 5).double()
    decoder.prefix.load_state_dict({"weight": read("prefix_w"), "bias": read("prefix_b")})
    made = encoder()
    latents = made(read("encoder_states"), torch.ones(2, 4, dtype=torch.bool))
    close(latents, read("latents"))
    found = decoder.prefixes(latents)
    for layer in range(2):
        for i, name in enumerate(("key", "value")):
            close(found[layer, i], read(f"prefix_{name}_{layer}"))
    value = (found * read("probe")).sum()
    value.backward()
    close(value.detach(), read("probe_value"))
    for own, name in ENCODER.items():
        close(made.get_parameter(own).grad, read(f"probe_grad_{name}"))
    close(decoder.prefix.weight.grad, read("probe_grad_prefix_w"))
    close(decoder.prefix.bias.grad, read("probe_grad_prefix_b"))


def test_bag_of_words():
    """Catches: a bag of each plan token's own state, a mean over the vocabulary, a bag without its first token."""
    golden = {name.removeprefix("semformer/"): BAG[name] for name in BAG.files if name.startswith("semformer/")}
    prompt, plan, weight = (golden[name].item() for name in ("prompt_length", "plan_tokens", "bow_weight"))
    objective = Semformer(
        plan_tokens=plan, latent_size=8, regression_weight=0, reconstruction_weight=0, bag_weight=weight
    )
    model = Given(golden, prompt, plan, golden["hidden"][:, prompt + plan :])
    decoder = GivenDecoder(torch.tensor([row["target_ids"] for row in model.examples]), torch.zeros(3, 5, 14))
    parts = {"plan": model.plan, "encoder": TargetEncoder(8, 2, plan, 8), "decoder": decoder}
    parts["projection"] = nn.Linear(8, 8, bias=False)
    model.add_module(auxiliary_modules.NAME, nn.ModuleDict(parts).double())
    loss = objective.loss(model, objective.collate(model.examples))
    mean = loss.sum / loss.count
    mean.backward()
    found = {"next_token": loss.parts["next_token"] / loss.count, "bow": loss.parts["bag"] / loss.count}
    found |= {"total": mean.detach(), "grad_hidden": model.hidden.grad, "grad_U": model.unembedding.weight.grad}
    for name, value in found.items():
        close(value, golden[name])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "llama, shared keys"])
def test_the_decoder_reads_behind_keys_and_values(family, layers, tokenizer):
    """The keys and values are those of three real tokens, so the target's logits are those of a pass over both.

    Catches: a decoder that does not see them, as under activation checkpointing, or counts positions from 0; weights
    that are not the model's first layers', heads of another number or width.
    """
    overrides = {"num_attention_heads": 2} | ({"num_key_value_heads": 1} if "," in family else {})
    torch.manual_seed(0)
    model = load_model(f"{family.partition(',')[0]}-2x16", tokenizer, 32, overrides).double().train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    Semformer(plan_tokens=3, decoder_layers=layers).attach(model)
    model.gradient_checkpointing_enable()
    decoder = auxiliary_modules.modules_of(model)["decoder"]
    few = copy.deepcopy(model).eval()
    del last_block.parts(few)[0][layers:]
    ids = torch.tensor([[1, 2, 3, 7, 8, 9, 5], [4, 5, 6, 10, 11, 12, 0]])
    cache = few.base_model(ids[:, :3], use_cache=True).past_key_values
    kept = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers[:layers]])
    assert decoder.prefixes(torch.zeros(2, 3, 16, dtype=torch.float64)).shape == kept.shape
    decoder.prefixes = lambda latents: kept
    close(decoder(ids[:, 3:], torch.zeros(2, 3, 16)), few(ids, use_cache=False).logits[:, 3:])


def test_a_row_does_not_see_the_rows_beside_it(tiny_model):
    """Catches: padding in the latents or the decoder, a mean over the batch, a bag with the padding in it."""
    model = tiny_model("gpt2", spread=0.5).double()
    objective = Semformer(plan_tokens=2, regression_weight=0.7, bag_weight=0.4, pad_token_id=14)
    objective.attach(model)
    together = objective.loss(model, objective.collate(RAGGED))
    alone = [objective.loss(model, objective.collate([row])) for row in RAGGED]
    close(together.sum, sum(loss.sum for loss in alone))
    assert list(together.parts) == ["next_token", "regression", "reconstruction", "bag"]
    for name, part in together.parts.items():
        close(part, sum(loss.parts[name] for loss in alone))


def test_whole_batch_by_hand():
    """Catches: plan tokens in the padding or hidden by it, a label on one."""
    batch = Semformer(plan_tokens=2, pad_token_id=14).collate(RAGGED[:2])
    x = IGNORE
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[1, 2, 3, -1, -2, 7, 8, 14, 14], [14, 14, 4, -1, -2, 9, 10, 11, 12]],
        "attention_mask": [[1, 1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 1]],
        "position_ids": [[0, 1, 2, 3, 4, 5, 6, 6, 6], [0, 0, 0, 1, 2, 3, 4, 5, 6]],
        "labels": [[x, x, x, x, x, 7, 8, x, x], [x, x, x, x, x, 9, 10, 11, 12]],
    }


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_decoding_by_plain_passes(family, tiny_model):
    """Catches: plan tokens left out, behind what is given of the answer, or with another embedding; padding seen."""
    objective, model = Semformer(plan_tokens=2, pad_token_id=14), tiny_model(family, spread=1.0)
    objective.attach(model)
    plan = auxiliary_modules.modules_of(model)["plan"].weight
    nn.init.normal_(plan)
    embed = model.get_input_embeddings()
    rows, answers = ([1, 2, 3], [4, 5]), []
    for row in rows:
        read = torch.cat([embed(torch.tensor(row)), plan])
        for _ in range(4):
            token = model(inputs_embeds=read[None]).logits[0, -1].argmax()
            read = torch.cat([read, embed(token)[None]])
            answers.append(int(token))
    expected = torch.tensor(answers).view(2, 4)
    prefix, mask = torch.tensor([[1, 2, 3], [14, 4, 5]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    assert torch.equal(objective.decode(model, prefix, 4, mask), expected)
    assert torch.equal(objective.decode(model, prefix, 4, mask, shown=expected), expected)
    begun = torch.tensor([[1, 2, 3, answers[0]], [4, 5, *answers[4:6]]])
    assert objective.decode(model, begun, 2, given=torch.tensor([1, 2])).tolist() == [answers[1:3], answers[6:8]]


@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_a_run_reads_goes_on_and_comes_back(order, finished):
    """Catches: a model without positions for the plan tokens, a wrong arm that is revealed in front of them, plan
    tokens that are not saved, a card that promises a stock checkpoint."""
    folder = finished("semformer", order)
    run = load(str(folder))
    predictor = ModelPredictor(run.model, run.tokenizer, run.objective, run.task)
    columns = {name: column[:40] for name, column in run.task.block(0, "test", 0).items()}
    assert run.model.config.n_positions == predictor.longest(columns) == 21 + 4 + 4
    free = predictor.free(columns)
    whole = (free >= 0).all(axis=1)
    assert whole.any()
    rows = {name: column[whole] for name, column in columns.items()}
    assert np.array_equal(predictor.continued(rows, free[whole], 2), free[whole])
    with pytest.raises(ValueError, match="Semformer does not predict with the stock model alone"):
        predictor.candidates(columns, columns["path"])
    assert "library_name: nt_failures" in (folder / "README.md").read_text(encoding="utf-8")
