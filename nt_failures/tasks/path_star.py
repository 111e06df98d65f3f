"""PathStar: find the way from the centre of a star of paths to one given leaf (arXiv 2403.06963).

In the order of use: the size of a graph, drawing graphs, text, judging answers, and reading a prompt of any size.
Shapes: n rows, D degree, L path_length, E = D * (L - 1) edges.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._sampling import distinct, shuffle
from nt_failures.tasks._text import MAX_TEXT, Text, join_numbers
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integer, check_integers
from nt_failures.tasks.facts import Clue, Star
from nt_failures.tasks.hashing import mix64
from nt_failures.tasks.judging import padded_answers

_MAX_LABELS = 2**20
"""Labels at most: each is a token of the vocabulary and a row of the embedding."""


@dataclasses.dataclass(frozen=True)
class PathStar(Task):
    """Path-star graph G(degree, path_length) with labels out of `num_nodes`.

    `degree` disjoint arms start at the source; the goal is the leaf of one of them. The directed edges are shown in
    random order. One line of text, for `PathStar(2, 5, 50)`, and its word-level tokens (commas carry none):

        prompt      32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=
        tokens      32 3 | 16 12 | 3 19 | 32 34 | 34 6 | 6 16 | 19 47 | 47 28 / 32 12 =
        completion  32,34,6,16,12
        position     1  2 3  4  5     2 is the decision, 5 a copy of the goal

    The centre has `degree` children; which of them is right shows only when the path is followed back from the goal.

    Args:
        degree: arms of the star, at least 1.
        path_length: nodes of an arm, source and leaf included, at least 2.
        num_nodes: labels to draw from, 0..num_nodes-1; at least the 1 + degree * (path_length - 1) nodes of a graph.

    Raises:
        ValueError: a parameter is no integer or out of range; the message states the rule and the repair.

    Example:
        >>> import numpy as np
        >>> from nt_failures import PathStar
        >>> task = PathStar(degree=2, path_length=3, num_nodes=10)
        >>> graphs = task.sample(np.random.default_rng(0), 2)
        >>> task.render(graphs)["prompt"].to_list()[0]
        '8,3|8,5|3,1|5,4/8,4='
        >>> task.answers(graphs).tolist()
        [[8, 5, 4], [6, 3, 2]]
        >>> task.judge(graphs, [[8, 5, 4], [6, 2, 3]])["exact"].tolist()
        [True, False]
    """

    degree: int = 2
    path_length: int = 5
    num_nodes: int = 50

    VERSION = "2.0.0"
    PROBLEM, ANSWER, DETOUR = "graph", "path", "wrong arm"
    answer_column = "path"
    one_answer = True

    def __post_init__(self) -> None:
        check_integers(self, degree=1, path_length=2, num_nodes=2)
        size = f"degree={self.degree}, path_length={self.path_length}"
        if self.nodes_used > self.num_nodes:
            raise ValueError(
                f"{size} needs 1 + degree * (path_length - 1) = {self.nodes_used} different labels, but num_nodes="
                f"{self.num_nodes}; give num_nodes >= {self.nodes_used}."
            )
        if self.num_nodes > _MAX_LABELS:
            raise ValueError(
                f"num_nodes={self.num_nodes} is too large; give num_nodes <= {_MAX_LABELS:,}: each label is a token, "
                "and a row of the model's embedding."
            )
        # Of which one block of rows can be written as text; the query takes the place of one more.
        most = MAX_TEXT // (BLOCK_ROWS * 2 * len(f"{self.num_nodes - 1},")) - 1
        if self.num_edges > most:
            raise ValueError(f"{size} makes {self.num_edges:,} edges, above the {most:,} that fit into text.")

    @property
    def nodes_used(self) -> int:
        """Nodes of one graph."""
        return 1 + self.num_edges

    @property
    def num_edges(self) -> int:
        """Edges of one graph."""
        return self.degree * (self.path_length - 1)

    @property
    def num_problems(self) -> int:
        """Different graphs and goals, whatever the order of the edges."""
        return math.perm(self.num_nodes, self.nodes_used) // math.factorial(self.degree) * self.degree

    @property
    def config_name(self) -> str:
        return f"deg{self.degree}-path{self.path_length}-nodes{self.num_nodes}"

    @property
    def symbols(self) -> list[str]:
        return [*map(str, range(self.num_nodes)), "|", "=", "/", self.DUMMY]

    @property
    def answer_length(self) -> int:
        return self.path_length

    @property
    def chance(self) -> float:
        """1 / degree; 1 for paths of two nodes, the source and the goal, which leave nothing to decide."""
        return 1 / self.degree if self.path_length > 2 else 1.0

    @property
    def factors(self) -> dict[str, float]:
        doublings = math.log2(self.num_nodes)
        return {"node of the path": self.path_length, "arm": self.degree, "doubling of the labels": doublings}

    def decision_position(self, order: str) -> int:
        """2 from the source on (`"forward"`); path_length - 1, one look-up, from the goal back (`"reversed"`)."""
        return 2 if order == "forward" else max(self.path_length - 1, 1)

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n graphs: `edges` (n, E, 2), `source` (n,), `goal` (n,), `path` (n, L), all int32.

        Labels are a uniform draw without replacement, so the first arm is as good as any for the goal's.
        """
        check_integer("n", n)
        nodes = distinct(rng, n, self.num_nodes, self.nodes_used)  # (nodes_used, n): one instance is a column
        parents = [0 if i % (self.path_length - 1) == 0 else i for i in range(self.num_edges)]  # of node i + 1
        places = np.repeat(np.arange(self.num_edges)[:, None], n, axis=1)
        shuffle(rng, places)  # which edge is shown where
        edges = np.stack([nodes[parents], nodes[1:]], axis=-1)  # (E, n, 2)
        edges = np.take_along_axis(edges, places[:, :, None], axis=0).transpose(1, 0, 2)
        return {
            "edges": np.ascontiguousarray(edges),
            "source": nodes[0],
            "goal": nodes[self.path_length - 1],
            "path": np.ascontiguousarray(nodes[: self.path_length].T),
        }

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        edges, path = np.asarray(columns["edges"]), np.asarray(columns["path"])
        query = np.stack([columns["source"], columns["goal"]], axis=-1)
        nodes = np.concatenate([edges.reshape(len(path), 2 * self.num_edges), query], axis=1)
        return {
            "prompt": join_numbers(nodes, (",|" * self.num_edges)[:-1] + "/,="),
            "completion": join_numbers(path, "," * (self.path_length - 1)),
        }

    def parse(self, text: str) -> dict[str, object]:
        """Read `edges/source,goal=` or the released data's `edges/source,goal=path`.

        Returns:
            `edges` (list of pairs), `source`, `goal`, and `path` (list, or None when the text ends with `=`).
            ValueError if it is no graph of this size, or the path in it is not the path to the goal.
        """
        line = text.strip()
        row = self._read(line)
        if (label := max(map(max, row["edges"]))) >= self.num_nodes:
            raise ValueError(f"label {label} in {shorten(line, 80)} is not below num_nodes={self.num_nodes}.")
        true_path = path_to_goal(row)
        if row["path"] not in (None, true_path):
            raise ValueError(f"the path {row['path']} in {shorten(line, 80)} is not the path to the goal, {true_path}.")
        return row

    def _read(self, line: str) -> dict[str, object]:
        """A row as `parse` returns it: a star of this size, whatever its labels, and the path as it is written."""
        try:
            graph, query_path = line.split("/")
            query, path = query_path.split("=")
            edges = [tuple(map(_label, edge.split(","))) for edge in graph.split("|")]
            source, goal = map(_label, query.split(","))
            path = [_label(node) for node in path.split(",")] if path else None
            parent_of = {child: parent for parent, child in edges}
        except ValueError as error:
            form = "'a,b|c,d|...|y,z/source,goal=path', the path may be missing"
            raise ValueError(f"not a path-star line: {shorten(line, 80)} ({error}); the form is {form}.") from error
        leaves = set(parent_of) - set(parent_of.values())
        arms = []
        if len(edges) == len(parent_of) == self.num_edges and len(leaves) == self.degree:  # else they could be many
            arms = [_arm(parent_of, leaf, self.path_length) for leaf in leaves]
        apart = len({node for arm in arms for node in arm}) == self.nodes_used  # fewer where two arms share a node
        if not apart or any(len(arm) != self.path_length or arm[0] != source for arm in arms):
            raise ValueError(
                f"{shorten(line, 80)} is not a graph of {self.degree} arms with {self.path_length} nodes each from "
                f"source {source}; parse it with the PathStar(degree, path_length, num_nodes) it was made with."
            )
        if goal not in leaves:
            raise ValueError(f"goal {goal} in {shorten(line, 80)} is no leaf; the leaves are {sorted(leaves)}.")
        return {"edges": edges, "source": source, "goal": goal, "path": path}

    def read_answer(self, text: str) -> list[int]:
        """Labels as numbers, whatever `num_nodes`; a number with a leading zero is none."""
        return [int(word) if _is_label(word) else -1 for word in text.replace(",", " ").split()]

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """Score answers, given as node labels (-1 for anything else); ValueError for an answer that is no list of them.

        Returns:
            As in `Task.judge`, and `decision` (n,): right at position 2; `valid_path` (n,): the answer is a path from
            the source to a leaf, the right one or a wrong one.
        """
        path, edges = np.asarray(columns["path"]), np.asarray(columns["edges"])
        answered, sizes = padded_answers(answers, len(path), self.path_length)
        steps = np.stack([answered[:, :-1], answered[:, 1:]], axis=-1)
        is_edge = (steps[:, :, None] == edges[:, None]).all(axis=-1).any(axis=-1).all(axis=-1)
        whole = (sizes == self.path_length) & (answered[:, 0] == np.asarray(columns["source"])) & is_edge
        judged = super().judge(columns, answers)
        return {**judged, "decision": judged["correct"][:, 1], "valid_path": whole}

    def clue(self, columns: Mapping[str, np.ndarray]) -> Clue:
        """The edge that leads to the goal, where the way back begins, among the edges."""
        to_goal = np.asarray(columns["edges"])[:, :, 1] == np.asarray(columns["goal"])[:, None]
        return Clue("the edge to the goal", np.argmax(to_goal, axis=1) + 1, self.num_edges)

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The path from the source to the leaf of a wrong arm, each wrong arm equally likely."""
        if self.degree < 2:
            raise ValueError("degree=1 has no wrong arm to follow; give degree >= 2.")
        edges, path = np.asarray(columns["edges"]), np.asarray(columns["path"])
        rows = np.arange(len(path))
        child = np.full((len(path), self.num_nodes), -1, dtype=np.int64)
        np.put_along_axis(child, edges[:, :, 0].astype(np.int64), edges[:, :, 1], axis=1)
        first = (edges[:, :, 0] == path[:, :1]) & (edges[:, :, 1] != path[:, 1:2])  # out of the source, wrong arms only
        chosen = np.argmax(np.where(first, rng.random(first.shape), -1.0), axis=1)
        steps = [path[:, 0].astype(np.int64), edges[rows, chosen, 1].astype(np.int64)]
        for _ in range(self.path_length - 2):
            steps.append(child[rows, steps[-1]])
        return np.stack(steps, axis=1)

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star:
        return Star(row["edges"], row["source"], row["goal"], row["path"], answer)

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the source, the set of its children and the set of the other nodes: not of the goal, nor of the arms.

        All stars over the same nodes that begin alike, and all their goals, are in one split. So whatever is known of a
        graph but the whole way back from its goal leaves all first steps equally likely in train, too: who knows train
        by heart is at chance held out (README.md beside this file says what was tried).
        """
        edges, source = (np.asarray(columns[name]).astype(np.uint64) for name in ("edges", "source"))
        first = edges[:, :, 0] == source[:, None]
        nodes = mix64(edges[:, :, 1] | (first.astype(np.uint64) << np.uint64(32))).sum(axis=1, dtype=np.uint64)
        return nodes ^ mix64(source)

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of (set of edges, source, goal): the order in which the edges are written does not count."""
        edges = np.asarray(columns["edges"]).astype(np.uint64)
        mixed = mix64((edges[..., 0] << np.uint64(32)) | edges[..., 1]).sum(axis=1, dtype=np.uint64)
        source, goal = (np.asarray(columns[name]).astype(np.uint64) for name in ("source", "goal"))
        return mix64(mixed ^ mix64((source << np.uint64(32) | goal) + np.uint64(1 << 62)))


def read_prompt(text: str) -> tuple[PathStar, dict[str, object]]:
    """A prompt of any size and labels: a task of its size, and its row with the path to the goal; else ValueError."""
    line = text.strip()
    edges = [edge.split(",") for edge in line.split("/")[0].split("|")]
    source = line.split("/")[-1].split(",")[0]
    degree = max(sum(edge[0] == source for edge in edges), 1)
    task = PathStar(degree, max(len(edges) // degree, 1) + 1, num_nodes=_MAX_LABELS)
    row = task._read(line)  # not `parse`: judging does not depend on the number of labels
    if row["path"] is not None:
        raise ValueError(f"it holds the path already, {row['path']}; a prompt ends with '='.")
    return task, {**row, "path": path_to_goal(row)}


def path_to_goal(row: Mapping[str, object]) -> list[int]:
    """The path of a parsed row: from the goal back to the node without a parent, turned round."""
    return _arm({child: parent for parent, child in row["edges"]}, row["goal"], len(row["edges"]) + 1)


def _arm(parent_of: Mapping[int, int], leaf: int, longest: int) -> list[int]:
    """The nodes from the centre to a leaf; one more than `longest` where the way back is longer, or a circle."""
    nodes = [leaf]
    while nodes[-1] in parent_of and len(nodes) <= longest:
        nodes.append(parent_of[nodes[-1]])
    return nodes[::-1]


def _is_label(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10 and word == str(int(word))


def _label(word: str) -> int:
    if not _is_label(word):
        raise ValueError(f"{shorten(word, 80)} is not a node label")
    return int(word)
