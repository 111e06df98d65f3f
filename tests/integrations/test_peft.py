"""LoRA through peft: what is trained, saved, merged, resumed, loaded again by us and by peft, and how it refuses."""

import json
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import EXAMPLES, SMALL, byte_level_bpe, train, trainer_of, write
from hub_server import run_python
from peft import AutoPeftModelForCausalLM, LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from nt_failures.hub.load import load
from nt_failures.hub.push import push_run
from nt_failures.models import lora
from nt_failures.models.families import FAMILIES
from nt_failures.objectives import NextToken, auxiliary_modules
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

TARGETS = {"mamba": ["in_proj", "x_proj"], "mamba2": ["in_proj"]}
KINDS = ("next_token", "teacherless", "hybrid", "next_latent", "token_order", "belief_state", "semformer")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """`base(family, **config)`: a checkpoint whose tokenizer lacks `$`, the same folder at every call."""
    made = {}

    def make(family="gpt2", **config):
        key = (family, *sorted(config.items()))
        if key not in made:
            tokenizer = byte_level_bpe(dollar=False)
            made[key] = write(tmp_path_factory.mktemp(family), family, tokenizer, **config)
        return made[key]

    return make


@pytest.fixture
def build(base, tmp_path):
    """`build(*flags, family="gpt2", ...)`: the trainer of examples/train.py with an adapter of rank 4."""

    def make(*flags, family="gpt2", folder="run", options=None, **config):
        options = {"r": 4, **({"target_modules": TARGETS[family]} if family in TARGETS else {}), **(options or {})}
        checkpoint, output = base(family, **config), tmp_path / folder
        return trainer_of("--lora", json.dumps(options), "--model", checkpoint, "--output_dir", output, *flags)

    return make


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def logits(model, dollar):
    """Of a short prompt with a dummy in it."""
    return model.eval()(input_ids=torch.tensor([[5, 6, 7, dollar, 8]])).logits


def test_only_the_adapter_and_new_rows_are_trained(build):
    """Catches: base weights that move, new rows that do not, a head of the objective that is frozen along."""
    trainer = build("--objective", "token_order")
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trainable(trainer.model)
    assert {name.split(".")[-3] for name in moved if "lora_" in name} == {"lora_A", "lora_B"}
    assert f"{auxiliary_modules.NAME}.order.weight" in moved
    assert len(moved) == 2 * 2 + 1  # two layers
    teacherless = build("--objective", "teacherless", folder="other").model
    (rows,) = [p for name, p in teacherless.named_parameters() if "trainable_tokens" in name and p.requires_grad]
    assert rows.shape == (1, 16)  # `$`, which the checkpoint has no row for; the head shares it


@pytest.mark.parametrize(
    ("family", "kind", "config"),
    [
        *(("gpt2", kind, {}) for kind in KINDS),
        ("gpt2", "hybrid", {"tie_word_embeddings": False}),
        *((family, "teacherless", {}) for family in FAMILIES if family != "gpt2"),
        ("llama", "next_latent", {"tie_word_embeddings": True}),
    ],
)
def test_an_adapter_comes_back_and_merges(family, kind, config, build, tmp_path):
    """Catches: new rows lost or drawn anew, an untied head left behind, modules of the objective not saved, a merge
    that differs."""
    trainer = build("--objective", kind, family=family, **config)
    trainer.train()
    dollar = trainer.model.config.vocab_size - 1
    expected = logits(trainer.model, dollar)
    trainer.save_model()
    folder = tmp_path / "run"
    assert not (folder / "config.json").exists()
    assert (folder / "adapter_model.safetensors").stat().st_size < 40_000  # no embedding, no base weight
    loaded = load(str(folder))
    assert torch.equal(logits(loaded.model, dollar), expected)
    assert trainable(loaded.model) <= {
        name for name, _ in loaded.model.named_parameters() if name.startswith(auxiliary_modules.NAME)
    }
    batch = trainer.training_objective.collate(trainer.train_dataset.to_list()[:4])
    torch.manual_seed(0)
    loss = trainer.training_objective.loss(trainer.model, batch).sum
    torch.manual_seed(0)
    assert torch.equal(loaded.objective.loss(loaded.model, batch).sum, loss)
    theirs = AutoPeftModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(theirs, dollar), expected)
    lora.merge(trainer.model)
    assert not lora.has_adapter(trainer.model)
    torch.testing.assert_close(logits(trainer.model, dollar), expected, rtol=1e-4, atol=1e-5)
    trainer.args.output_dir = str(tmp_path / "merged")
    trainer.save_model()
    stock, found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert {*found["missing_keys"], *found["unexpected_keys"]} == set()
    assert torch.equal(logits(stock, dollar), logits(trainer.model, dollar))


def test_layers_to_draft_with_beside_an_adapter(build, tmp_path):
    """Catches: such layers lost where only an adapter is saved, or not in the merged model's own weights."""
    options = ("--objective", "sequential_heads", "--objective_options", '{"form": "transformers"}')
    trainer = build(*options, family="llama")
    trainer.train()
    trainer.save_model()
    expected = trainer.model.mtp.state_dict()
    loaded = load(str(tmp_path / "run")).model.mtp.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    lora.merge(trainer.model)
    trainer.save_model(str(tmp_path / "merged"))
    merged = load(str(tmp_path / "merged")).model
    assert all(torch.equal(merged.mtp.state_dict()[name], tensor) for name, tensor in expected.items())
    ids = torch.tensor([[5, 6, 7]])
    greedy = merged.generate(ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(merged.generate(ids, max_new_tokens=5, do_sample=False, use_mtp=True), greedy)


def test_a_resumed_run_ends_as_one_that_never_stopped(build, tmp_path):
    """Catches: an adapter that starts anew behind a checkpoint; a checkpoint that transformers cannot resume."""
    flags = ("--objective", "hybrid", "--save_strategy", "steps", "--save_steps", "2")
    whole = build(*flags)
    whole.train()
    again = build(*flags, folder="again")
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_the_best_adapter_is_loaded(build):
    """Catches: the last adapter in place of the best, in silence."""
    best = ("--load_best_model_at_end", "true", "--metric_for_best_model", "loss", "--eval_strategy", "steps")
    flags = ("--save_strategy", "steps", "--save_steps", "1", "--eval_steps", "1", "--learning_rate", "30")
    trainer = build(*best, *flags)
    trainer.train()
    assert trainer.state.best_global_step < 4
    saved = load_file(f"{trainer.state.best_model_checkpoint}/adapter_model.safetensors")
    state = trainer.model.state_dict()
    for name, tensor in saved.items():
        inside = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
        assert torch.equal(state[inside], tensor), name


@pytest.mark.parametrize("flags", [("--gradient_checkpointing", "true"), ("--bf16", "true"), ("--dtype", "bfloat16")])
@pytest.mark.parametrize("kind", ["hybrid", "next_latent"])
def test_memory_savers(kind, flags, build):
    """Catches: no gradient through frozen layers that are checkpointed; an adapter in bfloat16."""
    trainer = build("--objective", kind, *flags)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_B" in name}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        if name in before:
            assert parameter.dtype == torch.float32
            assert not torch.equal(parameter, before[name])


@pytest.mark.parametrize("merge", [False, True])
def test_from_command_to_card_and_diagnosis(merge, base, tmp_path, monkeypatch, capsys):
    """Catches: a step of the program, the card's snippet or examples/diagnose.py that an adapter breaks."""
    monkeypatch.chdir(tmp_path)
    readme = (EXAMPLES / "recipes" / "FINETUNING.md").read_text(encoding="utf-8")
    (command,) = [line for line in readme.splitlines() if line.startswith("accelerate launch") and "--lora" in line]
    recipe, *flags = shlex.split(command.split("examples/train.py ")[1], comments=True)
    argv = [str(EXAMPLES.parent / recipe), *SMALL, *flags, "--model", base(), "--output_dir", "run"]
    results = train([*argv, "--merge_adapter", str(merge)])
    assert Path("run/config.json").exists() == merge
    assert Path("run/adapter_config.json").exists() != merge
    assert results.arguments["model"]["lora"] == {"r": 16}
    card = Path("run/README.md").read_text(encoding="utf-8")
    assert ("AutoPeftModelForCausalLM" in card) == ("library_name: peft" in card) == (not merge)
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir("run")
    exec(compile(code, "README.md", "exec"), {})
    monkeypatch.chdir(tmp_path)
    diagnose = runpy.run_path(str(EXAMPLES / "diagnose.py"), run_name="diagnose")["main"]
    found = diagnose(["run", "--num_test", "8", "--output_dir", "found"])
    assert found["forced_vs_free"]["n"] == 8
    assert "trained" in capsys.readouterr().out


RELU = ("--config_overrides", '{"activation_function": "relu", "resid_pdrop": 0}')
REFUSED = (
    r"^config_overrides: activation_function would make another model .* only dropout may .*; add --merge_adapter true"
)


def test_a_changed_base_model_is_merged_or_not_loaded(build, base, tmp_path):
    """Catches: an adapter beside one function that is loaded onto another, by us or by peft: a checkpoint, or a merge
    undone."""
    lora.check({"r": 4}, base(), {"activation_function": "relu"}, merge=True)
    steps = (*RELU, "--merge_adapter", "true", "--save_strategy", "steps", "--save_steps", "2")
    trainer = build(*steps)
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    refused = f"{checkpoint}'? holds an adapter.* '{base()} as config_overrides changed it'.*--merge_adapter true"
    for read in (load, lambda folder: push_run(folder, "tester/adapter")):
        with pytest.raises(ValueError, match=refused):
            read(str(checkpoint))
    with pytest.raises(OSError, match=f"'{base()} as config_overrides changed it'"):  # and no look at the Hub
        AutoPeftModelForCausalLM.from_pretrained(checkpoint)
    again = build(*steps, folder="again")
    again.train(resume_from_checkpoint=str(checkpoint))
    lora.merge(again.model)
    again.save_model()
    loaded = load(str(tmp_path / "again")).model
    assert loaded.config.activation_function == "relu"
    torch.testing.assert_close(logits(loaded, 8), logits(trainer.model, 8), rtol=1e-4, atol=1e-5)


def test_dropout_may_be_changed_beside_an_adapter(build, base, tmp_path):
    """Catches: the README's way to turn dropout off refused, or an adapter of such a run that cannot be loaded."""
    overrides = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    lora.check({"r": 4}, base(), overrides, merge=False)
    trainer = build("--config_overrides", json.dumps(overrides))
    trainer.train()
    trainer.save_model()
    expected = logits(trainer.model, 8)
    assert torch.equal(logits(load(str(tmp_path / "run")).model, 8), expected)
    torch.testing.assert_close(logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run"), 8), expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--lora", '{"rank": 4}'],
            "LoraConfig has no field that can be given as 'rank'. It has .*, r, ",
        ),
        (["--lora", '{"init_lora_weights": "pissa"}'], "'pissa' changes the base model's weights"),
        (["--lora", "{}", "--model", "gpt2-2x16"], "'gpt2-2x16' has none; give --model a folder or Hub id"),
        (["--merge_adapter", "true"], "merge_adapter has no adapter to merge; give --lora"),
        (["--lora", "{}", "--push_to_hub", "true"], "push_to_hub would publish an adapter of .*--merge_adapter true"),
        (["--lora", "{}", "--optimizer", "adamw", *RELU], REFUSED),
    ],
)
def test_what_cannot_be(flags, message, base, tmp_path):
    """Catches: a run that fails after its training, or trains something else in silence."""
    with pytest.raises(ValueError, match=message):
        train([*SMALL, "--model", base(), "--output_dir", str(tmp_path / "run"), *flags])
    assert not (tmp_path / "run").exists()


def test_a_base_model_that_is_nowhere(tmp_path):
    """Catches: an adapter that is trained and saved, and that nothing can be loaded onto."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    model.add_adapter(LoraConfig(r=2, target_modules=["c_attn"]))
    args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"with an adapter was loaded from nowhere, .*; save it and load it"):
        ObjectiveTrainer(model, args, objective=NextToken())


def test_layers_that_are_not_there(build):
    """Catches: peft's error without the names that could be given; none for Mambas, for which peft has no default."""
    with pytest.raises(
        ValueError, match=r'lora: Target modules .*q_proj.* not found.* \{"target_modules": \["dt_proj", "in_proj"'
    ):
        build(family="mamba", options={"target_modules": ["q_proj"]})
    with pytest.raises(ValueError, match=r"lora: Please specify .*For MambaForCausalLM name layers such as"):
        build(family="mamba", options={"target_modules": None})


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
        ("gpt2", {"target_modules": ["c_attn", "wte"]}),
        ("gpt2", {"target_modules": [], "target_parameters": ["wte.weight"]}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"], "tie_word_embeddings": True}),
    ],
)
def test_tied_weights_get_no_adapter(family, options, build):
    """Catches: a merge that adds the unembedding's adapter to the embedding, too, and is tested and pushed as the
    model that was trained."""
    config = {name: options[name] for name in options if name.startswith("tie")}
    options = {name: value for name, value in options.items() if name not in config}
    with pytest.raises(ValueError, match=r"^lora: .* one tied weight, .*; leave both out of target_modules\.$"):
        build("--objective", "next_token", family=family, options=options, **config)
    with pytest.raises(ValueError, match=r"^lora: .*(one tied weight|cannot be applied to modules of type)"):
        build("--objective", "teacherless", family=family, options=options, **config)


def test_an_untied_unembedding_may_have_an_adapter(build):
    """Catches: a refusal where a merge changes nothing else."""
    options, untied = {"target_modules": ["c_attn", "lm_head"]}, {"tie_word_embeddings": False}
    trainer = build("--objective", "next_token", options=options, **untied)
    trainer.train()
    expected = logits(trainer.model, 8)
    lora.merge(trainer.model)
    torch.testing.assert_close(logits(trainer.model, 8), expected, rtol=1e-4, atol=1e-5)


def test_other_weights_where_the_base_model_was(build, base, tmp_path):
    """Catches: an adapter loaded onto what a later training left in its base model's folder."""
    own = shutil.copytree(base(), tmp_path / "base")
    trainer = build("--model", own)
    trainer.train()
    trainer.save_model()
    expected = logits(trainer.model, 8)
    assert torch.equal(logits(load(str(tmp_path / "run")).model, 8), expected)
    model = AutoModelForCausalLM.from_pretrained(own)
    model.transformer.wte.weight.data += 0.1
    model.save_pretrained(own)
    with pytest.raises(ValueError, match=r"base/model\.safetensors: not as saved with nt_failures\.json"):
        load(str(tmp_path / "run"))


def test_a_lost_base_model_and_another_adapter(build, base, tmp_path):
    """Catches: an adapter on new random weights; one of another rank or kind read in silence."""
    trainer = build()
    trainer.save_model()
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=r"an adapter of .* of no use on the Hub"):
        push_run(folder, "tester/adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base()
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 64}))
    with pytest.raises(ValueError, match=r"adapter_config\.json: not as saved with nt_failures\.json"):
        load(str(folder))
    described = json.loads((folder / "nt_failures.json").read_text())
    del described["sha256"]  # as the error says, to change a file on purpose
    (folder / "nt_failures.json").write_text(json.dumps(described))
    for change, message in (
        ({"r": 8}, "does not fit the adapter"),
        ({"peft_type": "IA3"}, "of the kind 'IA3' is not read, only LORA is"),
        ({"target_modules": ["c_proj"]}, "does not fit the adapter"),
        ({"base_model_name_or_path": str(tmp_path / "gone")}, "its base model .*gone' is no folder and no Hub id"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            load(str(folder))


ON_THE_HUB = """
import json, runpy, sys
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer
from nt_failures import load

script, base, *flags = sys.argv[1:]
for auto in (AutoModelForCausalLM, AutoTokenizer):
    auto.from_pretrained(base).push_to_hub("tester/base")
runpy.run_path(script, run_name="train")["main"](flags)
assert json.load(open("run/adapter_config.json"))["base_model_name_or_path"] == "tester/base"
here, there = load("run"), load("tester/adapter")
ids = torch.arange(here.model.config.vocab_size)[None]
assert torch.equal(there.model(ids).logits, here.model(ids).logits)
card = ModelCard.load("tester/adapter").data
assert (card.base_model, card.to_dict()["base_model_relation"]) == ("tester/base", "adapter")
"""


@pytest.mark.hub
def test_an_adapter_on_the_hub(base, hub, tmp_path):
    """Catches: a base model that the adapter's config or card does not name; an adapter that is pushed and cannot be
    loaded."""
    flags = ["--model", "tester/base", "--output_dir", "run", "--objective", "teacherless", "--optimizer", "adamw"]
    flags += ["--lora", '{"r": 4}', "--push_to_hub", "true", "--hub_model_id", "tester/adapter"]
    (tmp_path / "code.py").write_text(ON_THE_HUB, encoding="utf-8")
    command = [tmp_path / "code.py", EXAMPLES / "train.py", base(), *SMALL, *flags]
    done = run_python(command, hub, tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"adapter_config.json", "adapter_model.safetensors", "nt_failures.json"} <= set(hub.files("tester/adapter"))


def test_without_peft(monkeypatch):
    """Catches: an ImportError from deep inside, which names no extra."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"needs the package peft: pip install 'nt_failures\[peft\]'"):
        lora.configuration({})
