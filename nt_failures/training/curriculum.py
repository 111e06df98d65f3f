"""Curriculum: training begins on the easiest rows of a range, and its upper end rises as they are learnt."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nt_failures.data.columns import task_columns
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.evaluation.reading import as_answers

PASSED_ABOVE = 0.99
"""Share of exact answers to training rows above which the upper end rises: that of arXiv 2412.04703's released code."""
ASKED = 256
"""Training rows that are asked, at most."""


class Curriculum(TrainerCallback, torch.utils.data.Sampler):
    """Trains on rows up to a size, and adds 1 to it at each evaluation at which those rows are answered right.

    The rule is that of the code released with arXiv 2412.04703 (`train.py`): begin with the smallest size; whenever
    more than 99 % of a batch of training rows are right, and the largest size is not reached, add 1; rows of all sizes
    so far are drawn alike. There a batch just trained on is asked for its next symbol, at the end of an epoch. Here up
    to 256 training rows of the sizes so far are asked for their whole answers, at each evaluation.

    It is a sampler of fixed rows, drawn with repetition from those that are not too large: the rows of a batch depend
    on the seed, the number of the batch and the sizes at that time, which stand in the Trainer's log. So a resumed
    training draws what it would have drawn. A larger size holds from the next step but one, as batches are drawn one
    ahead.

    Args:
        trainer: an `ObjectiveTrainer` with a task, a tokenizer and fixed rows; give it the curriculum as `curriculum`.
        name: the parameter of the task, a range, that the difficulty is.

    Raises:
        ValueError: the parameter is no range, the Trainer draws its rows in a way that nobody can follow, or it has
            several evaluation sets.
    """

    def __init__(self, trainer: Trainer, name: str):
        self.trainer, self.name = trainer, name
        sizes = {knob: size for knob, size in trainer.task.to_dict().items() if isinstance(size, list)}
        if name not in sizes:
            ranges = ", ".join(sizes) or f"none, so give one, such as --{name} 3-8"
            raise ValueError(f"curriculum={name!r} is no range of {trainer.task}; its ranges: {ranges}.")
        self._check(trainer.args)
        if isinstance(trainer.eval_dataset, Mapping):  # each of its sets would raise the upper end
            raise ValueError("a curriculum rises once at each evaluation; give one eval_dataset, not a dict of them.")
        columns = task_columns(trainer.train_dataset, trainer.task)
        if columns is None:
            raise ValueError("a curriculum chooses among fixed rows with their columns; leave --streaming out.")
        self.first, self.last = sizes[name]
        size = trainer.task.difficulty(columns)[name]
        self.order, self.sizes = np.argsort(size, kind="stable"), np.sort(size)  # rows from the smallest on
        if not self._up_to(self.first):
            raise ValueError(f"no training row has {name}={self.first}; give a larger num_train.")
        self.asked = [self._some(columns, self._up_to(upper)) for upper in range(self.first, self.last + 1)]
        """by upper end, the rows that are asked"""
        self.raised: list[int] = []
        """steps behind which the upper end rose"""
        self.epoch = 0

    @staticmethod
    def _check(args: TrainingArguments) -> None:
        refused = {
            "several processes": args.world_size > 1,
            "dataloader_num_workers, which draw ahead": args.dataloader_num_workers > 0,
            "eval_strategy='no', at which nothing rises": args.eval_strategy == "no",
            f"train_sampling_strategy={args.train_sampling_strategy!r}": args.train_sampling_strategy != "random",
        }
        if bad := [what for what, is_so in refused.items() if is_so]:
            raise ValueError(f"a curriculum does not go with {bad[0]}; leave one of the two out.")

    def _some(self, columns: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Of the `count` smallest rows some that are spread over all of their sizes."""
        rows = self.order[np.linspace(0, count - 1, min(count, ASKED)).astype(np.int64)]
        return {name: column[rows] for name, column in columns.items()}

    def _up_to(self, upper: int) -> int:
        return int(np.searchsorted(self.sizes, upper, side="right"))

    def upper(self, step: int) -> int:
        """The largest size in a step, counted from 0."""
        return min(self.first + sum(raised < step for raised in self.raised), self.last)

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch is drawn next; the DataLoader says it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        args = self.trainer.args
        size, together = args.train_batch_size, args.gradient_accumulation_steps
        batches = len(self) // size if args.dataloader_drop_last else -(-len(self) // size)
        seed = args.seed if args.data_seed is None else args.data_seed
        for batch in range(batches):
            step = self.epoch * -(-batches // together) + batch // together
            rng = np.random.default_rng([seed, self.epoch, batch])
            rows = rng.integers(0, self._up_to(self.upper(step)), min(size, len(self) - batch * size))
            yield from self.order[rows].tolist()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Take up what was reached before a stop, from the log."""
        ends = [(entry["step"], entry[self._key]) for entry in state.log_history if self._key in entry]
        before = [self.first, *(int(upper) for _, upper in ends)]
        self.raised = [step for (step, upper), old in zip(ends, before, strict=False) if upper > old]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask, log, and raise the upper end if the rows so far are learnt."""
        if not any(name.startswith("eval_") for name in kwargs["metrics"]):
            return  # another split, such as the final test
        now = min(self.first + len(self.raised), self.last)
        exact = self._exact(kwargs["model"], self.asked[now - self.first])
        if exact > PASSED_ABOVE and now < self.last:
            self.raised.append(state.global_step)
            now += 1
        self.trainer.log({self._key: now, "curriculum/train_exact": exact})

    @property
    def _key(self) -> str:
        return f"curriculum/{self.name}"

    def _exact(self, model: torch.nn.Module, columns: Mapping[str, np.ndarray]) -> float:
        trainer = self.trainer
        predictor = ModelPredictor(model, trainer.processing_class, trainer.training_objective, trainer.task)
        judged = trainer.task.judge(columns, as_answers(predictor.free(columns)))
        return float(np.asarray(judged["exact"]).mean())
