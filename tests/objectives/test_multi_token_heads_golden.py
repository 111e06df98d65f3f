"""multi_token_heads: the numbers of the authors' codes, through the objective's own loss on a GPT-2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import GivenStates, gpt2_block
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.objectives import MultiTokenHeads, auxiliary_modules

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "multi_token_heads.npz")
HEADS, WIDTH, VOCABULARY, END = 3, 8, 13, 12


def golden(name):
    return torch.from_numpy(np.array(GOLDEN[name]))


def close(found, name):
    torch.testing.assert_close(found.detach(), golden(name), rtol=0, atol=1e-9)


def small_gpt2(objective):
    """One block, which is head 1, float64."""
    sizes = {"n_layer": 1, "n_embd": WIDTH, "n_head": int(GOLDEN["attention_heads"]), "vocab_size": VOCABULARY}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"n_positions": 16, "bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, **ends)).double()
    objective.attach(model)
    return model.train()


def batch_of(objective, ids):
    prompt = int(GOLDEN["prompt_length"])
    return objective.collate([{"prefix_ids": row[:prompt], "target_ids": row[prompt:]} for row in ids.tolist()])


def weights_of(head, prefix):
    """A block's weights, or gradients of them, as GPT-2 stores them."""
    return gpt2_block(lambda name: golden(f"{prefix}{head}/{name}"))


@pytest.fixture
def sum_of_heads():
    """The objective, and a model with the golden's blocks on the golden's trunk."""
    objective = MultiTokenHeads(heads=HEADS, pad_token_id=0)
    model = small_gpt2(objective)
    model.transformer.drop = GivenStates(golden("x"))
    blocks = [model.transformer.h[0], *auxiliary_modules.modules_of(model).values()]
    with torch.no_grad():
        model.lm_head.weight.copy_(golden("U"))
        model.transformer.ln_f.weight.copy_(golden("norm_w"))
        model.transformer.ln_f.bias.copy_(golden("norm_b"))
    for j, block in enumerate(blocks, start=1):
        assert not block.load_state_dict(weights_of(f"head{j}", ""), strict=False).missing_keys
    return objective, model, blocks


def test_sum_of_means_is_the_authors_own(sum_of_heads):
    """Catches: heads behind the last block or behind the final norm, a head that has a norm of its own, a mean of the
    heads for their sum, labels of states before `=` left out, a head one token off."""
    objective, model, blocks = sum_of_heads
    loss = objective.loss(model, batch_of(objective, golden("ids")))
    close(loss.sum / loss.count, "total")
    parts = torch.stack([loss.parts[name] for name in ("next_token", "head_2", "head_3")])
    close(parts / loss.count, "ce_per_head")
    (loss.sum / loss.count).backward()
    close(model.transformer.drop.states.grad, "grad_x")
    close(model.lm_head.weight.grad, "grad_U")
    close(model.transformer.ln_f.weight.grad, "grad_norm_w")
    close(model.transformer.ln_f.bias.grad, "grad_norm_b")
    for j, block in enumerate(blocks, start=1):
        expected = weights_of(f"head{j}", "grad_")
        for name, parameter in block.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-9)


def test_head_1_alone_decodes(sum_of_heads):
    """Catches: another head, or a mean of the heads, at inference."""
    objective, model, _ = sum_of_heads
    logits = model(input_ids=golden("ids")[:, :-1].long(), use_cache=False, logits_to_keep=1).logits
    close(logits, "logits_head1_inference")
    assert objective.stock


def test_variant_of_nextlat_is_its_code():
    """Catches: the weight on the sum of the further heads, or on head 1, too; the end as a label of every head; one
    norm for all heads."""
    weight = float(GOLDEN["nextlat/lambda"])
    objective = MultiTokenHeads(heads=HEADS, mean_weight=weight, pad_token_id=0, end_token_id=END)
    model = small_gpt2(objective)
    modules = auxiliary_modules.modules_of(model)
    assert set(modules) == {"head_2", "head_3", "norm_2", "norm_3"}
    assert type(modules["norm_2"]) is type(model.transformer.ln_f)
    states = golden("nextlat/head_states").requires_grad_()
    for norm, given in zip((model.transformer.ln_f, modules["norm_2"], modules["norm_3"]), states, strict=True):
        norm.forward = lambda _, given=given: given
    with torch.no_grad():
        model.lm_head.weight.copy_(golden("nextlat/U"))
    loss = objective.loss(model, batch_of(objective, golden("nextlat/ids")))
    close(loss.sum / loss.count, "nextlat/total")
    parts = torch.stack([loss.parts[name] for name in ("next_token", "head_2", "head_3")])
    close(parts / loss.count, "nextlat/ce_per_head")
    (loss.sum / loss.count).backward()
    close(states.grad, "nextlat/grad_head_states")
    close(model.lm_head.weight.grad, "nextlat/grad_U")
