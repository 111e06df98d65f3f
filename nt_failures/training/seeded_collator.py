"""SeededCollator: a collator whose random draws depend on the seed, the epoch and the batch, and on nothing else."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nt_failures.data.batches import Example
from nt_failures.data.passes import PASS
from nt_failures.data.token_dataset import TokenRows


class SeededCollator(TrainerCallback):
    """A collator whose draws from torch's generator are the same whenever it gets the same batch in the same epoch.

    Batches are collated ahead of the step that uses them, and a resumed run skips those it has seen, so draws from the
    global generator would differ after every interruption. Here each batch seeds it, and puts back the state with which
    dropout goes on. As a callback of the Trainer it learns the epoch; of a stream, rows say in which pass they come.

    Args:
        collate: rows of `tokenize` to tensors, such as `Objective.collate`.
        seed: of the training.
    """

    def __init__(self, collate: Callable[[Sequence[Example]], dict[str, torch.Tensor]], seed: int):
        self.collate = collate
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by the workers that load data, too

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the seed of this training, which a search may have set."""
        self.seed = args.seed

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember the epoch; a row that comes again in the next one is drawn for anew."""
        self.epoch.fill_(int(state.epoch or 0))

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        generator = torch.random.default_generator
        before = generator.get_state()
        generator.manual_seed(self.batch_seed(examples))
        try:
            return self.collate(examples)
        finally:
            generator.set_state(before)

    def batch_seed(self, examples: Sequence[Example]) -> int:
        """63 bits of a hash over seed, epoch or pass, and all ids of the batch."""
        rows = TokenRows.from_examples(examples)
        epoch = next((row[PASS] for row in examples[:1] if PASS in row), int(self.epoch))
        numbers = kept = np.empty((len(rows), 0), dtype=np.int64)  # of each row: how many ids, these ids, and again
        for name in ("prefix_ids", "target_ids"):
            if name in rows.columns:  # else `layout` says what is missing
                ids, mask = rows.padded(name, fill=0, left=False)
                numbers = np.hstack([numbers, mask.sum(axis=1, keepdims=True), ids])
                kept = np.hstack([kept, np.ones((len(rows), 1), dtype=np.int64), mask])
        start = np.array([self.seed, epoch])
        digest = hashlib.blake2b(start.tobytes() + numbers[kept == 1].tobytes(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") >> 1
