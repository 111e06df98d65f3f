"""Tiny checkpoints as people have them on disk: a byte-level BPE trained on path-star text, and vocabularies of every
fit."""

import runpy
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import tokenize
from nt_failures.experiments import command_line, run
from nt_failures.tasks.path_star import PathStar

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = str(EXAMPLES / "recipes" / "finetune.yaml")
train = runpy.run_path(str(EXAMPLES / "train.py"), run_name="train")["main"]
TASK = PathStar(degree=2, path_length=3, num_nodes=30)
"""Labels of one digit and of two."""
SMALL = [
    *("--degree", "2", "--path_length", "3", "--num_nodes", "30", "--num_train", "32", "--num_validation", "8"),
    *("--num_test", "16", "--max_steps", "4", "--use_cpu", "true", "--per_device_train_batch_size", "8"),
    *("--gradient_accumulation_steps", "1", "--gradient_checkpointing", "false", "--bf16", "false"),
    *("--learning_rate", "1e-2", "--warmup_steps", "0", "--sample_rows", "0", "--disable_tqdm", "true"),
    *("--eval_strategy", "no", "--save_strategy", "no", "--save_total_limit", "5"),
]
"""Flags over the recipe finetune.yaml, for seconds on a CPU."""
END = "<|endoftext|>"
SHAPES = {
    "gpt2": {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 96},  # its dropout of 0.1 is on
    "gpt_neox": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32},
    "llama": {
        **{"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32},
        "num_key_value_heads": 1,
    },
    "mamba": {"num_hidden_layers": 1, "hidden_size": 16, "state_size": 4},
    "mamba2": {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_heads": 4,
        "head_dim": 8,
        "n_groups": 1,
        "state_size": 8,
    },
}


def texts():
    """Prompts with their answers, for a tokenizer to learn from."""
    rows = TASK.render(TASK.block(0, "train", 0))
    return [p + c for p, c in zip(rows["prompt"].to_list()[:300], rows["completion"].to_list()[:300], strict=True)]


def byte_level_bpe(vocab_size=120, dollar=True, pad=False):
    """As GPT-2's: commas and `|` are tokens, numbers are split by how common they are; no pad token unless asked
    for."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [END, *(["[PAD]"] if pad else [])]
    alphabet = ["$"] if dollar else []
    bpe.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    names = {"bos_token": END, "eos_token": END, **({"pad_token": "[PAD]"} if pad else {})}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **names)


def write(folder, family, tokenizer, spare=0, dtype=torch.float32, **config):
    """A model of random weights with `spare` rows more than the tokenizer has tokens, and the tokenizer; the folder's
    name."""
    torch.manual_seed(0)
    names = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    size = {"vocab_size": len(tokenizer) + spare}
    made = AutoConfig.for_model(family, **{**SHAPES[family], **names, **size, **config})
    AutoModelForCausalLM.from_config(made).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tokenized_splits(args, tokenizer):
    """The splits of a run as token ids."""
    return {
        name: tokenize(rows, tokenizer)
        for name, rows in load_splits(args.task, **args.data.builder_arguments()).items()
    }


def trainer_of(*flags):
    """The trainer that examples/train.py makes of the recipe finetune.yaml with these flags."""
    args = command_line.parse([RECIPE, *SMALL, *map(str, flags)])
    torch.manual_seed(args.training.seed)
    tokenizer, objective = run.choose_tokenizer_and_objective(args)
    return run.make_trainer(args, objective, tokenizer, tokenized_splits(args, tokenizer))
