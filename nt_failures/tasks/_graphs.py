"""What tasks on directed graphs share: the columns `edges`, `source`, `goal` and `path`, their text, and ways in them.

Shapes: n rows; E edges and L nodes of the longest path, -1 behind the end of a row that has fewer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._derived import answer_words
from nt_failures.tasks._text import MAX_TEXT, Text, join_numbers
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns
from nt_failures.tasks.facts import Clue, Star
from nt_failures.tasks.hashing import hash_edges, mix64
from nt_failures.tasks.judging import padded_answers

MAX_LABELS = 2**20
"""Labels at most: each is a token of the vocabulary and a row of the embedding."""


class Graphs(Task):
    """Base of tasks whose prompt is `a,b|c,d|...|y,z/source,goal=` and whose answer is the path of nodes to the goal.

    A subclass has the fields `num_nodes`, labels are 0..num_nodes-1, and `path_length`, a number or a range, and says
    `num_edges`, of its largest graphs.
    """

    PROBLEM, ANSWER, DETOUR = "graph", "path", "wrong arm"
    answer_column = "path"
    asked = "all nodes, both ends included,"
    """what an answer lists, in words"""

    @property
    def lengths_differ(self) -> bool:
        """Whether answers differ in length."""
        return isinstance(self.path_length, tuple)

    @property
    def one_answer(self) -> bool:
        return type(self).judge is Graphs.judge

    @property
    def instruction(self) -> str:
        return (
            "Edges of a directed graph are written as from,to with | between them. Behind / stand a start and a goal, "
            f"and then =. Give {self.asked} of the path along edges from the start to the goal, in order, with commas "
            "between them."
        )

    @property
    def symbols(self) -> list[str]:
        return [*map(str, range(self.num_nodes)), "|", "=", "/", *[self.END] * self.lengths_differ, self.DUMMY]

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        edges, path = np.asarray(columns["edges"]), np.asarray(columns["path"])
        n, count = edges.shape[:2]
        query = np.stack([columns["source"], columns["goal"]], axis=-1)
        between = np.tile(np.frombuffer((",|" * count + ",=").encode(), dtype=np.uint8), (n, 1))
        between[np.arange(n), 2 * (edges[:, :, 0] >= 0).sum(axis=1) - 1] = ord("/")
        prompt = join_numbers(np.hstack([edges.reshape(n, 2 * count), query]), between)
        if self.lengths_differ:
            return {"prompt": prompt}
        return {"prompt": prompt, "completion": join_numbers(path, "," * (path.shape[1] - 1))}

    def read_answer(self, text: str) -> list[int]:
        """Labels as numbers, whatever `num_nodes`, up to `END`; a number with a leading zero is none."""
        return [int(word) if is_label(word) else -1 for word in answer_words(text)]

    def line(self, text: str) -> str:
        """A prompt, or a prompt and its completion, without what fills up a shorter answer."""
        line = text.strip()
        while self.lengths_differ and line.endswith(f" {self.END}"):
            line = line.removesuffix(f" {self.END}")
        return line

    def checked(self, line: str, row: Mapping[str, object], right: Sequence[int]) -> dict[str, object]:
        """The row of a line with -1 behind the end of its edges and its path, as `sample` has it.

        ValueError for a label that there is not, or another path than the right one.
        """
        if (label := max(map(max, row["edges"]))) >= self.num_nodes:
            raise ValueError(f"label {label} in {shorten(line, 80)} is not below num_nodes={self.num_nodes}.")
        if row["path"] not in (None, right):
            raise ValueError(f"the path {row['path']} in {shorten(line, 80)} is not the path to the goal, {right}.")
        edges, path = row["edges"] + [(-1, -1)] * (self.num_edges - len(row["edges"])), row["path"]
        return {**row, "edges": edges, "path": path and path + [-1] * (self.answer_length - len(path))}

    def checked_answers(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """As `Task.checked_answers`; ValueError, too, for a smaller graph beside a task of one size."""
        answers, sizes = super().checked_answers(columns), vars(self).values()
        smaller = any((np.asarray(columns[name]) < 0).any() for name in ("edges", "path"))
        if smaller and not any(isinstance(size, tuple) for size in sizes):
            raise ValueError(
                f"some graphs are smaller than {self}, with -1 behind their end; give instances of this very task."
            )
        return answers

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """Score answers, given as node labels (-1 for anything else); ValueError for an answer that is no list of them.

        Returns:
            As in `Task.judge`, and `decision` (n,): right where the row decides; `valid_path` (n,): the answer is a
            path from the source to a leaf, the right one or a wrong one.
        """
        edges, source = np.asarray(columns["edges"]), np.asarray(columns["source"])
        answered, sizes = self._answered_nodes(answers, len(source))
        judged = super().judge(columns, answers)
        decisions = self.decisions(columns, "forward")
        right = (decisions == 0) | judged["correct"][np.arange(len(source)), decisions - 1]
        return {**judged, "decision": right, "valid_path": ways(edges, source, answered, sizes)}

    def _answered_nodes(self, answers: Sequence[Sequence[int]], n: int) -> tuple[np.ndarray, np.ndarray]:
        """The nodes of answers as (n, L), and how many there are, (n,)."""
        return padded_answers(answers, n, self.answer_length)

    def choices(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray | None:
        """Where the edges from the node before the decision lead to; None from the goal back."""
        if order != "forward":
            return None
        edges = np.asarray(columns["edges"])
        rows = np.arange(len(edges))
        right = self.answers(columns)[rows, self.decisions(columns, order) - 1]
        before = edges[rows, np.argmax(edges[:, :, 1] == right[:, None], axis=1), 0]
        return np.where(edges[:, :, 0] == before[:, None], edges[:, :, 1], -1)

    def clue(self, columns: Mapping[str, np.ndarray]) -> Clue:
        """The edge that leads to the goal, where the way back begins, among the edges."""
        edges = np.asarray(columns["edges"])
        to_goal = edges[:, :, 1] == np.asarray(columns["goal"])[:, None]
        return Clue("the edge to the goal", np.argmax(to_goal, axis=1) + 1, edges.shape[1])

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star:
        edges, path = [edge for edge in row["edges"] if edge[0] >= 0], [node for node in row["path"] if node >= 0]
        return Star(edges, row["source"], row["goal"], path, answer)

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the source, the set of its children and the set of the other nodes: not of the goal, nor of the arms.

        All graphs over the same nodes that begin alike, and all their goals, are in one split. So whatever is known of
        a graph but the whole way back from its goal leaves all first steps equally likely in train, too: who knows
        train by heart is at chance held out (SPLITS.md says what was tried).
        """
        edges, source = (np.asarray(columns[name]) for name in ("edges", "source"))
        first = (edges[:, :, 0] == source[:, None]).astype(np.uint64) << np.uint64(32)
        nodes = mix64(edges[:, :, 1].astype(np.uint64) | first).sum(axis=1, dtype=np.uint64)
        return nodes ^ mix64(source.astype(np.uint64))

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of (set of edges, source, goal): the order in which the edges are written does not count."""
        mixed = hash_edges(np.asarray(columns["edges"]))
        source, goal = (np.asarray(columns[name]).astype(np.uint64) for name in ("source", "goal"))
        return mix64(mixed ^ mix64((source << np.uint64(32) | goal) + np.uint64(1 << 62)))


def check_labels(num_nodes: int, num_edges: int, size: str, rule: str) -> None:
    """ValueError unless the largest graphs, whose nodes are counted by this rule, fit into labels and text."""
    if (needed := 1 + num_edges) > num_nodes:
        raise ValueError(
            f"{size} needs {rule} = {needed} different labels, but num_nodes={num_nodes}; give num_nodes >= {needed}."
        )
    if num_nodes > MAX_LABELS:
        raise ValueError(
            f"num_nodes={num_nodes} is too large; give num_nodes <= {MAX_LABELS:,}: each label is a token, "
            "and a row of the model's embedding."
        )
    # Of which one block of rows can be written as text; the query takes the place of one more.
    most = MAX_TEXT // (BLOCK_ROWS * 2 * len(f"{num_nodes - 1},")) - 1
    if num_edges > most:
        raise ValueError(f"{size} makes {num_edges:,} edges, above the {most:,} that fit into text.")


def ways(edges: np.ndarray, source: np.ndarray, nodes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) bool: the first `sizes` (n,) of `nodes` (n, L) lead along edges from the source to a leaf."""
    n, longest = nodes.shape
    steps = np.stack([nodes[:, :-1], nodes[:, 1:]], axis=-1)
    is_edge = (steps[:, :, None] == edges[:, None]).all(axis=-1).any(axis=-1)
    along = (is_edge | (np.arange(1, longest) >= sizes[:, None])).all(axis=1)
    last = nodes[np.arange(n), np.clip(sizes - 1, 0, longest - 1)]
    leaf = ~(edges[:, :, 0] == last[:, None]).any(axis=1) & (last >= 0)
    return (sizes > 0) & (sizes <= longest) & (nodes[:, 0] == source) & along & leaf


def other_ways(edges: np.ndarray, path: np.ndarray, turn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The path (n, L) up to its position `turn` (n,), there to another child, each equally likely, and on to its leaf.

    -1 behind the leaf; what is longer than L is cut off.
    """
    n, longest = path.shape
    rows, turn = np.arange(n), np.broadcast_to(turn, n)
    at, right = path[rows, turn - 1], path[rows, turn]
    first = (edges[:, :, 0] == at[:, None]) & (edges[:, :, 1] != right[:, None])  # wrong arms only
    chosen = edges[rows, np.argmax(np.where(first, rng.random(first.shape), -1.0), axis=1), 1].astype(np.int64)
    found = path.astype(np.int64)
    for k in range(1, longest):
        leads = edges[:, :, 0] == found[:, k - 1, None]
        child = np.where(leads.any(axis=1), edges[rows, leads.argmax(axis=1), 1], -1)
        found[:, k] = np.where(k < turn, found[:, k], np.where(k == turn, chosen, child))
    return found


def read_line(line: str, kind: str) -> tuple[list[tuple[int, int]], int, int, list[int] | None]:
    """The edges, source, goal and answer of `a,b|c,d|...|y,z/source,goal=answer`, the answer None where there is none.

    ValueError unless it has this form.
    """
    try:
        graph, query_path = line.split("/")
        query, path = query_path.split("=")
        edges = [tuple(map(label, edge.split(","))) for edge in graph.split("|")]
        source, goal = map(label, query.split(","))
        if any(len(edge) != 2 for edge in edges):
            raise ValueError("an edge has two nodes")
        return edges, source, goal, [label(node) for node in path.split(",")] if path else None
    except ValueError as error:
        form = "'a,b|c,d|...|y,z/source,goal=path', the path may be missing"
        raise ValueError(f"not a {kind} line: {shorten(line, 80)} ({error}); the form is {form}.") from error


def way_back(parent_of: Mapping[int, int], leaf: int, longest: int) -> list[int]:
    """The nodes from the first one to a leaf; one more than `longest` where the way back is longer, or a circle."""
    nodes = [leaf]
    while nodes[-1] in parent_of and len(nodes) <= longest:
        nodes.append(parent_of[nodes[-1]])
    return nodes[::-1]


def is_label(word: str) -> bool:
    """Whether a text is a label as it is written here."""
    return word.isascii() and word.isdigit() and len(word) < 10 and word == str(int(word))


def label(word: str) -> int:
    """A label as a number; ValueError for another text."""
    if not is_label(word):
        raise ValueError(f"{shorten(word, 80)} is not a node label")
    return int(word)
