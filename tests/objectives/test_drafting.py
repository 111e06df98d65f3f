"""Drafting: what an objective trained, saved and loaded by stock transformers, drafts in `generate(use_mtp=True)`."""

import datasets
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.generation.candidate_generator import MTPCandidateGenerator
from transformers.modeling_layers import MtpModel

import nt_failures as ntf
from nt_failures.hub.push import push_run
from nt_failures.objectives import auxiliary_modules, drafting

TEXT = [
    {"prompt": f"{start}/{step}=", "completion": ",".join(str((start + step * i) % 10) for i in range(1, 9))}
    for start in range(10)
    for step in (1, 3)
]
"""Counting by 1 and by 3: tokens that a depth can know."""
SIZES = {
    "vocab_size": 15,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    **{"pad_token_id": 14, "bos_token_id": None, "eos_token_id": None},
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
DEEPSEEK = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
SLIDING = ["sliding_attention", "full_attention"]
NATIVE = {
    "exaone_moe": {"mlp_layer_types": ["dense", "dense"], "layer_types": SLIDING, "sliding_window": 3},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16},
    "mellum": {**MOE, "num_experts": 4, "head_dim": 32},
}
"""Classes of transformers that know layers named `mtp`, and what makes them small."""
BY_A_LINE = {
    "llama": {},
    "mistral": {},
    "qwen3": {"head_dim": 32},
    "glm4_moe": {**MOE, "n_routed_experts": 4, "head_dim": 32},
    "deepseek_v3": {**MOE, **DEEPSEEK, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
}
"""Those that have to be told of them."""


@pytest.fixture(scope="module")
def rows(tokenizer):
    """The rows of `TEXT`, tokenised."""
    return ntf.tokenize(datasets.Dataset.from_list(TEXT), tokenizer)


def new_model(family):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **{**NATIVE, **BY_A_LINE}[family])
    return AutoModelForCausalLM.from_config(config).eval()


def written(model, prompt, **settings):
    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": 8, "do_sample": False, **settings}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()


def told(model):
    """The model, told by the documented line where its layers are."""
    model._keys_to_ignore_on_load_unexpected = {r"^mtp\."}
    return model


def trainer_of(folder, rows, tokenizer, family="exaone_moe", depths=1, **options):
    """A trainer of a small model; without `max_steps`, of one step that leaves it as it is."""
    settings = {"max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 20, "save_strategy": "no"}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True}
    args = ntf.ObjectiveTrainingArguments(str(folder), **{**settings, **quiet, **options})
    objective = ntf.SequentialHeads.from_tokenizer(tokenizer, form="transformers", depths=depths)
    data = {"train_dataset": rows, "processing_class": tokenizer}
    return ntf.ObjectiveTrainer(new_model(family).train(), args, objective=objective, **data)


def layers_of(model):
    return model.mtp["layers"].state_dict()


def same(found, expected):
    assert {*found} == {*expected}
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_stock_transformers_drafts_from_a_saved_run(rows, tokenizer, tmp_path):
    """Catches: layers that stock transformers does not find, or fills anew; drafts from another place than was trained
    on; other tokens than greedy's; an acceptance rate that training does not move."""
    trainer = trainer_of(tmp_path, rows, tokenizer, max_steps=100, learning_rate=3e-3)
    trainer.save_model()
    untrained = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert ntf.acceptance_rate(untrained, rows["prefix_ids"], 8) < 0.3
    trainer.train()
    trainer.save_model()
    stock, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert {*report["unexpected_keys"], *report["missing_keys"]} == set()
    assert not auxiliary_modules.has_modules(stock)
    assert auxiliary_modules.stock_parameters(trainer.model) == stock.num_parameters()
    for prompt, target in list(zip(rows["prefix_ids"], rows["target_ids"], strict=True))[:8]:
        assert written(stock, prompt, use_mtp=True) == written(stock, prompt) == target
    assert ntf.acceptance_rate(stock, rows["prefix_ids"], 8) > 0.9


def spread(model, std=0.4):
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std)


@pytest.mark.parametrize("family", [*NATIVE, *BY_A_LINE])
def test_every_class_drafts_what_the_objective_trained(family, rows, tmp_path):
    """Catches: a class whose layers get other weights, positions or masks in `generate` than in the loss; experts that
    come back otherwise; another answer than greedy's; a class that needs the line, or needs it no longer."""
    objective = ntf.SequentialHeads(form="transformers", pad_token_id=14)
    model = new_model(family)
    objective.attach(model)
    spread(model)
    batch, found = objective.collate(rows.to_list()[:4]), []
    model.mtp["layers"][0].register_forward_hook(lambda _, args, states: found.append(states))
    objective.loss(model, batch)
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    if family in BY_A_LINE:
        with pytest.raises((ValueError, RuntimeError), match=r"MTP layer patterns|MtpModel weights are missing"):
            written(stock, rows["prefix_ids"][0], use_mtp=True)
        stock = told(stock)
    for prompt in rows["prefix_ids"][:4]:
        assert written(stock, prompt, use_mtp=True) == written(stock, prompt)
    layers, columns = MtpModel.from_pretrained(stock), torch.arange(1, batch["input_ids"].shape[1])[None]
    assert same(layers.layers.state_dict(), layers_of(model))
    states = stock.base_model(batch["input_ids"]).last_hidden_state[:, :-1]
    states = layers.forward_layer(0, states, columns, None, input_ids=batch["input_ids"][:, 1:])
    torch.testing.assert_close(found[0], states, rtol=1e-4, atol=1e-4)


def test_the_acceptance_rate_counts_drafts_that_greedy_writes(rows, tmp_path, monkeypatch):
    """Catches: right drafts behind a wrong one counted as kept, the prompt's tokens counted, drafts cut off at the end
    counted as wrong."""
    model = new_model("exaone_moe")
    drafting.attach_layers(model, 2)
    spread(model, std=0.1)
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompts, drafted, propose = rows["prefix_ids"][:3], [], MTPCandidateGenerator.get_candidates

    def helped(self, ids, *args, **kwargs):
        """The drafts are none, one or both of them right, or the second alone, for the wrong first one."""
        candidates, logits = propose(self, ids, *args, **kwargs)
        if candidates.shape[1] > ids.shape[1]:
            known, kept = ids[0].tolist(), len(drafted) % 3
            first, second = written(stock, known, max_new_tokens=2)
            wrong = (first + 1) % 10
            after = written(stock, [*known, wrong], max_new_tokens=1)[0]
            candidates[0, -2:] = torch.tensor([[wrong, after], [first, (second + 1) % 10], [first, second]][kept])
            drafted.append(kept)
        return candidates, logits

    monkeypatch.setattr(MTPCandidateGenerator, "get_candidates", helped)
    rate = ntf.acceptance_rate(stock, prompts, 8)
    assert len(drafted) >= 6
    assert rate == sum(drafted) / (2 * len(drafted))


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "message"),
    [([], 8, "nothing was drafted: there are no prompts"), ([[1, 2]], 1, "new_tokens=1 must be at least 2")],
)
def test_an_acceptance_rate_of_nothing_is_refused(prompts, new_tokens, message):
    """Catches: a division by zero."""
    with pytest.raises(ValueError, match=message):
        ntf.acceptance_rate(new_model("exaone_moe"), prompts, new_tokens)


def test_layers_are_loaded_only_where_the_checkpoint_has_as_many(tmp_path):
    """Catches: layers left out in silence, those that stay new, an error of transformers that lists each weight."""
    saved = new_model("llama")
    drafting.attach_layers(saved, 1)
    saved.save_pretrained(tmp_path / "one")
    without = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    with pytest.raises(ValueError, match="the model has no layers attached; attach_layers"):
        drafting.load_layers(without)
    without.save_pretrained(tmp_path / "lost")
    without.config.num_mtp_layers = None
    without.save_pretrained(tmp_path / "none")
    numbers = "the model has {} layers attached, its checkpoint '.*' has {}; attach as many"
    cases = [("one", 2, numbers.format(2, 1)), ("none", 1, numbers.format(1, 0)), ("lost", 1, "weights are missing")]
    for folder, depths, message in cases:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / folder)
        drafting.attach_layers(model, depths)
        with pytest.raises(ValueError, match=message):
            drafting.load_layers(model)
    fresh = new_model("llama")
    drafting.attach_layers(fresh, 1)
    with pytest.raises(ValueError, match=numbers.format(1, 0)):
        drafting.load_layers(fresh)


def test_more_layers_than_blocks_are_refused():
    """Catches: a layer that transformers takes for another one when it loads them, so that it has no weights."""
    with pytest.raises(ValueError, match="depths=3 is more than the 2 blocks of the model"):
        drafting.attach_layers(new_model("llama"), 3)


def test_a_run_comes_back_with_its_layers(rows, tokenizer, tmp_path):
    """Catches: layers drawn anew by `load`, on a checkpoint's resume or where they shall be trained on; a Llama that
    does not draft as it is loaded."""
    trainer = trainer_of(tmp_path, rows, tokenizer, "llama", 2, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.save_model()
    expected = layers_of(trainer.model)
    assert not (tmp_path / auxiliary_modules.MODULES_FILE).exists()
    run = ntf.load(str(tmp_path))
    assert same(layers_of(run.model), expected)
    prompt = rows["prefix_ids"][0]
    assert written(run.model, prompt, use_mtp=True) == written(run.model, prompt)

    resumed = trainer_of(tmp_path, rows, tokenizer, "llama", 2, max_steps=2)
    spread(resumed.model)
    resumed.train(resume_from_checkpoint=True)
    assert same(layers_of(resumed.model), expected)

    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    drafting.attach_layers(stock, 2)
    assert not same(layers_of(stock), expected)
    drafting.load_layers(stock)
    assert same(layers_of(stock), expected)


@pytest.mark.hub
def test_layers_are_those_of_the_revision(rows, tokenizer, online, tmp_path):
    """Catches: weights of the revision that is asked for with the layers of the main branch."""
    expected = {}
    for branch in ("other", "main"):
        trainer = trainer_of(tmp_path / branch, rows, tokenizer)
        spread(trainer.model, 0.1 if branch == "main" else 0.2)
        trainer.save_model()
        trainer.create_model_card()
        push_run(tmp_path / branch, "tester/drafts", revision=None if branch == "main" else branch)
        expected[branch] = layers_of(trainer.model)
    for branch, layers in expected.items():
        model = ntf.load("tester/drafts", revision=branch).model
        assert same(layers_of(model), layers)
        assert same(MtpModel.from_pretrained(model).layers.state_dict(), layers)
