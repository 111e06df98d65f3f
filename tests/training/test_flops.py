"""FLOPs of a step: would catch a count without the backward pass, attention, or an objective's own modules."""

import contextlib

import datasets
import pytest
import torch
from small_models import SMALL
from torch.utils.checkpoint import checkpoint

from nt_failures.diagnosis import Budget
from nt_failures.objectives import MultiTokenHeads, NextToken
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import budget_of, seen_all
from nt_failures.training.flops import StepFlops
from nt_failures.training.trainer import ObjectiveTrainer

ROWS, COLUMNS, ANSWER, WIDTH, VOCABULARY = 8, 17, 3, 16, 15
"""The last of 18 columns predicts nothing, and only those before the answer's three tokens are unembedded."""
BLOCK = WIDTH * (3 * WIDTH + WIDTH + 4 * WIDTH + 4 * WIDTH)
"""Weights of the matrices of one block; each is multiplied and added with once forward and twice backward."""
TRUNK = 6 * COLUMNS * BLOCK + 6 * 2 * COLUMNS * COLUMNS * WIDTH
UNEMBEDDING = 6 * ANSWER * WIDTH * VOCABULARY


def build(model, objective, rows, folder, **options):
    model.set_attn_implementation("eager")
    arguments = ObjectiveTrainingArguments(
        str(folder), use_cpu=True, per_device_train_batch_size=ROWS, save_strategy="no", disable_tqdm=True, **options
    )
    return ObjectiveTrainer(model.train(), arguments, objective=objective, train_dataset=rows)


def trained(*args, **options):
    trainer = build(*args, **options)
    trainer.train()
    return trainer.state.total_flos


def test_count_by_hand(tiny_model, tokenized, tmp_path):
    """Catches: a count without the backward pass, the unembedding, or the steps behind the first."""
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, max_steps=3)
    assert counted == 3 * ROWS * (TRUNK + UNEMBEDDING)


def test_accumulated_batches_count_too(tiny_model, tokenized, tmp_path):
    """Catches: one batch counted for each optimizer step."""
    options = {"max_steps": 2, "gradient_accumulation_steps": 2}
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, **options)
    assert counted == 4 * ROWS * (TRUNK + UNEMBEDDING)


def test_own_modules_count(tiny_model, tokenized, tmp_path):
    """Catches: modules of an objective that are not counted: a head is a whole block and a second unembedding."""
    objective = MultiTokenHeads(heads=2, pad_token_id=14)
    counted = trained(tiny_model("gpt2"), objective, tokenized, tmp_path, max_steps=1)
    assert counted == ROWS * (2 * TRUNK + 2 * UNEMBEDDING)


def by_hand(rows):
    """FLOPs of rows of one length in a batch of their own, as the module's constants have it."""
    columns, answer = len(rows[0]["prefix_ids"]) + len(rows[0]["target_ids"]) - 1, len(rows[0]["target_ids"])
    trunk = 6 * columns * BLOCK + 6 * 2 * columns * columns * WIDTH
    return len(rows) * (trunk + 6 * answer * WIDTH * VOCABULARY)


def test_batches_of_unequal_rows_are_counted_each(tiny_model, tmp_path):
    """Catches: every batch taken for the first one, which is short; one shape for prompts of 6 and answers of 3, and of
    3 and 6; the steps up to the best checkpoint at the mean of all."""
    sizes = [(6, 3), (40, 5), (3, 6), (40, 5)]
    rows = [{"prefix_ids": [1] * p, "target_ids": [2] * t, "target_positions": [*range(1, t + 1)]} for p, t in sizes]
    data = datasets.Dataset.from_list([row for row in rows for _ in range(ROWS)] + rows[:1] * 3)
    options = {"max_steps": 5, "train_sampling_strategy": "sequential", "eval_strategy": "steps", "eval_steps": 1}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "share", "save_steps": 1, "learning_rate": 1e-3}
    model = tiny_model("gpt2")
    model.set_attn_implementation("eager")
    args = ObjectiveTrainingArguments(
        str(tmp_path),
        save_strategy="steps",
        per_device_train_batch_size=ROWS,
        use_cpu=True,
        disable_tqdm=True,
        **options,
        **best,
    )
    shares = iter([0.1, 0.2, 0.3, 0.1, 0.1])
    trainer = ObjectiveTrainer(
        *(model, args),
        objective=NextToken(pad_token_id=14),
        train_dataset=data,
        eval_dataset=data.select(range(2)),
        compute_metrics=lambda found: {"share": next(shares)},
    )
    trainer.train()
    steps = [by_hand([row] * ROWS) for row in rows] + [by_hand(rows[:1] * 3)]
    assert trainer.state.total_flos == sum(steps)
    assert budget_of(trainer) == Budget(3, 3 * ROWS, sum(steps[:3]))


def test_counting_does_not_stop_compilation(tiny_model, tokenized, tmp_path):
    """Catches: a compiled run that is eager, as torch.compile gives up what it first meets under a counter."""
    torch._dynamo.reset()
    options = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 2}
    counted = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, **options)
    assert counted == 2 * ROWS * (TRUNK + UNEMBEDDING)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()


@pytest.mark.parametrize("family", SMALL)
def test_counting_changes_nothing(family, tiny_model, examples):
    """Catches: torch's own counter, which splits operations such as `silu_backward` up: the last bit of a gradient
    then depends on whether a step is the first of its process, and a resumed run ends with other weights."""
    batch = NextToken(pad_token_id=14).collate(examples)
    gradients = []
    for flops in (StepFlops(), None):
        model = tiny_model(family).train()
        with flops.counting(batch) if flops else contextlib.nullcontext():
            NextToken(pad_token_id=14).loss(model, batch).sum.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def counted(work):
    flops, one_row = StepFlops(), {name: torch.zeros(1, 2, dtype=torch.long) for name in ("input_ids", "labels")}
    with flops.counting(one_row):
        work()
    return flops.of(rows=1)


@pytest.mark.parametrize(
    ("kind", "options", "forward"),
    [
        ("Conv1d", {}, 3 * 6 * 8 * (7 * 4)),  # rows, positions of the output, out x in channels, kernel
        ("Conv1d", {"groups": 4}, 3 * 6 * 8 * (1 * 4)),  # depthwise in a multiple
        ("Conv1d", {"groups": 2, "stride": 2, "padding": 3}, 3 * 6 * 8 * (2 * 4)),
        ("ConvTranspose1d", {}, 3 * 9 * 8 * (7 * 4)),  # positions of the input
        ("ConvTranspose1d", {"groups": 4}, 3 * 9 * 8 * (1 * 4)),
    ],
)
def test_convolution_by_hand(kind, options, forward):
    """Catches: the gradient of a grouped convolution's weight counted as if each channel met all others (as torch 2.13
    does); one of an input counted that nothing asked for."""
    channels = 4 if "groups" in options else 7
    layer = getattr(torch.nn, kind)(channels, 8, kernel_size=4, **options)
    x = torch.randn(3, channels, 9)
    multiplied = 2 * forward
    assert counted(lambda: layer(x)) == multiplied
    assert counted(lambda: layer(x).sum().backward()) == 2 * multiplied
    assert counted(lambda: layer(x.clone().requires_grad_()).sum().backward()) == 3 * multiplied


def test_mamba_by_hand(tiny_model, tokenized, tmp_path):
    """Catches: the depthwise convolution of Mamba counted as a dense one, which nearly doubles 12 x 384's FLOPs."""
    inner, states, step_rank, kernel = 2 * WIDTH, 4, 1, 4
    weights = WIDTH * 2 * inner + inner * (step_rank + 2 * states) + step_rank * inner + inner * WIDTH
    convolution = (COLUMNS + kernel - 1) * inner * kernel  # padded on both sides; what is behind the end is cut off
    scan = COLUMNS * inner * states  # the product with C
    found = trained(tiny_model("mamba"), NextToken(pad_token_id=14), tokenized, tmp_path, max_steps=1)
    assert found == ROWS * (6 * (COLUMNS * weights + convolution + scan) + UNEMBEDDING)


def test_what_checkpointing_computes_again_counts(tiny_model, tokenized, tmp_path):
    """Catches: checkpointing off on the counted step, a pass of the blocks too many or too few."""
    again = TRUNK // 3 - 2 * COLUMNS * 4 * WIDTH * WIDTH  # forward, but the last matrix, whose output nobody needs
    options = {"gradient_checkpointing": True, "max_steps": 2}
    found = trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path, **options)
    assert found == 2 * ROWS * (TRUNK + again + UNEMBEDDING)


def test_counting_leaves_checkpointing_as_it_was(tiny_model, tokenized, tmp_path):
    """Catches: other weights or dropout by the counted step; layers that keep the counter or checkpoint no more."""
    weights = []
    for counted_before in (False, True):  # then nothing is counted in training
        model = tiny_model("gpt2")
        for dropout in (module for module in model.modules() if isinstance(module, torch.nn.Dropout)):
            dropout.p = 0.1
        options = {"gradient_checkpointing": True, "max_steps": 3}
        trainer = build(model, NextToken(pad_token_id=14), tokenized, tmp_path, **options)
        if counted_before:
            batch = trainer.training_objective.collate(tokenized.to_list()[:ROWS])
            with trainer.step_flops.counting(batch):
                pass
        trainer.train()
        weights.append(model.state_dict())
        block = model.transformer.h[0]
        assert block.gradient_checkpointing
        assert block._gradient_checkpointing_func.func is checkpoint
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize(
    ("examples", "num_train", "training", "seen"),
    [
        (24, 24, {}, True),
        (23, 24, {}, False),
        (24, None, {}, False),
        (240, 24, {"dataloader_drop_last": True}, False),
        (240, 24, {"curriculum": {"path_length": [3, 5]}}, False),
    ],
)
def test_whether_every_training_instance_was_seen(examples, num_train, training, seen):
    """Catches: a memorisation gap on graphs of which some were never trained on."""
    assert bool(seen_all(examples, num_train, training)) is seen
