"""What a model offers: attention models honour a mask, those that mix columns otherwise or mask on their own do not."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from nt_failures.models.capabilities import CAPABILITIES, capabilities, mask_obeyed
from nt_failures.objectives import MaskedDiffusion, NextToken, Registers
from nt_failures.objectives.checks import check_needs

HEADS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**HEADS, "num_key_value_heads": 2, "intermediate_size": 32}
MODELS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "opt": {**HEADS, "ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
    "falcon": HEADS,
    "qwen3": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "sliding_window": 4},
    "gpt_neo": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]},
    "lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"]},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 64},
    "rwkv": {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16},
}
ATTENTION = ("gpt2", "opt", "falcon", "qwen3", "mistral")
OBEYED = {kind: (True, True) if kind in ATTENTION else (False, False) for kind in MODELS} | {"gpt_neo": (True, False)}
"""Of gpt_neo a mask can hide, not show: it puts a causal one of its own on top."""


@pytest.fixture
def model():
    """`model(kind)`: a new one of a family of transformers, in training mode."""

    def make(kind):
        torch.manual_seed(0)
        ids = {"vocab_size": 15, "pad_token_id": 14, "bos_token_id": 14, "eos_token_id": 14}
        config = AutoConfig.for_model(kind, **MODELS[kind], **ids)
        made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.4)
        return made.train()

    return make


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_tried(kind, model):
    """Catches: a model that looks past the mask taken for one that does not, a random draw, dropout left off."""
    made = model(kind)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert mask_obeyed(made) == OBEYED[kind]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(part.training for part in made.modules())


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_model_is_said_to_offer(kind, model):
    """Catches: a trial that is made and not heard, and one that shuts out objectives without a mask."""
    made = model(kind)
    offered = {name for name, held in zip(CAPABILITIES, OBEYED[kind], strict=True) if held}
    assert capabilities(made) == offered
    for objective in (Registers(dummy_token_id=13), MaskedDiffusion(dummy_token_id=13)):
        if objective.needs <= offered:
            check_needs(objective, made)
        else:
            with pytest.raises(ValueError, match=r"needs .*, which .* does not offer"):
                check_needs(objective, made)
    if kind in ATTENTION:
        check_needs(NextToken(), made)


def test_a_model_without_weights_is_not_tried():
    """Catches: a crash where the weights come later, as with FSDP."""
    config = AutoConfig.for_model("opt", **MODELS["opt"], vocab_size=15)
    with torch.device("meta"):
        assert mask_obeyed(AutoModelForCausalLM.from_config(config)) == (True, True)


@dataclasses.dataclass(frozen=True)
class Shaped(NextToken):
    """An objective that shapes the attention mask."""

    needs: ClassVar[frozenset[str]] = frozenset({"4d_mask"})


def test_needs_are_checked(tiny_model):
    """Catches: an objective trained on a model that ignores its mask; an error that names one side only."""
    for family in ("gpt2", "gpt_neox", "llama"):
        check_needs(Shaped(), tiny_model(family))
    for family, name in (("mamba", "MambaForCausalLM"), ("mamba2", "Mamba2ForCausalLM")):
        with pytest.raises(ValueError, match=f"Shaped needs 4d_mask, which {name} does not offer"):
            check_needs(Shaped(), tiny_model(family))
        check_needs(NextToken(), tiny_model(family))
        assert capabilities(tiny_model(family)) == set()


class Old(GPT2LMHeadModel):
    """A causal LM of the time before `logits_to_keep`."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return super().forward(input_ids, attention_mask=attention_mask, labels=labels)


def test_models_without_logits_to_keep():
    """Catches: an unexpected keyword in the first training step."""
    model = Old(GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=4, n_positions=4))
    with pytest.raises(ValueError, match=r"Old\.forward takes no logits_to_keep"):
        check_needs(NextToken(), model)
