"""StopOnSignal: a callback that ends a training at Ctrl-C or SIGTERM, with a checkpoint."""

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

ECHO_SECONDS = 1.0
"""A launcher of several processes passes on the signal that the terminal has already sent to each of them."""

logger = logging.getLogger(__name__)


class StopOnSignal(TrainerCallback):
    """Stops training behind the step in which SIGINT or SIGTERM came, with a checkpoint, whatever `save_strategy`.

        with StopOnSignal() as stop:
            trainer.add_callback(stop)
            trainer.train()
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    Signals are caught inside the `with` block, in the main thread; a second one does at once what it does outside. All
    processes of a distributed training stop at the same step, also when only one of them got the signal.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """the signal that stopped the training; None while nothing did"""
        self._received, self._time, self._process = 0, 0.0, 0
        self._group: Any = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._previous = {
                number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._restore()
        if self._received and self.signal is None and error is None:
            signal.raise_signal(self._received)  # it came when no step was left to stop at
        self._received = 0

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that was forked in the block: not what is to stop with a checkpoint
            self._restore()
            signal.raise_signal(number)
            return
        now = time.monotonic()
        if not self._received:
            self._received, self._time = number, now
            name = signal.Signals(number).name
            logger.warning("%s: saving a checkpoint after this step; once more to stop at once.", name)
        elif self._group is None or now - self._time >= ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Several processes agree over the CPU, where nothing waits for a GPU."""
        self.signal = None
        if args.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop here if any process got a signal."""
        received = self._received
        if self._group is not None:
            shared = torch.tensor(received)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX, group=self._group)
            received = int(shared)
        if received:
            self.signal = received
            control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        """Ask again for the checkpoint: `save_strategy best` drops it where the step was evaluated."""
        if self.signal is not None:
            control.should_save = True
