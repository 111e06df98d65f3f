"""The last block of a trunk: blocks beside it, what it is given, and the final norm, in every family."""

import pytest
import torch
from small_models import SMALL
from transformers import AutoModelForCausalLM, PreTrainedConfig

from nt_failures.models import mamba_scan
from nt_failures.objectives import MultiTokenHeads, auxiliary_modules, last_block
from nt_failures.objectives.base import target_logits
from nt_failures.objectives.losses import unembed

by_family = pytest.mark.parametrize("family", SMALL)


@by_family
@pytest.mark.parametrize("training", [False, True])
def test_a_block_with_the_last_ones_weights_is_head_1(family, training, tiny_model, ragged):
    """Two layers, rows padded on both sides; in training with activation checkpointing.

    Catches: a head on embeddings, behind the last block or without its mask and positions; the wrong norm."""
    objective = MultiTokenHeads(heads=2, pad_token_id=14)
    model = tiny_model(family, size="2x16", spread=0.3)
    objective.attach(model)
    if training:
        model.train()
        model.gradient_checkpointing_enable()
    blocks, norm = last_block.parts(model)
    head = auxiliary_modules.modules_of(model)["head_2"]
    assert len(blocks) == 2
    head.load_state_dict(blocks[-1].state_dict())
    batch = objective.collate(ragged)
    with last_block.calls_of(blocks[-1]) as calls:
        logits, labels = target_logits(model, batch)
    (call,) = calls
    states = norm(last_block.states_of(head, call))
    found = unembed(model, states[:, -logits.shape[1] :])
    real = labels.ne(-100)
    torch.testing.assert_close(found[real], logits[real], rtol=1e-5, atol=1e-5)
    trunk = model.get_input_embeddings().weight
    (expected,) = torch.autograd.grad(logits[real].square().sum(), trunk, retain_graph=True)
    (gradient,) = torch.autograd.grad(found[real].square().sum(), trunk)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


@by_family
def test_new_blocks_are_new(family, tiny_model, tmp_path):
    """Catches: heads that start as copies of a checkpoint's last block or of each other, uninitialised memory, weights
    frozen as the checkpoint's are, another scan than the model's."""
    tiny_model(family).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).requires_grad_(False)
    mamba_scan.use_scan(model)
    torch.manual_seed(3)
    MultiTokenHeads(heads=3, mean_weight=1.0).attach(model)
    modules = auxiliary_modules.modules_of(model)
    blocks, norm = last_block.parts(model)
    assert all(parameter.requires_grad for parameter in modules.parameters())
    assert mamba_scan.uses_torch_scan(modules["head_2"]) == (family == "mamba")
    assert torch.equal(modules["norm_2"].weight, torch.ones_like(norm.weight))
    for name, weight in modules["head_2"].named_parameters():
        old = blocks[-1].get_parameter(name)
        assert float(weight.detach().std(correction=0)) == pytest.approx(
            float(old.std(correction=0)), rel=0.5, abs=1e-6
        )
        if float(old.std(correction=0)) > 0 and not name.endswith("A_log"):
            assert not torch.equal(weight, old)
            assert not torch.equal(weight, modules["head_3"].get_parameter(name))


def test_a_trunk_of_another_build_is_named(tiny_model):
    """Catches: a head in the wrong place of a model that no one has looked at."""
    model = tiny_model("gpt2")
    model.config = PreTrainedConfig(num_hidden_layers=3)
    with pytest.raises(ValueError, match="GPT2LMHeadModel is not built as a list of 3 blocks and one norm"):
        MultiTokenHeads().attach(model)
