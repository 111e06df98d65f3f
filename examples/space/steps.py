"""What the demo shows, without a browser: one graph, a model's answers to it, and each answer position by position.

Positions are the task's own, from 1. A *step* counts in the order of generation, from 1: for a model that writes the
path from the goal back to the source, step 1 is the last position.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nt_failures as ntf
from nt_failures.tasks.path_star import path_to_goal

Row = Mapping[str, Any]
"""One instance: `edges`, `source`, `goal`, `path`, plain Python numbers."""

Candidates = Sequence[tuple[str, float]]
"""Texts of tokens and their probabilities, the likeliest first."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way in which the model answers. Sequences have one entry per position, in the task's own order."""

    name: str
    """`"forced"`, `"free"`, `"parallel"` or `"wrong arm"`"""
    shown: tuple[int, ...]
    """what stands before a step is read from here; empty where nothing is ever shown"""
    answer: tuple[int, ...]
    """the model's nodes, -1 for what is no node; given ones included"""
    candidates: tuple[Candidates, ...]
    """empty at a position behind something that is no node of the task: it cannot be shown again"""
    given: int = 0
    """steps at the beginning that were not predicted but given"""


@dataclasses.dataclass(frozen=True)
class Walk:
    """A graph and how the model answers it."""

    row: Row
    order: str
    decision: int
    ways: tuple[Way, ...]

    @property
    def length(self) -> int:
        """Positions of the answer."""
        return len(self.row["path"])

    def position(self, step: int) -> int:
        """The position that is written at a step."""
        return step if self.order == "forward" else self.length + 1 - step

    def step(self, position: int) -> int:
        """The step at which a position is written: `position` is its own inverse."""
        return self.position(position)

    def before(self, way: Way, step: int) -> list[int]:
        """What the model has been shown behind the prompt when it predicts this step, in the order of generation."""
        return [way.shown[self.position(s) - 1] for s in range(1, step)] if way.shown else []

    def so_far(self, way: Way, step: int) -> list[int]:
        """The answer up to and including a step, in the task's own order."""
        return list(way.answer[:step]) if self.order == "forward" else list(way.answer[self.length - step :])

    def right(self, way: Way, position: int) -> bool:
        """Whether the right node stands there."""
        return way.answer[position - 1] == self.row["path"][position - 1]


def walk(predictor: ntf.ModelPredictor, row: Row) -> Walk:
    """Ask the model: forced and free, or in parallel if it decodes all positions at once.

    Raises:
        ValueError: the tokenizer cannot write the graph.
    """
    columns = columns_of(row)
    path = np.array([row["path"]])
    free = predictor.free(columns)
    if predictor.autoregressive:
        forced = predictor.forced(columns, path)
        ways = (
            _way(predictor, columns, "forced", shown=path, answer=forced),
            _way(predictor, columns, "free", shown=free, answer=free),
        )
    else:
        candidates = predictor.candidates(columns, path, _top(predictor))[0]
        ways = (Way("parallel", (), tuple(free[0].tolist()), tuple(candidates)),)
    return Walk(row, predictor.order, predictor.task.decision_position(predictor.order), ways)


def columns_of(row: Row) -> dict[str, np.ndarray]:
    """One instance as columns of one row."""
    return {name: np.array([row[name]]) for name in ("edges", "source", "goal", "path")}


def _way(
    predictor: ntf.ModelPredictor,
    columns: dict[str, np.ndarray],
    name: str,
    shown: np.ndarray,
    answer: np.ndarray,
    given: int = 0,
) -> Way:
    """A way of one row with the probabilities of its steps, as far as what was shown can be written again."""
    nodes = (shown >= 0) & (shown < predictor.task.num_nodes)
    candidates = predictor.candidates(columns, np.where(nodes, shown, 0), _top(predictor))[0]
    turn = 1 if predictor.order == "forward" else -1
    writable = nodes[0][::turn].cumprod()[::turn]  # 1 up to the first symbol that is no node
    before = np.roll(writable, turn)
    before[::turn][0] = 1
    known = tuple(c if ok else () for c, ok in zip(candidates, before.tolist(), strict=True))
    return Way(name, tuple(shown[0].tolist()), tuple(answer[0].tolist()), known, given)


def _top(predictor: ntf.ModelPredictor) -> int:
    """Candidates to show: every arm and one more, within what can be read."""
    return min(max(4, predictor.task.degree + 1), 8)


def wrong_arms(row: Row) -> list[list[int]]:
    """The paths from the source to the other leaves, by the label of their first node."""
    child = {a: b for a, b in row["edges"] if a != row["source"]}
    starts = sorted(b for a, b in row["edges"] if a == row["source"] and b != row["path"][1])
    arms = []
    for start in starts:
        arm = [row["source"], start]
        while arm[-1] in child:
            arm.append(child[arm[-1]])
        arms.append(arm)
    return arms


def revealed_node(arm: Sequence[int], order: str) -> int:
    """The node of a wrong arm that is revealed: its first, or its last but one for a model that writes backwards."""
    return arm[1] if order == "forward" else arm[-2]


def why_no_detour(predictor: ntf.ModelPredictor, row: Row) -> str:
    """Why no wrong arm can be revealed; empty if one can."""
    if not predictor.autoregressive:
        return "this model writes all positions at once, so no node can be revealed first"
    if len(row["path"]) < 4:
        return "paths of fewer than 4 nodes have nothing between the revealed node and the end"
    return "" if wrong_arms(row) else "this graph has a single arm"


def detour(predictor: ntf.ModelPredictor, row: Row, arm: Sequence[int]) -> Way:
    """Reveal the first two symbols of a wrong arm and let the model go on alone.

    In reversed order the first symbol is the goal, and the second the wrong arm's node next to its end.
    """
    columns = columns_of(row)
    wrong = np.array([arm if predictor.order == "forward" else [*arm[:-1], row["goal"]]])
    answer = predictor.continued(columns, wrong, 2)
    return _way(predictor, columns, "wrong arm", shown=answer, answer=answer, given=2)


def fate(w: Walk, way: Way, arm: Sequence[int]) -> str:
    """What the model did on a wrong arm between the revealed node and the last step: follow, jump or neither.

    The last step is left out: it is a copy from the prompt, which is right whatever came before it.
    """
    middle = [w.position(step) - 1 for step in range(3, w.length)]
    if all(way.answer[i] == arm[i] for i in middle):
        return "follow"
    return "jump" if all(way.answer[i] == w.row["path"][i] for i in middle) else "neither"


def test_graph(task: ntf.PathStar, number: int) -> Row:
    """Graph `number` of the test split, of the first block of seed 0; no seed's training rows with `overlap="forbid"`
    have it.

    Raises:
        ValueError: there is no such graph.
    """
    columns = task.block(seed=0, split="test", index=0)
    count = len(columns["path"])
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < count:
        raise ValueError(f"there is no test graph {number!r}; give a whole number from 0 to {count - 1:,}.")
    return {name: column[number].tolist() for name, column in columns.items()}


def own_line(task: ntf.PathStar, line: str) -> Row:
    """A graph from a pasted line, with or without the path behind `=`.

    Raises:
        ValueError: the line is no graph of this task.
    """
    if not line.strip():
        raise ValueError(f"paste a line first, for example {prompt(task, test_graph(task, 0))}")
    row = dict(task.parse(line))
    if row["path"] is None:
        row["path"] = path_to_goal(row)
    return row


def prompt(task: ntf.PathStar, row: Row) -> str:
    """The line that the model reads."""
    return task.render(columns_of(row))["prompt"].to_list()[0]
