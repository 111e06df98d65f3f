"""FLOPs of a step: would catch a count without the backward pass, without attention, or without an objective's own modules."""

import contextlib

import pytest
import torch
from small_models import SMALL

from nt_failures.flops import StepFlops
from nt_failures.objectives import MultiTokenHeads, NextToken
from nt_failures.trainer import ObjectiveTrainer
from nt_failures.training_arguments import ObjectiveTrainingArguments

ROWS, COLUMNS, ANSWER, WIDTH, VOCABULARY = 8, 17, 3, 16, 15
"""The last of 18 columns predicts nothing, and only those before the answer's three tokens are unembedded."""
BLOCK = WIDTH * (3 * WIDTH + WIDTH + 4 * WIDTH + 4 * WIDTH)
"""Weights of the matrices of one block; each is multiplied and added with once forward and twice backward."""
TRUNK = 6 * COLUMNS * BLOCK + 6 * 2 * COLUMNS * COLUMNS * WIDTH
UNEMBEDDING = 6 * ANSWER * WIDTH * VOCABULARY


def trained(model, objective, rows, folder, **options):
    model.set_attn_implementation("eager")
    arguments = ObjectiveTrainingArguments(
        str(folder), use_cpu=True, per_device_train_batch_size=ROWS, save_strategy="no", disable_tqdm=True, **options
    )
    trainer = ObjectiveTrainer(model.train(), arguments, objective=objective, train_dataset=rows)
    trainer.train()
    return trainer.state.total_flos


def test_count_by_hand(tiny_model, tokenized, tmp_path):
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, max_steps=3)
    assert counted == 3 * ROWS * (TRUNK + UNEMBEDDING)


def test_accumulated_batches_count_too(tiny_model, tokenized, tmp_path):
    options = {"max_steps": 2, "gradient_accumulation_steps": 2}
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, **options)
    assert counted == 4 * ROWS * (TRUNK + UNEMBEDDING)


def test_own_modules_count(tiny_model, tokenized, tmp_path):
    """A head is a whole block of the model, and a second unembedding."""
    objective = MultiTokenHeads(heads=2, pad_token_id=14)
    counted = trained(tiny_model("gpt2"), objective, tokenized, tmp_path, max_steps=1)
    assert counted == ROWS * (2 * TRUNK + 2 * UNEMBEDDING)


def test_evaluation_is_no_training(tiny_model, tokenized, tmp_path):
    arguments = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True)
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"), arguments, objective=NextToken(pad_token_id=14), eval_dataset=tokenized
    )
    trainer.evaluate()
    assert trainer.state.total_flos == 0


def test_counting_does_not_stop_compilation(tiny_model, tokenized, tmp_path):
    """torch.compile gives a function up for good that it first meets under a dispatch mode, such as the counter."""
    torch._dynamo.reset()
    options = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 2}
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, **options)
    assert counted == 2 * ROWS * (TRUNK + UNEMBEDDING)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()


@pytest.mark.parametrize("family", SMALL)
def test_counting_changes_nothing(family, tiny_model, examples):
    """torch's own counter splits operations such as `silu_backward` up: the last bit of a gradient then depends on whether
    a step is the first one of its process, and a resumed run ends with other weights."""
    batch = NextToken(pad_token_id=14).collate(examples)
    gradients = []
    for flops in (StepFlops(), None):
        model = tiny_model(family).train()
        with flops.counting(rows=32) if flops else contextlib.nullcontext():
            NextToken(pad_token_id=14).loss(model, batch).sum.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_nothing_counted_yet():
    with pytest.raises(ValueError, match="run one training step"):
        StepFlops().of(rows=8)
