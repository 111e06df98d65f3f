"""Models: sizes by name, checkpoints, errors before training, and that generation answers with the right length."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, GPT2LMHeadModel, pipeline

from nt_failures.data.tokenizer import add_tokens, word_level_tokenizer
from nt_failures.experiments.command_line import read_recipe
from nt_failures.models.families import FAMILIES, from_scratch
from nt_failures.models.load import load_model, set_answer_length
from nt_failures.tasks.path_star import PathStar

SHAPES = {
    "gpt2": {"n_layer": 2, "n_embd": 128, "n_head": 2, "n_positions": 24, "attn_pdrop": 0.0},
    "gpt_neox": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "llama": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "max_position_embeddings": 24},
    "mamba": {"num_hidden_layers": 2, "hidden_size": 128},
    "mamba2": {"num_hidden_layers": 2, "hidden_size": 128, "num_heads": 8, "head_dim": 32},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_by_name(tokenizer, family):
    """Catches: layers and width swapped, the family's default size, GPT-2's vocabulary of 50,257."""
    with torch.device("meta"):
        model = load_model(f"{family}-2x128", tokenizer, max_length=24)
    fields = model.config.to_dict()
    assert {name: fields[name] for name in SHAPES[family]} == SHAPES[family]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == 15
    assert (model.config.pad_token_id, model.config.eos_token_id) == (14, 14)


PAPER = Path(__file__).parents[2] / "examples" / "recipes" / "paper"
PAPER_MODELS = {read_recipe(path)["model"] for path in PAPER.glob("*.yaml") if path.stem != "objectives"}
GPT2_BLOCK = 12 * 384**2 + 13 * 384
MAMBA_INNER, MAMBA_RANK, MAMBA_STATES = 2 * 384, 384 // 16, 16
MAMBA_BLOCK = (
    384  # norm
    + 384 * 2 * MAMBA_INNER  # in_proj: input and gate
    + 4 * MAMBA_INNER + MAMBA_INNER  # convolution over 4 tokens
    + MAMBA_INNER * (MAMBA_RANK + 2 * MAMBA_STATES)  # x_proj: time step, B, C
    + MAMBA_RANK * MAMBA_INNER + MAMBA_INNER  # dt_proj
    + MAMBA_INNER * MAMBA_STATES + MAMBA_INNER  # A, D
    + MAMBA_INNER * 384  # out_proj
)  # fmt: skip
# G(2, 5) with 50 labels: 55 tokens, 32 positions; the unembedding is tied.
PAPER_SIZES = {
    "gpt2-12x384": 12 * GPT2_BLOCK + (55 + 32) * 384 + 2 * 384,
    "gpt2-6x384": 6 * GPT2_BLOCK + (55 + 32) * 384 + 2 * 384,
    "mamba-12x384": 12 * MAMBA_BLOCK + 55 * 384 + 384,
}


@pytest.mark.parametrize("name", sorted(PAPER_MODELS))
def test_the_papers_models(name):
    """Catches: another GPT-Mini than the paper's 12 layers, width 384 and 6 heads; a model that cannot be built."""
    if name == "gpt2-large":  # a checkpoint; its config, without the weights
        with torch.device("meta"):
            config = GPT2Config(n_layer=36, n_embd=1280, n_head=20)
            assert GPT2LMHeadModel(config).num_parameters() == 774_030_080
        assert not from_scratch(name)
        return
    with torch.device("meta"):
        model = load_model(name, word_level_tokenizer(PathStar(2, 5, 50)), max_length=32)
    assert model.num_parameters() == PAPER_SIZES[name]
    if name.startswith("gpt2"):
        assert model.config.n_head == 6


@pytest.mark.parametrize(
    ("name", "new"),
    [("gpt2-2x32", True), ("mamba2-1x16", True), ("gpt2", False), ("gpt2-2x32-v2", False), ("org/gpt2-2x32", False)],
)
def test_names_that_mean_a_new_model(name, new):
    """Catches: a Hub id taken for a size."""
    assert from_scratch(name) is new


def test_new_models_follow_the_seed(tokenizer):
    """Catches: weights that no seed repeats."""
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(load_model("gpt2-1x16", tokenizer, max_length=24).transformer.wte.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_config_overrides(tokenizer, tmp_path):
    """Catches: an override that is dropped, from scratch or on a checkpoint."""
    model = load_model("gpt2-1x32", tokenizer, 24, config_overrides={"n_head": 4, "n_inner": 8, "n_positions": 40})
    assert (model.config.n_head, model.transformer.h[0].mlp.c_fc.nf, model.config.n_positions) == (4, 8, 40)
    model.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), tokenizer, 24, config_overrides={"attn_pdrop": 0.5})
    assert model.transformer.h[0].attn.attn_dropout.p == 0.5


def test_unknown_config_fields(tokenizer, tmp_path):
    """Catches: transformers' silence about a field that no model reads."""
    with pytest.raises(
        ValueError, match=r"GPT2Config has no field 'n_heads'\. Did you mean 'n_head'\? It has .*n_head,"
    ):
        load_model("gpt2-1x16", tokenizer, 24, config_overrides={"n_heads": 2})
    load_model("gpt2-1x16", tokenizer, 24).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="GPT2Config has no field 'state_size'"):
        load_model(str(tmp_path), tokenizer, 24, config_overrides={"state_size": 2})


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_come_back(tiny_model, tokenizer, tmp_path, family):
    """Catches: a model that is made anew instead of loaded, or resized."""
    model = tiny_model(family, spread=0.2)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), tokenizer, max_length=24).eval()
    ids = torch.tensor([[1, 10, 4, 9]])
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_embeddings_only_grow(tiny_model, task, tmp_path):
    """Catches: a pretrained vocabulary cut down to the task's symbols; a new token without a row."""
    model = tiny_model("gpt2", spread=0.2)
    model.resize_token_embeddings(20)
    old = model.transformer.wte.weight.detach().clone()
    model.save_pretrained(tmp_path)
    tokenizer = word_level_tokenizer(task)
    assert load_model(str(tmp_path), tokenizer, 24).config.vocab_size == 20
    add_tokens(tokenizer, [f"<{i}>" for i in range(7)])
    grown = load_model(str(tmp_path), tokenizer, 24)
    assert grown.get_input_embeddings().num_embeddings == grown.config.vocab_size == 22
    assert torch.equal(grown.transformer.wte.weight[:20], old)


@pytest.mark.parametrize(
    ("family", "field"),
    [("gpt2", "n_positions"), ("gpt_neox", "max_position_embeddings"), ("llama", "max_position_embeddings")],
)
def test_too_few_positions(tiny_model, tokenizer, tmp_path, family, field):
    """Catches: an index error in the middle of training, a refusal of the last length that fits, or a way out that a
    family's config has no field for."""
    tiny_model(family).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), tokenizer, max_length=64)
    said = rf"(ForCausalLM|LMHeadModel) takes .* 64 tokens and these need 65.*--config_overrides '{{\"{field}\": 65}}'"
    with pytest.raises(ValueError, match=said):
        load_model(str(tmp_path), tokenizer, max_length=65)
    assert load_model(f"{family}-1x16", tokenizer, 64, config_overrides={field: 65}).config.to_dict()[field] == 65


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_recurrent_models_take_any_length(tiny_model, tokenizer, tmp_path, family):
    """Catches: a limit made up for a model without a position table."""
    tiny_model(family).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), tokenizer, max_length=10**6)


@pytest.mark.parametrize("family", FAMILIES)
def test_last_columns_of_the_logits(tiny_model, family):
    """Catches: a family whose `logits_to_keep` keeps other columns, by which every loss here would be wrong."""
    model = tiny_model(family, spread=0.2)
    ids = torch.tensor([[1, 10, 4, 9, 2], [3, 3, 5, 12, 0]])
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids, logits_to_keep=3).logits, whole[:, 2:])


@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_pipelines_answer_with_the_length_of_a_path(tiny_model, tokenizer, tmp_path, family):
    """Catches: transformers' 20 or 256 new tokens, an early stop, or sampling, once the model is saved and loaded."""
    model = tiny_model(family, spread=0.5)
    ids = tokenizer("0,1|1,2|0,3|3,4/0,2=", return_tensors="pt").input_ids
    set_answer_length(model, 3, tokenizer.pad_token_id)
    assert model.generate(ids).shape == (1, ids.shape[1] + 3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answer = pipeline("text-generation", model=str(tmp_path), device="cpu")
    prompts = [PathStar(2, 3, 10).render(PathStar(2, 3, 10).block(0, "test", 0))["prompt"].to_list()[i] for i in (0, 1)]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        (found,) = answer(prompt, return_tensors=True)
        assert found["generated_token_ids"][: ids.shape[1]] == ids[0].tolist()
        assert found["generated_token_ids"] == loaded.generate(ids)[0].tolist()
        assert len(found["generated_token_ids"]) == ids.shape[1] + 3
        (text,) = answer(prompt, return_full_text=False)
        assert len(text["generated_text"].split()) == 3


def test_whoever_asks_for_another_length_or_end_gets_it(tiny_model, tokenizer, tmp_path):
    """Catches: saved settings that overrule the caller's, such as TRL's GRPOTrainer, which would never see an answer
    that ends by itself before the length that was trained."""
    model, end = tiny_model("gpt2"), tokenizer.eos_token_id
    with torch.no_grad():  # the end token has the largest logit everywhere, whatever the prompt
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1)
        model.lm_head.weight.zero_()
        model.lm_head.weight[end] = 9
    set_answer_length(model, 5, tokenizer.pad_token_id, end)
    model.save_pretrained(tmp_path)
    loaded, prompt = AutoModelForCausalLM.from_pretrained(tmp_path), torch.tensor([[1, 2, 3]])
    asked = GenerationConfig(max_new_tokens=8, do_sample=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=end)
    assert loaded.generate(prompt, generation_config=asked)[0, 3:].tolist() == [end]
    assert loaded.generate(prompt, max_new_tokens=8, eos_token_id=0)[0, 3:].tolist() == [end] * 8


@pytest.mark.parametrize("name", ["gpt3-2x3", "bert-2x32", "gpt2-0x64", "gpt2-2x0"])
def test_a_size_that_cannot_be_built(name):
    """Catches: a typo looked up on the Hub, with a minute of retries; a model of no layers."""
    with pytest.raises(ValueError, match="write FAMILY-LAYERSxWIDTH with a family of gpt2"):
        from_scratch(name)
