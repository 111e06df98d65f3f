"""Callbacks: a progress bar with the live exact accuracy, a table of samples at every evaluation, a stop once solved."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.training_args import TrainingArguments

from nt_failures.diagnosis.evidence import SOLVED_AT
from nt_failures.evaluation.metrics import judged
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task
from nt_failures.training.budget import learning_curve


class LiveProgressCallback(ProgressCallback):
    """The Trainer's progress bar with the last loss, exact accuracy and decision accuracy behind it.

    Use it in place of the stock bar: `trainer.remove_callback(ProgressCallback); trainer.add_callback(...)`. Logs stay
    in `trainer.state.log_history` and go to the trackers; they are not written over the bar.
    """

    def __init__(self, max_str_len: int = 100):
        super().__init__(max_str_len)
        self.shown: dict[str, str] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures behind the bar."""
        names = {"loss": "loss", "eval_free/exact": "exact", "eval_decision": "decision"}
        self.shown |= {short: f"{logs[name]:.3f}" for name, short in names.items() if name in (logs or {})}
        if state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.set_postfix(self.shown, refresh=True)

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """No second bar for the short evaluations during training."""


class SampleTableCallback(TrainerCallback):
    """A small table at every evaluation: graph, target, prediction, first wrong position.

    It is written to the terminal above the progress bar, and as a table to those trackers of `report_to` that take one
    (wandb and trackio: a Table named `samples`; tensorboard: a text of that name).

    Args:
        tokenizer, objective, task: as given to the trainer.
        columns: instances to draw the samples from, the first rows.
        rows: how many to show.
        trainer_callbacks: the trainer's `callback_handler.callbacks`, where the TensorBoard writer lives.
    """

    HEAD = ("graph", "target", "prediction", "first wrong position")

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        objective: Objective,
        task: Task,
        columns: Mapping[str, np.ndarray],
        rows: int = 3,
        trainer_callbacks: Sequence[TrainerCallback] = (),
    ):
        self.tokenizer, self.objective, self.task = tokenizer, objective, task
        self.columns = {name: column[:rows] for name, column in columns.items()}
        self.trainer_callbacks = trainer_callbacks

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Predict the samples afresh, and show them. An evaluation of another split, under another prefix, shows none."""
        during_training = any(name.startswith("eval_") for name in kwargs["metrics"])
        if not (during_training and len(self.task.answers(self.columns))):
            return
        rows = self.sample(kwargs["model"])  # on every process: a sharded model answers only if all of them ask
        if not state.is_world_process_zero:
            return
        tqdm.write(f"step {state.global_step}\n" + text_table(self.HEAD, rows))
        self._track(args, state, rows)

    def sample(self, model: Any) -> list[tuple[str, str, str, str]]:
        """The rows of the table."""
        predictor = ModelPredictor(model, self.tokenizer, self.objective, self.task)
        predicted = predictor.free(self.columns)
        answers = self.task.answers(self.columns)
        first = self.task.judge(self.columns, predicted.tolist())["first_error"]
        prompts = self.task.render(self.columns)["prompt"].to_list()
        decision = self.task.decision_position(self.objective.order)
        return [
            (prompt, _words(target), _words(given), _place(error, decision))
            for prompt, target, given, error in zip(prompts, answers, predicted, first.tolist(), strict=True)
        ]

    def _track(self, args: TrainingArguments, state: TrainerState, rows: list[tuple[str, ...]]) -> None:
        step = {"train/global_step": state.global_step}  # the axis of everything that the Trainer logs
        if "wandb" in args.report_to:
            import wandb

            table = wandb.Table(columns=list(self.HEAD), data=[list(row) for row in rows])
            wandb.log({"samples": table, **step})
        if "trackio" in args.report_to:
            import pandas
            import trackio

            table = trackio.Table(dataframe=pandas.DataFrame(rows, columns=list(self.HEAD)))
            trackio.log({"samples": table, **step})
        for callback in self.trainer_callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                lines = ["| " + " | ".join(row) + " |" for row in (self.HEAD, ("---",) * 4, *_escape(rows))]
                callback.tb_writer.add_text("samples", "\n".join(lines), state.global_step)
                callback.tb_writer.flush()  # the Trainer has flushed this evaluation's figures already


class StopWhenSolved(TrainerCallback):
    """Ends training at the first evaluation of so many in a row that were all at 95 % or more, for studies of the time to solve.

    The runs that are stopped keep the curve up to there. The time to solve is what a run of full length would give, unless
    that fell below 95 % again later, which nobody sees. Nothing that the learning rate's schedule would do later is done.

    Args:
        evaluations: how many in a row; one alone may be luck.
        trained: positions that alone are trained and judged, from 1; None: exact answers are.
    """

    def __init__(self, evaluations: int, trained: Sequence[int] | None = None):
        self.evaluations, self.trained = evaluations, trained

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop, if this evaluation is the one."""
        if self.solved(state):
            control.should_training_stop = True

    def solved(self, state: TrainerState) -> bool:
        """Whether the last evaluations are enough; from the log, which a resumed run has, too."""
        last = [judged(entry, self.trained) for entry in learning_curve(state)[-self.evaluations :]]
        return len(last) == self.evaluations and all(share >= SOLVED_AT for share in last)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int = 30) -> str:
    """Plain columns; a cell longer than `width` keeps its end, where a prompt has its query."""
    cells = [list(head), *([c if len(c) <= width else "..." + c[3 - width :] for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def _escape(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]


def _words(symbols: np.ndarray) -> str:
    return ",".join("?" if symbol < 0 else str(symbol) for symbol in symbols.tolist())


def _place(error: int, decision: int) -> str:
    return "-" if error == 0 else f"{error} (decision)" if error == decision else str(error)
