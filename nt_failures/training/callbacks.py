"""Callbacks: a progress bar with accuracies, a table of samples, a stop once solved."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from tqdm.auto import tqdm
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.training_args import TrainingArguments

from nt_failures.diagnosis.evidence import SOLVED_AT
from nt_failures.evaluation.metrics import judged
from nt_failures.evaluation.observations import written
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.evaluation.reading import as_answers
from nt_failures.training.budget import learning_curves


class LiveProgressCallback(ProgressCallback):
    """The Trainer's progress bar with the last loss, exact accuracy and decision accuracy behind it.

    Use it in place of the stock bar: `trainer.remove_callback(ProgressCallback); trainer.add_callback(...)`.
    """

    shown: Mapping[str, str] = {}

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """A new bar, without the figures of an earlier training."""
        self.shown = {}
        super().on_train_begin(*args, **kwargs)

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, logs: Any = None, **__: Any) -> None:
        """Show the newest figures behind the bar."""
        names = {"loss": "loss", "eval_free/exact": "exact", "eval_decision": "decision"}
        newest = {short: f"{logs[name]:.3f}" for name, short in names.items() if name in (logs or {})}
        self.shown = {**self.shown, **newest}
        if state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.set_postfix(self.shown, refresh=True)

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """No second bar for the short evaluations during training."""


class SampleTableCallback(TrainerCallback):
    """A small table at every evaluation: graph, target, prediction, first wrong position.

    It is written to the terminal above the progress bar, and as `samples` to those trackers of `report_to` that take a
    table (wandb, trackio) or a text (tensorboard).

    Args:
        trainer: an `ObjectiveTrainer` with a tokenizer and a task.
        columns: the instances to show.
    """

    def __init__(self, trainer: Trainer, columns: Mapping[str, np.ndarray]):
        self.trainer, self.columns = trainer, columns
        self.head = [trainer.task.words.problem, "target", "prediction", "first wrong position"]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Predict and show the samples, at evaluations during training: those of other splits have other prefixes."""
        during_training = any(name.startswith("eval_") for name in kwargs["metrics"])
        if not (during_training and len(self.trainer.task.answers(self.columns))):
            return
        rows = self.sample(kwargs["model"])  # on every process: a sharded model answers only if all of them ask
        if state.is_world_process_zero:
            order = self.trainer.training_objective.order
            places = self.trainer.task.decisions(self.columns, order).tolist()
            near = [
                [row[0], *(around(row[k], at) for k in (1, 2)), row[3]] for row, at in zip(rows, places, strict=True)
            ]
            tqdm.write(f"step {state.global_step}\n" + text_table([self.head, *near]))
            self._track(args, state, rows)

    def sample(self, model: Any) -> list[list[str]]:
        """The rows of the table."""
        objective, task = self.trainer.training_objective, self.trainer.task
        predictor = ModelPredictor(model, self.trainer.processing_class, objective, task)
        predicted = as_answers(predictor.free(self.columns))
        first = task.judge(self.columns, predicted)["first_error"].tolist()
        decisions, names = task.decisions(self.columns, objective.order), task.symbols
        columns = (
            [" ".join(prompt.split()) for prompt in task.texts(self.columns)["prompt"].to_list()],
            [written(answer, names) for answer in as_answers(task.answers(self.columns))],
            [written(answer, names) for answer in predicted],
            [f"{k} (decision)" if k and k == at else str(k or "-") for k, at in zip(first, decisions, strict=True)],
        )
        return [list(row) for row in zip(*columns, strict=True)]

    def _track(self, args: TrainingArguments, state: TrainerState, rows: list[list[str]]) -> None:
        frame = pandas.DataFrame(rows, columns=self.head)
        for tracker in map(importlib.import_module, {"wandb", "trackio"} & set(args.report_to)):
            # The axis of everything that the Trainer logs is the step.
            tracker.log({"samples": tracker.Table(dataframe=frame), "train/global_step": state.global_step})
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
                lines = ["| " + " | ".join(row) + " |" for row in (self.head, ["---"] * 4, *escaped)]
                callback.tb_writer.add_text("samples", "\n".join(lines), state.global_step)
                callback.tb_writer.flush()  # the Trainer has flushed this evaluation's figures already


class StopWhenSolved(TrainerCallback):
    """Ends training once so many evaluations in a row were at 95 % or more, for studies of the time to solve.

    That time is the one of a run of full length, unless that would have fallen below 95 % again. Of several evaluation
    sets, all must be, at the same steps. ValueError for a training without evaluations, or without `free/exact`.

    Args:
        trainer: whose evaluation sets are looked at.
        evaluations: how many in a row; one alone may be luck.
        trained: positions that alone are trained and judged, from 1; None: exact answers are.
    """

    def __init__(self, trainer: Trainer, evaluations: int, trained: Sequence[int] | None = None):
        self.trainer, self.evaluations, self.trained = trainer, evaluations, trained

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Refuse what would never stop."""
        if self.evaluations < 1:
            raise ValueError(f"StopWhenSolved: evaluations={self.evaluations} never stops; give 1 or more.")
        if args.eval_strategy == "no":
            raise ValueError("StopWhenSolved has no evaluations to stop at; give eval_strategy='steps'.")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop, if this evaluation is the one."""
        if not any(name.endswith("free/exact") for name in kwargs["metrics"]):
            raise ValueError("StopWhenSolved needs free/exact; leave prediction_loss_only and compute_metrics out.")
        if self.solved(state):
            control.should_training_stop = True

    def solved(self, state: TrainerState) -> bool:
        """Whether the last evaluations are enough; from the log, which a resumed run has, too."""
        found, sets = learning_curves(state.log_history), self.trainer.eval_dataset
        starts = [f"eval_{name}_" for name in sets] if isinstance(sets, dict) else ["eval_"]
        last = [found.get(start, [])[-self.evaluations :] for start in starts]
        # Sets are evaluated one after the other: until the last one is, the first is a step ahead.
        steps = {tuple(entry["step"] for entry in entries) for entries in last}
        enough = len(steps) == 1 and all(len(entries) == self.evaluations for entries in last)
        return enough and all(judged(entry, self.trained) >= SOLVED_AT for entries in last for entry in entries)


class OnFirstStep(TrainerCallback):
    """Does something once, as soon as a step is made, so that the training is known to work."""

    def __init__(self, do: Callable[[], None]):
        self._do: Callable[[], None] | None = do

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Only once."""
        if self._do is not None:
            self._do()
            self._do = None


def around(answer: str, position: int, width: int = 30) -> str:
    """An answer, or as many symbols around one of it, counted from 1, as fit into `width`; 0: around the first."""
    symbols = answer.split(",")
    at = min(max(position, 1), len(symbols))
    for size in range(1, len(symbols) + 1):  # symbols shown, the one asked for in their middle where it can be
        start = min(max(at - 1 - size // 2, 0), len(symbols) - size)
        shown = symbols[start : start + size]
        text = ",".join(["..."] * (start > 0) + shown + ["..."] * (start + size < len(symbols)))
        if size == 1 or len(text) <= width:
            longest = text
    return longest


def text_table(rows: Sequence[Sequence[str]], width: int = 30) -> str:
    """Plain columns; a cell longer than `width` keeps its end, where a prompt has its query."""
    cells = [[c if len(c) <= width else "..." + c[3 - width :] for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
