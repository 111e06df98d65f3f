"""What one model answers to one set of rows: each decoding is asked for once, and all claims and figures share it."""

import functools
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from nt_failures.data.columns import task_columns
from nt_failures.evaluation.metrics import Accuracies, Scored, count_problems, mean_guess
from nt_failures.evaluation.predictor import Columns, NotMeasured, Predictor
from nt_failures.evaluation.reading import as_answers, in_place
from nt_failures.tasks.base import Task

SHOWN = 64
"""Rows from which an example is picked."""


class Observations:
    """A model's predictions for some rows of a task, each decoding asked for once, when it is first needed.

    Args:
        predictor: `ModelPredictor(model, tokenizer, objective, task)`, or anything with its methods.
        task: of the rows.
        columns: n rows, n >= 1, such as `task.block(0, "test", 0)`, or a `datasets.Dataset` of them.
        forced, free, forced_symbols, free_symbols: known already.
    """

    def __init__(
        self,
        predictor: Predictor,
        task: Task,
        columns: Columns | datasets.Dataset,
        forced: Scored | None = None,
        free: Scored | None = None,
        forced_symbols: np.ndarray | None = None,
        free_symbols: np.ndarray | None = None,
    ):
        if isinstance(columns, datasets.Dataset):
            columns = task_columns(rows := columns, task)
            if columns is None:
                raise ValueError(f"rows with {rows.column_names} lack columns of {type(task).__name__}; keep them all.")
        self.predictor, self.task, self.columns = predictor, task, columns
        self.answers = task.checked_answers(columns)
        self.decisions = task.decisions(columns, predictor.order)
        """(n,) position of each row's decision, 0 for none"""
        self.guess = task.guess(columns, predictor.order)
        """(n,) accuracy of a guess there"""
        self.problems = task.instance_hash(columns)
        """(n,) which problem each row poses"""
        known = {"forced": forced, "free": free, "forced_symbols": forced_symbols, "free_symbols": free_symbols}
        vars(self).update({name: value for name, value in known.items() if value is not None})  # need not be computed
        self.not_measured: dict[str, str] = {}
        """why what was asked for could not be told"""

    @functools.cached_property
    def forced(self) -> Scored | None:
        """Predictions with the true earlier symbols revealed; None where the predictor cannot make them."""
        try:
            return Scored.of_forced(self.task, self.columns, self.forced_symbols, self.predictor.order)
        except NotMeasured as error:
            self.not_measured["forced"] = str(error)
            return None

    @functools.cached_property
    def free(self) -> Scored:
        """The model's own decoding, as the task judges it."""
        judged = self.task.judge(self.columns, as_answers(self.free_symbols))
        if self.task.one_answer:  # `judge` counts from the front
            judged = {**judged, "correct": self._in_place(self.free_symbols) == self.answers}
        return Scored.of_judge(judged, self.task.lengths(self.columns))

    @functools.cached_property
    def forced_symbols(self) -> np.ndarray:
        """Of `forced`, (n, L) as `Predictor` gives them; or its `NotMeasured`."""
        return self.predictor.forced(self.columns, self.answers)

    @functools.cached_property
    def free_symbols(self) -> np.ndarray:
        """Of `free`, (n, L) or (n, L + 1) as `Predictor` gives them."""
        return self.predictor.free(self.columns)

    @property
    def judged_symbols(self) -> np.ndarray:
        """Of `judged`."""
        forced = self.predictor.autoregressive and self.forced is not None
        return self.forced_symbols if forced else self._in_place(self.free_symbols)

    def _in_place(self, symbols: np.ndarray) -> np.ndarray:
        return in_place(symbols, self.task.lengths(self.columns), self.answers.shape[1], self.predictor.order)

    @property
    def judged(self) -> Scored:
        """What positions are judged by: forced predictions if the model decodes token by token, else its own.

        Its own, too, where forced ones cannot be had.
        """
        return (self.predictor.autoregressive and self.forced) or self.free

    @property
    def decision(self) -> int | None:
        """Position of the decision, from 1, where all rows have the same; None where it differs or there is none."""
        first = int(self.decisions[0])
        return first if first and (self.decisions == first).all() else None

    @property
    def deciding(self) -> np.ndarray:
        """(n,) bool: the rows that have a decision."""
        return self.decisions > 0

    @property
    def chance(self) -> float | None:
        """Accuracy of a guess at the decision; None where no row has one."""
        return mean_guess(self.guess[self.deciding]) if self.deciding.any() else None

    def at_decision(self, scored: Scored) -> np.ndarray:
        """Whether the decision is right, of the rows that have one; ValueError if none has."""
        if not self.deciding.any():
            raise ValueError(f"{type(self.task).__name__} has no decision in {self.predictor.order} order.")
        rows = np.flatnonzero(self.deciding)
        return scored.right[rows, self.decisions[rows] - 1]

    def n(self, rows: np.ndarray | None = None) -> int:
        """How many different problems the rows of a mask (n,) pose; all rows if not given."""
        return count_problems(self.problems, np.ones(len(self.answers), dtype=bool) if rows is None else rows)

    @property
    def accuracies(self) -> Accuracies:
        """Forced and free shares."""
        forced = None if self.forced is None else self.forced.shares(self.problems)
        return Accuracies(self.n(), forced, self.free.shares(self.problems), rows=len(self.answers))

    def example(self) -> dict[str, Any]:
        """One row as lists, with the model's `prediction`: the first wrong one of 64, or the first if none is wrong.

        Answer and prediction are indices into the task's `symbols`. `text` has prompt, completion and prediction as
        people read them, `?` for what is no symbol.
        """
        answers = as_answers(self.free_symbols[:SHOWN])
        first = {name: np.asarray(column)[: len(answers)] for name, column in self.columns.items()}
        i = int(np.argmin(self.task.judge(first, answers)["exact"]))
        texts = self.task.texts({name: column[[i]] for name, column in first.items()})
        text = {name: text.to_list()[0] for name, text in texts.items()}
        text["prediction"] = written(answers[i], self.task.symbols)
        return {**{name: column[i].tolist() for name, column in first.items()}, "prediction": answers[i], "text": text}


def written(answer: Sequence[int], symbols: Sequence[str]) -> str:
    """An answer of indices into a task's symbols as people read it, `?` for an index of none."""
    return ",".join(symbols[k] if 0 <= k < len(symbols) else "?" for k in answer)
