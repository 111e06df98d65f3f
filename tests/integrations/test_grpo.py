"""GRPO on chat prompts: TRL's own command with examples/recipes/grpo.yaml, and why sizes are mixed. A tiny model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import yaml
from datasets import load_dataset
from tokenizers import models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

import nt_failures as ntf
from nt_failures.tasks import PathStar, chat, read_task

ROOT = Path(__file__).parents[2]
WORD = r"</?\w+>|\w+|[^\w\s]"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} [END] {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
EASY = {"degree": 2, "path_length": 3, "num_nodes": 10}
HARD = {"degree": 3, "path_length": 4, "num_nodes": 10}
MIXED = {"degree": (2, 3), "path_length": (3, 4), "num_nodes": 10}
QUIET = {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True, "bf16": False}


def rows(sizes, count=6400):
    return load_dataset("nt_failures/pathstar", prompt_style="chat", num_train=count, num_test=10, **sizes)["train"]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """The folder of a chat model with a token a word, which was shown answers to G(2, 3) alone, for seconds."""
    text = chat.question(PathStar()) + "<user> <assistant> <answer> </answer> 0,1|/="
    words = dict.fromkeys(["[PAD]", "[UNK]", "[END]", *re.findall(WORD, text), *map(str, range(100))])
    vocabulary = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    vocabulary.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(WORD), "removed", invert=True)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[END]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, chat_template=TEMPLATE, **special)
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": 512, "initializer_range": 0.1}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **dropout, **ends))
    folder = str(tmp_path_factory.mktemp("chat_model"))
    settings = {"max_steps": 200, "per_device_train_batch_size": 32, "learning_rate": 3e-3, "logging_steps": 50}
    args = SFTConfig(folder, **settings, **QUIET)
    trainer = SFTTrainer(model, args, train_dataset=rows(EASY), processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    return folder


def test_the_rows_of_the_recipe():
    """Catches: a name of rows that there are not, or of rows that are no questions; a reward of another name."""
    recipe = yaml.safe_load((ROOT / "examples" / "recipes" / "grpo.yaml").read_text(encoding="utf-8"))
    row = next(iter(load_dataset(recipe["dataset_name"], recipe["dataset_config"], streaming=True)["train"]))
    (reward,) = recipe["reward_funcs"]
    columns = {name: [value] for name, value in row.items() if name not in ("prompt", "completion")}
    found = getattr(ntf, reward.removeprefix("nt_failures."))([row["prompt"]], [row["completion"]], **columns)
    assert found == [1.0]
    assert PathStar(**PathStar.CONFIGS["mixed"]) == read_task(json.loads(row["task"]))


def test_the_recipe_by_the_stock_command(chat_model, tmp_path):
    """Catches: a recipe that TRL refuses, a data set or a reward that its command does not find, a reward that is
    never earned because answers are looked for elsewhere than chat models write them."""
    flags = {
        "model_name_or_path": chat_model,
        "dataset_config": "deg2-path3-nodes10-chat",
        "max_steps": 3,
        "save_steps": 3,
        "per_device_train_batch_size": 20,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 12,
        "output_dir": str(tmp_path / "out"),
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
    }
    command = [str(Path(sys.executable).with_name("trl")), "grpo", "--config", "examples/recipes/grpo.yaml"]
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((tmp_path / "out" / "checkpoint-3" / "trainer_state.json").read_text(encoding="utf-8"))
    logs = [entry for entry in state["log_history"] if "reward" in entry]
    assert [entry["step"] for entry in logs] == [1, 2, 3]
    assert all(entry["reward"] == entry["rewards/reward_exact_answer/mean"] for entry in logs)
    assert max(entry["reward"] for entry in logs) > 0.2  # a guess at the one decision is right in half of all
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.fixture
def rewards(chat_model, tmp_path):
    """`rewards(sizes)`: the mean reward, of 60 answers, at each step of a short GRPO on graphs of these sizes."""

    def run(sizes):
        settings = {"max_steps": 6, "per_device_train_batch_size": 60, "num_generations": 5, "logging_steps": 1}
        args = GRPOConfig(str(tmp_path), max_completion_length=14, learning_rate=1e-4, seed=0, **settings, **QUIET)
        trainer = GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(chat_model),
            ntf.reward_exact_answer,
            args,
            train_dataset=rows(sizes),
            processing_class=AutoTokenizer.from_pretrained(chat_model),
        )
        trainer.train()
        return [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]

    return run


def test_easier_graphs_earn_a_reward_where_hard_ones_earn_none(rewards):
    """Catches: a reward for answers to other graphs than the prompt's; ranges that GRPO does not get to see.

    The figures are those of examples/recipes/GRPO.md.
    """
    assert rewards(HARD) == [0.0] * 6
    assert sum(rewards(MIXED)) / 6 > 0.02
