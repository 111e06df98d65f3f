"""TreeStar: a star whose arms branch at every node: find the way from the centre to one given leaf (arXiv 2503.10542).

The definition is second-hand: the paper's own sizes, degree 2 to 5 and paths of 5 to 7 nodes, and that every node of an
arm branches, are taken from an account of it.
Shapes: n rows, E edges, L path_length.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._graphs import Graphs, check_labels, read_line, way_back
from nt_failures.tasks._sampling import distinct, in_random_order
from nt_failures.tasks.blocks import Columns, check_integers
from nt_failures.tasks.facts import Star

DRAWN = 20
"""Leaves of a tree that is drawn whole: more of them do not fit a page."""


@dataclasses.dataclass(frozen=True)
class TreeStar(Graphs):
    """A tree: the source has `degree` children, every other node but the leaves has `branching`. The goal is a leaf.

    The directed edges are shown in random order. For `TreeStar(2, 2, 3, 10)`, the tree 5 > (0 > (2, 7), 9 > (1, 4)):

        prompt      9,4|5,0|0,2|5,9|9,1|0,7/5,1=
        tokens      9 4 | 5 0 | 0 2 | 5 9 | 9 1 | 0 7 / 5 1 =
        completion  5,9,1
        position    1 2 3        2 is the first decision, 3 a copy of the goal

    On longer paths **every position from 2 to path_length - 1 is a decision**, each with a shorter way back to plan
    than the one before it: one of `degree` nodes at position 2 (chance 1 / degree), then one of `branching`. No
    position is a look-up of the node before it, so the Clever Hans cheat of path-star graphs, whose arms do not branch,
    has nothing to live on. From the goal back (`"reversed"`) all is looked up, and nothing decided.

    What the diagnosis measures: its decision is the first one, at position 2. The later ones are positions like any
    other, right in 1 / branching of the rows for who guesses there, so who guesses everywhere is undertrained, and who
    guesses the first one alone stands before an indecipherable token. No wrong start goes on consistently, as each of
    its nodes leaves a choice: there are no detours, and no cheat is measured.

    The configs are ours: degrees and path lengths of the range that is said of the source, in 100 or 200 labels, and a
    small one, `deg2-branch2-path3-nodes50`.

    Args:
        degree: children of the source, at least 2.
        branching: children of every other node that has some, at least 2: with one, it is a path-star graph.
        path_length: nodes of a path, source and leaf included, at least 3.
        num_nodes: labels to draw from; at least 1 + degree * (1 + branching + ... + branching ** (path_length - 2)).

    Example:
        >>> from nt_failures.tasks import find_task
        >>> task = find_task("tree_star")(degree=2, branching=2, path_length=3, num_nodes=10)
        >>> rows = task.block(seed=0, split="train", index=0, rows=1)
        >>> task.texts(rows)["prompt"].to_list() + task.texts(rows)["completion"].to_list()
        ['2,1|8,6|6,9|8,2|2,0|6,4/8,1=', '8,2,1']
    """

    degree: int = 2
    branching: int = 2
    path_length: int = 5
    num_nodes: int = 100

    citation = "arXiv 2503.10542, by an account of it; the sizes are ours"
    CONFIGS = {
        f"deg{degree}-branch2-path{length}-nodes{nodes}": {"degree": degree, "path_length": length, "num_nodes": nodes}
        for degree, length, nodes in ((2, 3, 50), (2, 5, 100), (3, 5, 100), (5, 5, 100), (2, 7, 200))
    }

    def __post_init__(self) -> None:
        check_integers(self, degree=2, branching=2, path_length=3, num_nodes=2)
        size = f"degree={self.degree}, branching={self.branching}, path_length={self.path_length}"
        if max(self.degree, self.branching, self.path_length) > self.num_nodes:  # before it is raised to a power
            raise ValueError(f"{size} does not fit num_nodes={self.num_nodes} labels; give more, or a smaller tree.")
        rule = "1 + degree * (1 + branching + ... + branching ** (path_length - 2))"
        check_labels(self.num_nodes, self.num_edges, size, rule)

    @property
    def num_edges(self) -> int:
        """Edges of a tree, one to every node but the source."""
        return self.degree * sum(self.branching**k for k in range(self.path_length - 1))

    @property
    def num_problems(self) -> int:
        """Different trees and goals, whatever the order of the edges."""
        leaves = self.degree * self.branching ** (self.path_length - 2)
        inner = self.degree * sum(self.branching**k for k in range(self.path_length - 2))
        alike = math.factorial(self.degree) * math.factorial(self.branching) ** inner
        return math.perm(self.num_nodes, 1 + self.num_edges) // alike * leaves

    @property
    def config_name(self) -> str:
        return f"deg{self.degree}-branch{self.branching}-path{self.path_length}-nodes{self.num_nodes}"

    @property
    def answer_length(self) -> int:
        return self.path_length

    @property
    def chance(self) -> float:
        """1 / degree, at the first decision."""
        return 1 / self.degree

    def decision_position(self, order: str) -> int:
        """2, the first of the decisions; 0 from the goal back, where each node has one parent."""
        return 2 if order == "forward" else 0

    def _parents(self) -> list[int]:
        """Of the nodes 1, 2, ..., which are numbered level by level, the source being node 0."""
        inner = 1 + self.num_edges - self.degree * self.branching ** (self.path_length - 2)
        return [0] * self.degree + [node for node in range(1, inner) for _ in range(self.branching)]

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n trees: `edges` (n, E, 2), `source` (n,), `goal` (n,), `path` (n, L), all int32.

        Labels are a uniform draw without replacement, so the last leaf is as good as any for the goal.
        """
        nodes, parents = distinct(rng, n, self.num_nodes, 1 + self.num_edges), self._parents()
        edges = in_random_order(rng, nodes[parents], nodes[1:])
        way = way_back(dict(enumerate(parents, start=1)), self.num_edges, self.path_length)
        path = np.ascontiguousarray(nodes[way].T)
        return {"edges": edges, "source": nodes[0], "goal": nodes[-1], "path": path}

    def parse(self, text: str) -> dict[str, object]:
        """Read `edges/source,goal=` or `edges/source,goal=path` back: `edges`, `source`, `goal`, and `path` or None.

        ValueError if it is no tree of this size, or the path in it is not the path to the goal.
        """
        line = text.strip()
        edges, source, goal, path = read_line(line, "tree")
        parent_of = {child: parent for parent, child in edges}
        ways: list[list[int]] = []
        if len(edges) == len(parent_of) == self.num_edges:
            ways = [way_back(parent_of, leaf, self.path_length) for leaf in set(parent_of) - set(parent_of.values())]
        children = Counter(parent for parent, _ in edges if parent != source)
        branches = set(children.values()) == {self.branching}
        if not ways or not branches or any(len(way) != self.path_length or way[0] != source for way in ways):
            raise ValueError(
                f"{shorten(line, 80)} is not a tree of {self.degree} arms that branch in {self.branching}, with "
                f"{self.path_length} nodes to a path from {source}; parse it with the TreeStar that it was made with."
            )
        true_path = next((way for way in ways if way[-1] == goal), None)
        if true_path is None:
            raise ValueError(f"goal {goal} in {shorten(line, 80)} is no leaf.")
        return self.checked(line, {"edges": edges, "source": source, "goal": goal, "path": path}, true_path)

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star:
        """As `Task.picture`; of a large tree the ways to the nodes of path and answer, and what branches off them."""
        star = super().picture(row, answer)
        parent_of = {child: parent for parent, child in star.edges}
        inner = set(parent_of.values())
        if len(set(parent_of) - inner) <= DRAWN:
            return star
        ends = {*star.path, *answer} & {star.source, *parent_of}
        ways = {node for end in ends for node in way_back(parent_of, end, self.path_length)}
        edges = [(parent, child) for parent, child in star.edges if parent in ways]
        return dataclasses.replace(star, edges=edges, cut=inner & {child for _, child in edges} - ways)
