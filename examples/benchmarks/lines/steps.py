"""Training steps of the Trainer, against a raw PyTorch loop over the same model that computes all logits."""

import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainerCallback

import nt_failures as ntf
from lines.measure import CPU, Line, Measured, interleaved, reported
from nt_failures.data.batches import IGNORE
from nt_failures.data.tokenizer import _FEATURES, encode_rows
from nt_failures.training.flops import StepFlops


@functools.cache
def parts(rows: int = 4096) -> tuple:
    """Task, tokenizer, objective and tokenised rows of G(2,5) with 50 labels."""
    import datasets

    task = ntf.PathStar()
    tokenizer = ntf.word_level_tokenizer(task)
    texts = task.render({name: column[:rows] for name, column in task.block(0, "train", 0).items()})
    encoded = encode_rows(tokenizer, texts["prompt"].to_list(), texts["completion"].to_list())
    return task, tokenizer, ntf.NextToken.from_tokenizer(tokenizer), datasets.Dataset.from_dict(encoded, _FEATURES)


class Clock(TrainerCallback):
    """When each step ended, in CPU seconds of this process."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ends.append(CPU())

    def step(self) -> float:
        """Median time from one end to the next."""
        return step_of(self.ends)


def step_of(ends: list[float]) -> float:
    """Seconds of a step, from the times at which steps ended."""
    return statistics.median(after - before for before, after in itertools.pairwise(ends))


def new_model(size: str) -> PreTrainedModel:
    """The same weights at every call."""
    torch.manual_seed(0)
    return ntf.load_model(size, parts()[1], 32)


def new_trainer(size: str, folder: Path, batch: int, steps: int, clock: Clock, **options: Any) -> ntf.ObjectiveTrainer:
    """A Trainer for so many steps behind the first, silent and saving nothing."""
    task, _, objective, rows = parts()
    args = ntf.ObjectiveTrainingArguments(
        folder,
        max_steps=steps + 1,
        per_device_train_batch_size=batch,
        learning_rate=1e-3,
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        **options,
    )
    trainer = ntf.ObjectiveTrainer(
        new_model(size), args, objective=objective, task=task, train_dataset=rows, callbacks=[clock]
    )
    trainer.log = lambda *args, **kwargs: None
    return trainer


def trainer_step(size: str, batch: int, steps: int, **options: Any) -> float:
    """Seconds of a step of ObjectiveTrainer, fetching its batch included; the first step, which counts FLOPs, is not;
    nor does a single one count much, in which torch.compile may be at work."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        new_trainer(size, Path(folder), batch, steps, clock, **options).train()
    return clock.step()


def raw_step(size: str, batch: int, steps: int) -> float:
    """Seconds of a step of a loop by hand: rows in one tensor, all logits, the same optimizer and schedule."""
    rows = parts()[3]
    prefix, target = torch.tensor(rows["prefix_ids"]), torch.tensor(rows["target_ids"])
    ids, labels = torch.cat([prefix, target], 1), torch.cat([torch.full_like(prefix, IGNORE), target], 1)
    model = new_model(size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 2))
    order = torch.randperm(len(ids))
    ends = []
    for step in range(steps + 1):
        chosen = order[step * batch % len(ids) :][:batch]
        logits = model(input_ids=ids[chosen], use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[chosen][:, 1:].flatten(), ignore_index=IGNORE)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()
        ends.append(CPU())
    return step_of(ends)


def step_flops(size: str, batch: int) -> float:
    """Multiplications and additions of our step in matrix products and attention, as the Trainer counts them."""
    *_, objective, rows = parts()
    model, flops = new_model(size), StepFlops()
    counted = objective.collate(rows.select(range(8)).to_list())
    with flops.counting(counted):
        objective.loss(model, counted).sum.backward()
    return flops.of(batch)


def gemm_rate(size: int = 1024) -> float:
    """FLOP/s of a large matrix product in fp32: the limit of the core."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / interleaved({"gemm": lambda: torch.mm(one, other)}, 9)["gemm"]


def step(size: str, batch: int, steps: int, rounds: int, least: float, quick: bool) -> Measured:
    """Ours against the raw loop."""
    size, batch, steps, rounds = ("gpt2-1x16", 8, 2, 1) if quick else (size, batch, steps, rounds)
    works = {"ours": lambda: trainer_step(size, batch, steps), "raw": lambda: raw_step(size, batch, steps)}
    found = reported(works, rounds)
    rate = gemm_rate(128 if quick else 1024)
    limit = step_flops(size, batch) / rate
    notes = [f"{limit / found['ours']:.0%} of the GEMM limit, {rate / 1e9:.0f} GFLOP/s"]
    return Measured(found["ours"], found["raw"], limit, "its FLOPs as one large GEMM", least, notes=notes)


def variant(size: str, batch: int, quick: bool, **options: Any) -> Measured:
    """Ours with an option against ours without, fp32 and eager."""
    size, batch, steps, rounds = ("gpt2-1x16", 8, 2, 1) if quick else (size, batch, 3, 2)
    works: dict[str, Callable[[], float]] = {
        "with": lambda: trainer_step(size, batch, steps, **options),
        "eager": lambda: trainer_step(size, batch, steps),
    }
    found = reported(works, rounds)
    return Measured(found["with"], found["eager"])


LARGE, SMALL = "gpt2-6x384", "gpt2-2x64"
LINES = [
    Line(
        "step-6x384",
        "training step, GPT-2 6 x 384, batch 256, fp32",
        "raw PyTorch loop, all logits",
        ">= 1.0x",
        lambda quick: step(LARGE, 256, 2, 3, 1.0, quick),
    ),
    Line(
        "step-2x64",
        "training step, GPT-2 2 x 64, batch 64",
        "raw PyTorch loop, all logits",
        ">= 0.95x",
        lambda quick: step(SMALL, 64, 30, 9, 0.95, quick),
    ),
    Line(
        "step-bf16",
        "6 x 384, batch 64, `--bf16 true`",
        "fp32 eager",
        "stated",
        lambda quick: variant(LARGE, 64, quick, bf16=True),
    ),
    Line(
        "step-compile",
        "6 x 384, batch 64, `--torch_compile true`",
        "fp32 eager",
        "stated",
        lambda quick: (
            Measured(trainer_step("gpt2-1x16", 8, 1)) if quick else variant(LARGE, 64, quick, torch_compile=True)
        ),
    ),
]
