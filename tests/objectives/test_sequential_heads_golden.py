"""sequential_heads: the numbers of the paper's formula, through the objective's own loss on a GPT-2.

And those of transformers' layers, on a Llama.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import gpt2_block
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from nt_failures.objectives import SequentialHeads, auxiliary_modules

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "sequential_heads.npz")
DEPTHS, WIDTH, VOCABULARY = 2, 8, 13
OTHERS = {"hnorm": "state_norm", "enorm": "token_norm", "proj": "merge"}


def golden(name, group="paper"):
    return torch.from_numpy(np.array(GOLDEN[f"{group}/{name}"]))


def close(found, expected):
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-9)


def weights_of(depth):
    """A depth's weights, or with `grad_` the gradients, as GPT-2 stores them."""
    found = {f"{renamed}.weight": golden(f"{depth}/{name}") for name, renamed in OTHERS.items()}
    block = gpt2_block(lambda name: golden(f"{depth}/{name}"))
    return found | {f"block.{name}": value for name, value in block.items()}


@pytest.fixture
def chain():
    """The objective, a float64 model with the golden's states behind its last block, and these states."""
    objective = SequentialHeads(depths=DEPTHS, weight=float(golden("lambda")), pad_token_id=0)
    sizes = {"n_layer": 1, "n_embd": WIDTH, "n_head": int(golden("attention_heads")), "vocab_size": VOCABULARY}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"n_positions": 16, "bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": False}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, **ends)).double().train()
    objective.attach(model)
    states = nn.Parameter(golden("hidden"))
    model.transformer.h[0].forward = lambda *args, **kwargs: states[:, :-1]  # the last column predicts nothing
    with torch.no_grad():
        model.transformer.wte.weight.copy_(golden("embeddings"))
        model.lm_head.weight.copy_(golden("U"))
        model.transformer.ln_f.weight.copy_(golden("norm_w"))
        model.transformer.ln_f.bias.copy_(golden("norm_b"))
    for k in range(1, DEPTHS + 1):
        module = auxiliary_modules.modules_of(model)[f"depth_{k}"]
        assert not module.load_state_dict(weights_of(f"depth{k}"), strict=False).missing_keys
    return objective, model, states


def batch_of(objective, group="paper"):
    prompt = int(golden("prompt_length", group))
    rows = golden("ids", group).tolist()
    return objective.collate([{"prefix_ids": row[:prompt], "target_ids": row[prompt:]} for row in rows])


def depths_of(loss):
    return torch.stack([loss.parts[f"depth_{k}"] for k in range(1, DEPTHS + 1)]) / loss.count


def test_the_paper_s_loss_and_gradients(chain):
    """Catches: state and token joined in the other order, the token before or behind, one norm for both, the final norm
    between depths or left out before the unembedding, a sum of the depths for their mean, prompt tokens as labels, a
    depth one token off, embeddings or the trunk detached."""
    objective, model, states = chain
    loss = objective.loss(model, batch_of(objective))
    close(loss.sum / loss.count, golden("total"))
    close(loss.parts["next_token"] / loss.count, golden("next_token"))
    close(depths_of(loss), golden("ce_per_depth"))
    (loss.sum / loss.count).backward()
    close(states.grad, golden("grad_hidden"))
    close(model.transformer.wte.weight.grad, golden("grad_embeddings"))
    close(model.lm_head.weight.grad, golden("grad_U"))
    close(model.transformer.ln_f.weight.grad, golden("grad_norm_w"))
    close(model.transformer.ln_f.bias.grad, golden("grad_norm_b"))
    for k in range(1, DEPTHS + 1):
        expected = weights_of(f"grad_depth{k}")
        parameters = dict(auxiliary_modules.modules_of(model)[f"depth_{k}"].named_parameters())
        assert set(parameters) == set(expected)
        for name, parameter in parameters.items():
            close(parameter.grad, expected[name])


def test_states_and_logits_of_each_depth(chain):
    """Catches: a depth that is right at the labels alone, a later column seen."""
    objective, model, _ = chain
    found = {}
    for k in range(1, DEPTHS + 1):
        auxiliary_modules.modules_of(model)[f"depth_{k}"].register_forward_hook(
            lambda _, args, states, k=k: found.update({k: states})
        )
    objective.loss(model, batch_of(objective))
    for k, states in found.items():
        columns = states.shape[1] - k + 1
        close(states[:, :columns], golden(f"depth{k}/states")[:, :columns])
        logits = model.lm_head(model.transformer.ln_f(states[:, :columns]))
        close(logits, golden(f"depth{k}/logits")[:, :columns])
    assert set(found) == {1, 2}


STOCK = {
    **{name: f"mtp_block.self_attn.{name}_proj" for name in ("q", "k", "v", "o")},
    **{name: f"mtp_block.mlp.{name}_proj" for name in ("gate", "up", "down")},
    **{"norm1": "mtp_block.input_layernorm", "norm2": "mtp_block.post_attention_layernorm", "proj": "eh_proj"},
    **{name: name for name in ("enorm", "hnorm", "post_norm")},
}


def stock_weights_of(depth):
    return {f"{renamed}.weight": golden(f"{depth}/{name}", "transformers") for name, renamed in STOCK.items()}


def small_llama(weight):
    """The objective, a Llama with the golden's states behind its final norm, and these states."""
    objective = SequentialHeads(depths=DEPTHS, weight=weight, form="transformers", pad_token_id=0)
    heads, eps = int(golden("attention_heads", "transformers")), float(golden("rms_eps", "transformers"))
    sizes = {"num_hidden_layers": DEPTHS, "hidden_size": WIDTH, "num_attention_heads": heads, "vocab_size": VOCABULARY}
    others = {"intermediate_size": 12, "rms_norm_eps": eps, "bos_token_id": None, "eos_token_id": None}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **others)).train()
    objective.attach(model)
    states = nn.Parameter(golden("hidden", "transformers"))
    model.model.norm.forward = lambda _: states[:, :-1]
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(golden("embeddings", "transformers"))
        model.lm_head.weight.copy_(golden("U", "transformers"))
    for k in range(1, DEPTHS + 1):
        module = model.mtp["layers"][k - 1]
        assert not module.load_state_dict(stock_weights_of(f"depth{k}"), strict=False).missing_keys
    return objective, model, states


def close32(found, expected):
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-5)


def test_form_of_transformers_is_its_code():
    """Catches: state and embedding in the paper's order, states from before the final norm, the trunk's final norm for
    a depth's own, states without it handed on, positions that count otherwise within a depth."""
    gradients = []
    for weight in (1.0, 0.0):
        objective, model, states = small_llama(weight)
        loss = objective.loss(model, batch_of(objective, "transformers"))
        close32(depths_of(loss), golden("ce_per_depth", "transformers"))
        close32(depths_of(loss).mean(), golden("mean_ce", "transformers"))
        (loss.sum / loss.count).backward()
        found = {"hidden": states.grad, "U": model.lm_head.weight.grad}
        found["embeddings"] = model.model.embed_tokens.weight.grad
        for k in range(1, DEPTHS + 1):
            for name, parameter in model.mtp["layers"][k - 1].named_parameters():
                found[f"depth{k}/{name}"] = parameter.grad
        gradients.append(found)
    expected = {name: golden(f"grad_{name}", "transformers") for name in ("hidden", "U", "embeddings")}
    for k in range(1, DEPTHS + 1):
        expected |= {f"depth{k}/{name}": value for name, value in stock_weights_of(f"grad_depth{k}").items()}
    with_depths, without = gradients
    assert set(with_depths) == set(expected)
    for name, value in expected.items():  # the golden's are of the depths alone, without the next token
        close32(with_depths[name] - (0 if without[name] is None else without[name]), value)


def test_form_of_transformers_says_what_it_needs():
    """Catches: layers of transformers on a model that they cannot draft for, an unknown form."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=13))
    with pytest.raises(ValueError, match=r"needs a model built as Llama, and GPT2LMHeadModel is not; .*form='paper'"):
        SequentialHeads(form="transformers").attach(model)
    with pytest.raises(ValueError, match=r"form='deepseek' is not a choice; give one of 'paper', 'transformers'"):
        SequentialHeads(form="deepseek")
