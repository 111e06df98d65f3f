"""Fine-tuning as a user does it, through examples/train.py: checkpoints of every fit, dtypes, memory savers, resume,
names."""

import shlex

import datasets
import pytest
import torch
from checkpoints import EXAMPLES, RECIPE, SMALL, TASK, byte_level_bpe, train, trainer_of, write
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nt_failures.data.tokenizer import encode_rows
from nt_failures.hub.load import load
from nt_failures.models.load import load_model, load_tokenizer

NO_DROPOUT = ("--config_overrides", '{"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}')
KINDS = ("next_token", "teacherless", "hybrid", "token_order")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A GPT-2 with a byte-level BPE that knows `$`."""
    return write(tmp_path_factory.mktemp("gpt2"), "gpt2", byte_level_bpe())


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The same few rows are built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def build(tmp_path):
    """`build(checkpoint, *flags)`: the trainer of examples/train.py from the fine-tuning recipe."""

    def make(checkpoint, *flags, folder="run"):
        return trainer_of("--model", checkpoint, "--output_dir", tmp_path / folder, *flags)

    return make


def answers(model, objective, tokenizer):
    """What the model writes behind eight held-out prompts, token by token or all at once."""
    text = TASK.render({name: column[:8] for name, column in TASK.block(0, "test", 0).items()})
    rows = encode_rows(tokenizer, text["prompt"].to_list(), text["completion"].to_list())
    parts = objective.layout([dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)])
    return objective.decode(model.eval(), parts["prefix_ids"], 3, parts["prefix_mask"]).tolist()


# Family, the tokenizer's options, the checkpoint's config: rows of the embedding before and after, beside the tokens.
FITS = {
    "gpt2": ("gpt2", {}, {}, 0, 0),
    "gpt2, $ is new": ("gpt2", {"dollar": False}, {}, 0, 1),
    "gpt2, untied, $ is new": ("gpt2", {"dollar": False}, {"tie_word_embeddings": False}, 0, 1),
    "gpt_neox, padded as Pythia": ("gpt_neox", {"dollar": False, "pad": True}, {}, 50, 0),
    "llama, no pad token": ("llama", {}, {}, 0, 0),
    "llama, pad token, tied, $ is new": ("llama", {"dollar": False, "pad": True}, {"tie_word_embeddings": True}, 0, 1),
    "mamba, padded": ("mamba", {"dollar": False}, {}, 3, 0),
    "mamba2, $ is new": ("mamba2", {"dollar": False}, {}, 0, 1),
}


@pytest.mark.parametrize(
    ("fit", "kind"),
    [*((fit, "hybrid") for fit in FITS), ("gpt2, $ is new", "next_token"), ("mamba, padded", "next_token")],
)
def test_every_vocabulary_trains_and_comes_back(fit, kind, build, tmp_path):
    """Catches: a padded embedding cut down, `$` without a row, a head that is not resized along, old rows changed."""
    family, options, config, spare, grown = FITS[fit]
    tokenizer = byte_level_bpe(**options)
    checkpoint = write(tmp_path / "base", family, tokenizer, spare, **config)
    trainer = build(checkpoint, "--objective", kind)
    dollar = kind == "hybrid"
    rows = len(tokenizer) + spare + grown * dollar
    embedding, head = trainer.model.get_input_embeddings().weight, trainer.model.get_output_embeddings().weight
    assert len(embedding) == len(head) == trainer.model.config.vocab_size == rows
    assert (embedding is head) == trainer.model.config.tie_word_embeddings
    before = AutoModelForCausalLM.from_pretrained(checkpoint).get_input_embeddings().weight
    assert torch.equal(embedding[: len(before)], before)
    assert ("$" in trainer.processing_class.get_vocab()) == (dollar or options.get("dollar", True))
    losses = [float(trainer.train().training_loss) for _ in range(2)]
    assert losses[1] < losses[0]
    trainer.save_model()
    loaded = load(str(tmp_path / "run"))
    assert len(loaded.tokenizer) <= loaded.model.config.vocab_size == rows
    found = answers(trainer.model, trainer.training_objective, trainer.processing_class)
    assert answers(loaded.model, loaded.objective, loaded.tokenizer) == found


def test_labels_of_several_tokens(build, tmp_path):
    """Catches: answers cut to the length of the first row's, where a label takes one token or two."""
    digits = byte_level_bpe(vocab_size=16)
    trainer = build(write(tmp_path / "base", "gpt2", digits))
    lengths = {len(row["target_ids"]) for row in trainer.eval_dataset}
    assert len(digits.tokenize("12,3")) == 4
    assert lengths >= {7, 8}
    assert trainer.model.generation_config.max_new_tokens == 8  # three labels of two digits, and two commas
    trainer.train()
    assert {"eval_free/exact", "eval_forced/position_3"} <= set(trainer.evaluate())


@pytest.mark.parametrize("on_disk", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_train_in_float32(on_disk, build, tmp_path):
    """Catches: weights left in the checkpoint's dtype, in which small steps are lost."""
    checkpoint = write(tmp_path / "base", "llama", byte_level_bpe(), dtype=on_disk)
    assert AutoModelForCausalLM.from_pretrained(checkpoint).dtype == on_disk  # transformers' own choice
    assert load_model(checkpoint, load_tokenizer(checkpoint), 64).dtype == torch.float32
    trainer = build(checkpoint, "--learning_rate", "1e-5", "--bf16", "true")
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    still = [name for name, p in trainer.model.named_parameters() if torch.equal(p, before[name])]
    assert still == []  # norms, too: bfloat16 has no number between 1 and 1.0078
    trainer.save_model()
    assert {t.dtype for t in load_file(tmp_path / "run" / "model.safetensors").values()} == {torch.float32}


def test_a_dtype_that_is_asked_for(gpt2, build):
    """Catches: a flag that does nothing; a word that torch does not know let through."""
    trainer = build(gpt2, "--dtype", "bfloat16", "--objective", "token_order")
    trainer.train()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.bfloat16}  # those of the objective, too
    with pytest.raises(ValueError, match="dtype='half' is not a choice; give one of 'float32', 'bfloat16'"):
        build(gpt2, "--dtype", "half")


def weights_after(trainer):
    """Trained; every tensor by name."""
    trainer.train()
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@every_kind
def test_activation_checkpointing_changes_nothing(kind, gpt2, build):
    """Catches: a backward through a cache, an objective whose second forward sees other random numbers."""
    flags = ("--objective", kind)  # with the checkpoint's dropout on
    plain = weights_after(build(gpt2, *flags))
    trainer = build(gpt2, *flags, "--gradient_checkpointing", "true", folder="less")
    found = weights_after(trainer)
    assert trainer.args.gradient_checkpointing
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_accumulated_batches_equal_the_large_one(gpt2, build):
    """Catches: a mean of means over batches of unequal labels; a step at each part."""
    options = ("--objective_options", '{"share": 1}')  # which is of each part
    flags = ("--objective", "hybrid", *options, *NO_DROPOUT, "--optim", "sgd")
    whole = weights_after(build(gpt2, *flags))
    parts = ("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4")
    for name, tensor in weights_after(build(gpt2, *flags, *parts, folder="parts")).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-4, atol=1e-6)


@every_kind
def test_bf16_computes_beside_float32_weights(kind, gpt2, build):
    """Catches: an objective that mixes dtypes under autocast; weights that are cast."""
    trainer = build(gpt2, "--objective", kind, "--bf16", "true", "--gradient_checkpointing", "true")
    trainer.train()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert 0 < trainer.evaluate()["eval_loss"] < 20


def test_dropout_is_the_checkpoints_own(gpt2, build):
    """Catches: dropout switched off, or on, behind the user's back."""
    assert build(gpt2).model.transformer.h[0].mlp.dropout.p == 0.1
    assert build(gpt2, *NO_DROPOUT).model.transformer.h[0].mlp.dropout.p == 0


def test_from_command_to_card(gpt2, tmp_path):
    """Catches: a step of the whole program, the diagnosis or the card, that a checkpoint from disk breaks."""
    argv = [RECIPE, *SMALL, "--model", gpt2, "--output_dir", str(tmp_path / "run")]
    results = train(argv)
    assert results.local == ["model"]
    assert "continued from a local model" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "run").get_vocab() == AutoTokenizer.from_pretrained(gpt2).get_vocab()
    )


def commands_of_the_page():
    page = (EXAMPLES / "recipes" / "FINETUNING.md").read_text(encoding="utf-8")
    lines = page.split("```bash\n")[1].split("```")[0].splitlines()
    return [line.split("examples/train.py ")[1].split(" #")[0] for line in lines]


@pytest.mark.parametrize("command", [command for command in commands_of_the_page() if "--lora" not in command])
def test_commands_of_the_page_on_a_small_checkpoint(command, gpt2, tmp_path):
    """Catches: a command of the page that does not run; its model and sizes are replaced, its flags are not."""
    recipe, *flags = shlex.split(command)
    flags = [*SMALL, *flags, "--model", gpt2, "--output_dir", str(tmp_path / "run")]
    assert train([str(EXAMPLES.parent / recipe), *flags]).steps == 4


@pytest.mark.parametrize("name", ["gpt2-large", "EleutherAI/pythia-70m"])
def test_ids_of_the_hub(name):
    """Catches: a Hub id taken for a size; an error that says neither what was looked for nor what to do."""
    for read in (load_tokenizer, lambda name: load_model(name, None, 8)):
        with pytest.raises(
            OSError, match=rf"'{name}' is no folder here, .* HF_HUB_OFFLINE is set: unset it, or give a"
        ):
            read(name)


def test_folders_without_a_checkpoint(tmp_path):
    """Catches: the Hub's spelling rules, or three lines about sentencepiece, for an empty or mistyped folder."""
    with pytest.raises(ValueError, match=r"'\./typo' is no folder, and no repository can have that name"):
        load_tokenizer("./typo")
    for read, what in ((load_tokenizer, "tokenizer"), (lambda name: load_model(name, None, 8), "model")):
        with pytest.raises(ValueError, match=rf"folder {tmp_path} holds no {what} that can be read: [^\n]*$"):
            read(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter and not a whole model; train on from its base model, or"):
        load_model(str(tmp_path), None, 8)
