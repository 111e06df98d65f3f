"""PathStar: find the way from the centre of a star of paths to one given leaf (arXiv 2403.06963).

In the order of use: the size of a graph, drawing graphs, text, judging answers, and reading a prompt of any size.
Shapes: n rows, D degree, L path_length, E = D * (L - 1) edges.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._graphs import MAX_LABELS, Graphs, check_labels, other_ways, read_line, way_back
from nt_failures.tasks._ranges import Size, bounds, check_sizes, draw, written
from nt_failures.tasks._sampling import distinct, in_random_order
from nt_failures.tasks._stars import star
from nt_failures.tasks.blocks import Columns, check_integers


@dataclasses.dataclass(frozen=True)
class PathStar(Graphs):
    """Path-star graph G(degree, path_length) with labels out of `num_nodes`.

    `degree` disjoint arms start at the source; the goal is the leaf of one of them. The directed edges are shown in
    random order. One line of text, for `PathStar(2, 5, 50)`, and its word-level tokens (commas carry none):

        prompt      32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=
        tokens      32 3 | 16 12 | 3 19 | 32 34 | 34 6 | 6 16 | 19 47 | 47 28 / 32 12 =
        completion  32,34,6,16,12
        position     1  2 3  4  5     2 is the decision, 5 a copy of the goal

    The centre has `degree` children; which of them is right shows only when the path is followed back from the goal.

    A range, such as `degree=(2, 10)`, lets each graph draw its own size, all equally likely. Paths that differ in
    length end with `.`, and the columns `edges` and `path` have -1 behind the end of a smaller graph.

    Args:
        degree: arms of the star, at least 1; or a range, both ends included.
        path_length: nodes of an arm, source and leaf included, at least 2; or a range.
        num_nodes: labels to draw from, 0..num_nodes-1; at least the 1 + degree * (path_length - 1) nodes of the largest
            graph.

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

    degree: Size = 2
    path_length: Size = 5
    num_nodes: int = 50

    VERSION = "2.0.0"
    CONFIGS = {
        # The sizes of the data released with arXiv 2403.06963, then larger ones on which later work compares.
        f"deg{d}-path{n}-nodes{labels}": {"degree": d, "path_length": n, "num_nodes": labels}
        for d, n, labels in [
            *((2, 2, 50), (2, 3, 10), (2, 3, 50), (2, 5, 50), (3, 3, 50)),
            *((5, 3, 50), (5, 5, 50), (10, 5, 50), (20, 5, 100)),
        ]
    } | {"mixed": {"degree": (2, 10), "path_length": (3, 8), "num_nodes": 100}}

    def __post_init__(self) -> None:
        check_sizes(self, degree=1, path_length=2)
        check_integers(self, num_nodes=2)
        size = f"degree={self.degree}, path_length={self.path_length}"
        check_labels(self.num_nodes, self.num_edges, size, "1 + degree * (path_length - 1)")

    @property
    def num_edges(self) -> int:
        """Edges of one graph, of the largest where they differ."""
        return bounds(self.degree)[1] * (self.answer_length - 1)

    @property
    def num_problems(self) -> int:
        """Different graphs and goals, whatever the order of the edges."""
        found = 0
        for degree, length in self._sizes():
            nodes = 1 + degree * (length - 1)
            found += math.perm(self.num_nodes, nodes) // math.factorial(degree) * degree
        return found

    def _sizes(self) -> list[tuple[int, int]]:
        """Every degree and path length that a graph may have."""
        return [
            *itertools.product(*(range(low, high + 1) for low, high in map(bounds, (self.degree, self.path_length))))
        ]

    @property
    def config_name(self) -> str:
        name = f"deg{written(self.degree, '_')}-path{written(self.path_length, '_')}-nodes{self.num_nodes}"
        return name if self.alike else self.named or name

    @property
    def answer_length(self) -> int:
        return bounds(self.path_length)[1]

    @property
    def alike(self) -> bool:
        return not self.lengths_differ and not isinstance(self.degree, tuple)

    @property
    def chance(self) -> float:
        """1 / degree; 1 for paths of two nodes, the source and the goal, which leave nothing to decide.

        The mean where sizes differ, of the graphs in which something is to be decided.
        """
        if self.alike:
            return 1 / self.degree if self.path_length > 2 else 1.0
        degrees = [degree for degree, length in self._sizes() if degree > 1 and length > 2]
        return sum(1 / degree for degree in degrees) / len(degrees) if degrees else 1.0

    @property
    def factors(self) -> dict[str, float]:
        sizes = {"node of the path": self.path_length, "arm": self.degree}
        alike = {name: size for name, size in sizes.items() if not isinstance(size, tuple)}
        return alike | {"doubling of the labels": math.log2(self.num_nodes)}

    def decision_position(self, order: str) -> int:
        """2 from the source on (`"forward"`); path_length - 1, one look-up, from the goal back (`"reversed"`).

        0 where it differs from row to row.
        """
        return 2 if order == "forward" else 0 if self.lengths_differ else max(self.path_length - 1, 1)

    def difficulty(self, columns: Mapping[str, np.ndarray]) -> Columns:
        from_source = np.asarray(columns["edges"])[:, :, 0] == np.asarray(columns["source"])[:, None]
        return {"degree": from_source.sum(axis=1), "path_length": self.lengths(columns)}

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """`decision_position`; where sizes differ, 0 for a graph with one arm or paths of two nodes."""
        if self.alike:
            return super().decisions(columns, order)
        degrees, lengths = self.difficulty(columns).values()
        return np.where((degrees > 1) & (lengths > 2), 2 if order == "forward" else lengths - 1, 0)

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        if self.alike:
            return super().guess(columns, order)
        degrees, lengths = self.difficulty(columns).values()
        return np.where(lengths > 2, 1 / degrees, 1.0)

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n graphs: `edges` (n, E, 2), `source` (n,), `goal` (n,), `path` (n, L), all int32.

        Labels are a uniform draw without replacement, so the first arm is as good as any for the goal's.
        """
        if not self.alike:
            return self._mixed(rng, n)
        nodes = distinct(rng, n, self.num_nodes, 1 + self.num_edges)  # one instance is a column
        parents = [0 if i % (self.path_length - 1) == 0 else i for i in range(self.num_edges)]  # of node i + 1
        edges = in_random_order(rng, nodes[parents], nodes[1:])
        return {
            "edges": edges,
            "source": nodes[0],
            "goal": nodes[self.path_length - 1],
            "path": np.ascontiguousarray(nodes[: self.path_length].T),
        }

    def _mixed(self, rng: np.random.Generator, n: int) -> Columns:
        degrees, lengths = draw(rng, self.degree, n), draw(rng, self.path_length, n)
        nodes = distinct(rng, n, self.num_nodes, 1 + self.num_edges)
        behind = np.where(np.arange(bounds(self.degree)[1])[:, None] < degrees, lengths - 1, 0)
        edges, path = star(rng, nodes, np.zeros_like(behind), behind)
        return {"edges": edges, "source": nodes[0], "goal": path[np.arange(n), lengths - 1], "path": path}

    def parse(self, text: str) -> dict[str, object]:
        """Read `edges/source,goal=` or the released data's `edges/source,goal=path`.

        Returns:
            `edges` (list of pairs), `source`, `goal`, and `path` (list, or None when the text ends with `=`).
            ValueError if it is no graph of this size, or the path in it is not the path to the goal.
        """
        line = self.line(text)
        row = self._read(line)
        return self.checked(line, row, path_to_goal(row))

    def _read(self, line: str) -> dict[str, object]:
        """A row as `parse` returns it: a star of this size, whatever its labels, and the path as it is written."""
        edges, source, goal, path = read_line(line, "path-star")
        parent_of = {child: parent for parent, child in edges}
        leaves = set(parent_of) - set(parent_of.values())
        length, arms = len(edges) // max(len(leaves), 1) + 1, []
        if len(edges) == len(parent_of) == len(leaves) * (length - 1) and (len(leaves), length) in self._sizes():
            arms = [way_back(parent_of, leaf, length) for leaf in leaves]
        apart = len({node for arm in arms for node in arm}) == 1 + len(edges)  # fewer where two arms share a node
        if not apart or any(len(arm) != length or arm[0] != source for arm in arms):
            raise ValueError(
                f"{shorten(line, 80)} is not a graph of {written(self.degree)} arms with {written(self.path_length)} "
                f"nodes each from source {source}; parse it with the PathStar(degree, path_length, num_nodes) it was "
                "made with."
            )
        if goal not in leaves:
            raise ValueError(f"goal {goal} in {shorten(line, 80)} is no leaf; the leaves are {sorted(leaves)}.")
        return {"edges": edges, "source": source, "goal": goal, "path": path}

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The path from the source to the leaf of a wrong arm, each wrong arm equally likely."""
        if self.degree == 1:
            raise ValueError("degree=1 has no wrong arm to follow; give degree >= 2.")
        return other_ways(np.asarray(columns["edges"]), np.asarray(columns["path"]), 1, rng)


def read_prompt(text: str) -> tuple[PathStar, dict[str, object]]:
    """A prompt of any size and labels: a task of its size, and its row with the path to the goal; else ValueError."""
    line = text.strip()
    edges = [edge.split(",") for edge in line.split("/")[0].split("|")]
    source = line.split("/")[-1].split(",")[0]
    degree = max(sum(edge[0] == source for edge in edges), 1)
    task = PathStar(degree, max(len(edges) // degree, 1) + 1, num_nodes=MAX_LABELS)
    row = task._read(line)  # not `parse`: judging does not depend on the number of labels
    if row["path"] is not None:
        raise ValueError(f"it holds the path already, {row['path']}; a prompt ends with '='.")
    return task, {**row, "path": path_to_goal(row)}


def path_to_goal(row: Mapping[str, object]) -> list[int]:
    """The path of a parsed row: from the goal back to the node without a parent, turned round."""
    return way_back({child: parent for parent, child in row["edges"]}, row["goal"], len(row["edges"]) + 1)
