"""Much of it: a large data set built and read back whole, and many evaluations in a row that leave nothing behind."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from nt_failures.data.builder import PathStarBuilder
from nt_failures.data.columns import to_table
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.objectives import NextToken
from nt_failures.tasks.blocks import BLOCK_ROWS
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

pytestmark = pytest.mark.slow

ROWS = 500_000


def test_a_large_set_is_read_back_as_it_was_drawn(tmp_path):
    """Catches: a block lost, doubled or out of order at the joints of processes and files; memory that grows with the
    rows. Every column of every row is compared with what the task draws; the rows are 100 MB."""
    builder = PathStarBuilder(cache_dir=str(tmp_path), num_train=ROWS, num_test=10)
    builder.download_and_prepare(num_proc=2)
    rows = builder.as_dataset("train")
    assert len(rows) == ROWS
    before, task = own_memory(), builder.config.task
    for block in range(-(-ROWS // BLOCK_ROWS)):
        read = rows.data.table.slice(block * BLOCK_ROWS, BLOCK_ROWS)
        assert read.equals(to_table(task, task.block(0, "train", block)).slice(0, len(read)).cast(read.schema)), block
    assert own_memory() - before < 50e6


def own_memory():
    """Bytes that are no page of a mapped file, which the system may take back at any time."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def growth(step, times):
    """Bytes of memory and open files added by the last three quarters of `times` calls."""
    for _ in range(times // 4):
        step()
    gc.collect()
    before = own_memory(), len(os.listdir("/proc/self/fd"))
    for _ in range(times - times // 4):
        step()
    gc.collect()
    return own_memory() - before[0], len(os.listdir("/proc/self/fd")) - before[1]


def test_evaluations_leave_nothing_behind(tmp_path, task, tokenizer, tokenized, tiny_model):
    """Catches: predictions, loaders or files kept by each evaluation. The Trainer's log of 2,000 entries is below the
    bound; 8 rows of logits kept each time would not be."""
    objective = NextToken.from_tokenizer(tokenizer)
    args = ObjectiveTrainingArguments(
        str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True, per_device_eval_batch_size=8
    )
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"),
        args,
        objective=objective,
        task=task,
        train_dataset=tokenized,
        eval_dataset=tokenized.select(range(8)),
        processing_class=tokenizer,
    )
    found = set()
    memory, files = growth(lambda: found.add(trainer.evaluate()["eval_forced/exact"]), 2000)
    assert len(found) == 1
    assert memory < 10e6
    assert files <= 0


def test_predictions_leave_nothing_behind(task, tokenizer, tiny_model):
    """Catches: a cache of the predictor without a bound; keys and values kept from one answer to the next."""
    columns = task.sample(np.random.default_rng(0), 4)
    predictor = ModelPredictor(tiny_model("gpt2"), tokenizer, NextToken.from_tokenizer(tokenizer), task)
    memory, files = growth(lambda: predictor.free(columns), 300)
    assert memory < 10e6
    assert files <= 0
