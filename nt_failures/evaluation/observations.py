"""What one model answers to one set of rows: each decoding is asked for once, and all claims and figures share it."""

import functools
from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import Accuracies, Scored
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.tasks.base import Task

SHOWN = 64
"""Rows from which an example is picked."""


class Observations:
    """A model's predictions for some rows of a task, each decoding asked for once, when it is first needed.

    Args:
        predictor: `ModelPredictor(model, tokenizer, objective, task)`, or anything with its methods.
        task: of the rows.
        columns: n rows, n >= 1, such as `task.block(0, "test", 0)`.
        forced, free: measured already.
        first_answers: known already: the model's own answers to the first rows, (up to n, L) symbols.
    """

    def __init__(
        self,
        predictor: Predictor,
        task: Task,
        columns: Columns,
        forced: Scored | None = None,
        free: Scored | None = None,
        first_answers: np.ndarray | None = None,
    ):
        self.predictor, self.task, self.columns = predictor, task, columns
        self.answers = task.checked_answers(columns)
        self._forced, self._free, self._first_answers = forced, free, first_answers

    @functools.cached_property
    def forced(self) -> Scored:
        """Predictions with the true earlier symbols revealed."""
        return self._forced or Scored.of_symbols(self.predictor.forced(self.columns, self.answers), self.answers)

    @functools.cached_property
    def free(self) -> Scored:
        """The model's own decoding."""
        return self._free or Scored.of_symbols(self._free_answers, self.answers)

    @functools.cached_property
    def _free_answers(self) -> np.ndarray:
        return self.predictor.free(self.columns)

    @property
    def judged(self) -> Scored:
        """What positions are judged by: forced predictions if the model decodes token by token, else its own."""
        return self.forced if self.predictor.autoregressive else self.free

    @property
    def decision(self) -> int:
        """Position of the decision, from 1."""
        return self.task.decision_position(self.predictor.order)

    @property
    def right_decisions(self) -> np.ndarray:
        """(n,) bool."""
        return self.judged.right[:, self.decision - 1]

    @property
    def accuracies(self) -> Accuracies:
        """Forced and free shares."""
        return Accuracies(len(self.answers), self.forced.shares, self.free.shares)

    def example(self) -> dict[str, Any]:
        """One row as lists, with the model's `answer`: the first wrong one of 64, or the first if none is wrong."""
        answers = self._free_answers[:SHOWN] if self._first_answers is None else self._first_answers
        i = int((answers != self.answers[: len(answers)]).any(axis=1).argmax())
        return {**{name: np.asarray(c)[i].tolist() for name, c in self.columns.items()}, "answer": answers[i].tolist()}
