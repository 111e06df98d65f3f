"""PathAccuracy: an `evaluate` metric that scores paths as the path-star task judges them.

Three ways in: the class, `evaluate.load("<this folder>")`, and `evaluate.combine`. What counts as right is asked of
`PathStar.judge`; this file reads text, groups rows by size and takes means. The loader of `evaluate` reads the imports
below by a regular expression, so each has one line.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from nt_failures.tasks.path_star import PathStar, read_prompt

Path = str | Sequence[int]

_DESCRIPTION = """\
Scores predicted paths, node by node and as a whole, against the true paths of path-star graphs (arXiv 2403.06963).
With the prompts it also tells valid paths to a wrong leaf from answers that are no path at all."""

_CITATION = "Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, ICML 2024, arXiv 2403.06963"

_INPUTS = """
Args:
    predictions: answers, each as text ("32,34,6,16,12", commas or blanks) or as a list of node labels.
    references: the true paths, in either form, in the task's own order (source first); at least two nodes each.
    prompts (optional): the path-star prompts ("32,3|16,12|.../32,12="), one for each answer. Sizes may differ.
    decision_position (optional): position, from 1, that `decision` reports. Default 2.

Returns, each a share of all answers, from 0 to 1, unless noted:
    exact: the whole path, no more and no less.
    position_k: right at position k; a share of the answers whose reference has a position k.
    decision: right at `decision_position`.
    first_error_k: first wrong at position k; one past the reference's end where only something follows the path.
    n: number of answers, an int.
    valid_path (with prompts): a path of the graph from the source to a leaf, the right one or a wrong one.
    wrong_arm (with prompts): a path of the graph to a wrong leaf.

Example:
    >>> metric = PathAccuracy()
    >>> metric.compute(predictions=["32,3,19,47,28"], references=["32,34,6,16,12"])["decision"]
    0.0
"""


class PathAccuracy(evaluate.Metric):
    """Exact, per position, decision, first error and, with prompts, valid paths. More: `inputs_description`.

    Raises:
        ValueError: for a path that is none, no answers, or text among lists; another number of prompts than of answers.

    Example:
        >>> metric = PathAccuracy()
        >>> found = metric.compute(predictions=["32,34,19", "7,2,5"], references=["32,34,6", "7,2,5"])
        >>> found["exact"], found["position_2"], found["first_error_3"], found["n"]
        (0.5, 1.0, 0.5, 2)
    """

    def _info(self) -> evaluate.MetricInfo:
        kinds = (datasets.Value("string"), datasets.List(datasets.Value("int64")))
        options = [{"predictions": p, "references": r} for p, r in itertools.product(kinds, repeat=2)]
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features(option) for option in options],
            reference_urls=["https://arxiv.org/abs/2403.06963"],
        )

    def compute(self, **kwargs: Any) -> dict[str, float] | None:
        """Score what was added and what is given here; nothing is left of either, even if it is refused."""
        try:
            return super().compute(**kwargs)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        if self.writer is not None:
            self.writer.close()
        for lock in filter(None, [self.filelock, *(self.filelocks or ())]):
            lock.release()
        self.writer = self.buf_writer = self.data = self.selected_feature_format = None
        self.cache_file_name = self.filelock = None

    def add_batch(
        self, *, predictions: Sequence | None = None, references: Sequence | None = None, **kwargs: Any
    ) -> None:
        """Add answers and their references; as many of one as of the other, and at least one."""
        if predictions is None or len(predictions) == 0:
            raise ValueError("no predictions to score; give at least one prediction and its reference.")
        _check_rows("predictions", predictions, len(predictions))
        _check_rows("references", references, len(predictions))
        self._check_kinds(predictions=predictions, references=references)
        try:
            super().add_batch(predictions=predictions, references=references, **kwargs)
        except BaseException:
            if len(self) == 0:
                self._forget()
            raise

    def add(self, *, prediction: Path | None = None, reference: Path | None = None, **kwargs: Any) -> None:
        """Add one answer and its reference."""
        given = {"predictions": prediction, "references": reference, **kwargs}  # `combine` names them in the plural
        self._check_kinds(**{name: [row] for name, row in given.items()})
        super().add(prediction=prediction, reference=reference, **kwargs)

    def _check_kinds(self, **columns: Sequence[Path]) -> None:
        """All text or all lists, also of earlier batches: a list among text would be written, and scored, as text."""
        for name, rows in columns.items():
            if any(row is None for row in rows):
                raise ValueError("an answer or reference is None; give '' for an answer without nodes.")
            kinds = {isinstance(row, str) for row in rows}
            if self.selected_feature_format is not None and name in self.selected_feature_format:
                kinds.add(isinstance(self.selected_feature_format[name], datasets.Value))
            if len(kinds) > 1:
                raise ValueError(f"{name} are both text and lists; give all of them in one form.")

    def _compute(
        self,
        predictions: list[Path],
        references: list[Path],
        prompts: Sequence[str] | None = None,
        decision_position: int = 2,
    ) -> dict[str, float]:
        if prompts is not None:
            _check_rows("prompts", prompts, len(predictions))
            if not all(isinstance(prompt, str) for prompt in prompts):
                raise ValueError("a prompt is no text; give each as '32,34|34,6|.../32,6='.")
        paths = [_reference(path, row) for row, path in enumerate(references, start=1)]
        shortest = min(map(len, paths))
        whole = isinstance(decision_position, (int, np.integer)) and not isinstance(decision_position, bool)
        if not whole or not 1 <= decision_position <= shortest:
            raise ValueError(
                f"decision_position={decision_position!r} is no position of every reference; give 1 to {shortest}, "
                "a whole number."
            )
        judged = _judge([_labels(answer) for answer in predictions], paths, prompts)
        longest = judged["correct"].shape[1]
        right = np.nanmean(judged["correct"], axis=0)
        scores = {"exact": judged["exact"].mean()}
        scores |= {f"position_{k}": right[k - 1] for k in range(1, longest + 1)}
        scores["decision"] = judged["correct"][:, decision_position - 1].mean()
        scores |= {f"first_error_{k}": (judged["first_error"] == k).mean() for k in range(1, longest + 2)}
        if prompts is not None:
            scores["valid_path"] = judged["valid_path"].mean()
            scores["wrong_arm"] = (judged["valid_path"] & ~judged["exact"]).mean()
        return {**{name: float(share) for name, share in scores.items()}, "n": len(paths)}


def _check_rows(name: str, rows: Sequence | None, count: int) -> None:
    if isinstance(rows, str):
        raise ValueError(f"{name} is one text, {rows[:40]!r}; give a list of texts.")
    given = 0 if rows is None else len(rows)
    if given != count:
        raise ValueError(f"{given} {name} for {count} predictions; give one for each.")


def _labels(answer: Path) -> list[int]:
    """Node labels of text or of a list; what is no label reads as -1."""
    return PathStar().read_answer(answer) if isinstance(answer, str) else list(answer)


def _reference(path: Path, row: int) -> list[int]:
    labels = _labels(path)
    if len(labels) < 2 or min(labels) < 0:
        raise ValueError(f"reference {row}, {path!r}, is no path; give two or more node labels, such as '32,34,6'.")
    return labels


def _judge(answers: list, paths: list, prompts: Sequence[str] | None) -> dict[str, np.ndarray]:
    """What `PathStar.judge` says, a row per answer; `correct`: (n, longest path) floats, nan behind a path's end."""
    shown = [None] * len(paths) if prompts is None else prompts
    instances = [_instance(path, shown[row], row + 1) for row, path in enumerate(paths)]
    judged = {
        "correct": np.full((len(paths), max(map(len, paths))), np.nan),
        "exact": np.zeros(len(paths), dtype=bool),
        "first_error": np.zeros(len(paths), dtype=np.int64),
        "valid_path": np.zeros(len(paths), dtype=bool),
    }
    for task in dict.fromkeys(task for task, _ in instances):
        rows = [i for i, (size, _) in enumerate(instances) if size == task]
        columns = {
            name: np.array([instances[i][1][name] for i in rows]) for name in ("edges", "source", "goal", "path")
        }
        verdicts = task.judge(columns, [answers[i] for i in rows])
        judged["correct"][rows, : task.path_length] = verdicts["correct"]
        for name in ("exact", "first_error", "valid_path"):
            judged[name][rows] = verdicts[name]
    return judged


def _instance(path: list[int], prompt: str | None, row: int) -> tuple[PathStar, dict[str, Any]]:
    """The task of this row's size and the row; without a prompt a graph of one arm, the path itself."""
    if prompt is None:
        arm = {"edges": list(itertools.pairwise(path)), "source": path[0], "goal": path[-1], "path": path}
        return PathStar(1, len(path), num_nodes=2**16), arm  # judging does not depend on the number of labels
    try:
        task, graph = read_prompt(prompt)
        if graph["path"] != path:
            raise ValueError(f"{path} is not the path to the goal, {graph['path']}.")
    except ValueError as error:
        raise ValueError(f"prompt {row} does not go with reference {row}: {error}") from error
    return task, graph
