"""UnequalStar: a star whose arms differ in length and go on through the centre: find the way from a start to its leaf.

After arXiv 2505.05755 (section on star graphs) and its released generator; what is ours is said below.
Shapes: n rows, D arms, E edges and L nodes of the largest graph, -1 behind the end of a smaller one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import check_choice, shorten
from nt_failures.tasks._graphs import Graphs, check_labels, other_ways, read_line
from nt_failures.tasks._ranges import Size, bounds, check_sizes, draw, written
from nt_failures.tasks._sampling import distinct
from nt_failures.tasks._stars import joined, star, way_through
from nt_failures.tasks.blocks import Columns, check_integers
from nt_failures.tasks.facts import Star
from nt_failures.tasks.hashing import mix64
from nt_failures.tasks.judging import padded_answers

FORMS = ("nodes", "edges")


@dataclasses.dataclass(frozen=True)
class UnequalStar(Graphs):
    """Star of `degree` arms that cross in one centre, each with a length and a crossing of its own.

    An arm is a line of nodes; the centre is one of them, with a stem before it and at least `behind` nodes after it.
    The source is the first node of one arm, the goal its last. Edges are shown in random order. For
    `UnequalStar(2, (4, 5), 2, 10)`, whose arms here are 7>3>0>8>5, through 3, and 1>3>6>4:

        prompt      6,4|3,0|7,3|8,5|0,8|1,3|3,6/7,5=
        tokens      6 4 | 3 0 | 7 3 | 8 5 | 0 8 | 1 3 | 3 6 / 7 5 =
        completion  7,3,0,8,5 .
        position    1 2 3 4 5            3, behind the centre, is the decision here; 5 a copy of the goal
        as edges    7,3,3,0,0,8,8,5 .    4, the head of the second edge, is the decision

    Up to the centre the way is a look-up, at the centre one of `degree` nodes must be chosen, chance is 1 / degree, and
    behind it all are look-ups again; where the centre stands differs from row to row, and so does the answer's length.
    Backwards, the decision is at the last node of the stem, among the nodes that lead to the centre; there is none
    where the stem is the source alone, or the only one. A wrong start for the forward order is no detour for it.

    The configs are the source's: `easy` has its source at the centre and arms of one length, `medium` and `hard` are
    as described, and `mixed` is ours. Ours are also the text (the source shows no `|`), `.` at the end, the answer as
    nodes (the source writes edges), ranges of `degree`, and splits that share no graph. As in the source, a long stem
    goes with a short rest, so who measures every arm beats chance without a look at the goal: 42 % on `medium`, 28 % on
    `hard`, by calculation. Backwards, a node that leads to the centre and has no parent is not of our path where there
    is something to decide; who looks that up, and guesses among the rest, has 73 % on `medium`, 45 % on `hard`, 48 % on
    `mixed`, where 1 over the nodes that lead to the centre, the chance given here, is 45, 30 and 37 %.

    Args:
        degree: arms, at least 2; or a range, both ends included.
        path_length: nodes of an arm, stem, centre and leaf included; or a range from which each arm draws its own.
        behind: nodes behind the centre at least, 2 or more: else the goal could be seen beside the centre.
        num_nodes: labels to draw from; at least 1 + degree * (path_length - 1) of the largest graph.
        form: the answer as its `"nodes"`, or as its `"edges"`, one after the other.

    Example:
        >>> from nt_failures.tasks import find_task
        >>> task = find_task("unequal_star")(degree=2, path_length=(4, 5), behind=2, num_nodes=10)
        >>> rows = task.block(seed=0, split="train", index=0, rows=1)
        >>> task.texts(rows)["prompt"].to_list() + task.texts(rows)["completion"].to_list()
        ['2,1|1,9|4,8|0,5|6,2|1,0|9,4|7,1/6,5=', '6,2,1,0,5 .']
    """

    degree: Size = 3
    path_length: Size = (3, 6)
    behind: int = 2
    num_nodes: int = 20
    form: str = "nodes"

    citation = "arXiv 2505.05755 and its released generator; the text and the splits are ours"
    CONFIGS = {
        "easy": {"degree": 3, "path_length": 5, "behind": 4, "num_nodes": 20},
        "medium": {"degree": 3, "path_length": (3, 6), "behind": 2, "num_nodes": 20},
        "hard": {"degree": 5, "path_length": (6, 12), "behind": 5, "num_nodes": 56},
        "mixed": {"degree": (2, 5), "path_length": (3, 12), "behind": 2, "num_nodes": 56},
    }

    def __post_init__(self) -> None:
        check_sizes(self, degree=2, path_length=3)
        check_integers(self, behind=2, num_nodes=2)
        size = f"degree={self.degree}, path_length={self.path_length}"
        if self.behind >= bounds(self.path_length)[0]:
            raise ValueError(
                f"behind={self.behind} leaves no node for the centre of arms of {bounds(self.path_length)[0]} nodes; "
                f"give behind <= {bounds(self.path_length)[0] - 1}, or longer arms."
            )
        check_choice("form", self.form, FORMS)
        check_labels(self.num_nodes, self.num_edges, size, "1 + degree * (path_length - 1)")

    @property
    def num_edges(self) -> int:
        """Edges of the largest graph."""
        return bounds(self.degree)[1] * (bounds(self.path_length)[1] - 1)

    @property
    def config_name(self) -> str:
        degree, length = written(self.degree, "_"), written(self.path_length, "_")
        name = f"deg{degree}-path{length}-behind{self.behind}-nodes{self.num_nodes}"
        return self.named or name + (f"-{self.form}" if self.form != "nodes" else "")

    @property
    def answer_length(self) -> int:
        longest = bounds(self.path_length)[1]
        return longest if self.form == "nodes" else 2 * (longest - 1)

    @property
    def asked(self) -> str:
        return Graphs.asked if self.form == "nodes" else "all edges, each as from,to,"

    @property
    def chance(self) -> float:
        """1 / degree, the mean where it differs."""
        low, high = bounds(self.degree)
        return sum(1 / degree for degree in range(low, high + 1)) / (high + 1 - low)

    def difficulty(self, columns: Mapping[str, np.ndarray]) -> Columns:
        at_centre = np.asarray(columns["edges"])[:, :, 0] == self.centre(columns)[:, None]
        return {"degree": at_centre.sum(axis=1), "path_length": (self.nodes(columns) >= 0).sum(axis=1)}

    def centre(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) the node with several children."""
        tails = np.sort(np.asarray(columns["edges"])[:, :, 0], axis=1)
        twice = (tails[:, 1:] == tails[:, :-1]) & (tails[:, 1:] >= 0)
        return tails[np.arange(len(tails)), np.argmax(twice, axis=1)]

    def nodes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, L) the nodes of the path, whatever the form of the answer."""
        path = np.asarray(columns["path"])
        return path if self.form == "nodes" else np.concatenate([path[:, :1], path[:, 1::2]], axis=1)

    def _written(self, nodes: np.ndarray) -> np.ndarray:
        """Nodes (n, L) in the form of an answer."""
        if self.form == "nodes":
            return nodes
        edges = np.stack([nodes[:, :-1], nodes[:, 1:]], axis=-1)
        written = np.where(edges[:, :, 1:] >= 0, edges, -1).astype(nodes.dtype)
        return written.reshape(len(nodes), 2 * edges.shape[1])

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """Behind the centre; backwards before it, 0 where there is nothing to decide."""
        stem = self._stem(columns)
        if order == "forward":
            return stem + 2 if self.form == "nodes" else 2 * stem + 2
        return np.where((stem > 1) & (self._stems(columns) > 1), stem if self.form == "nodes" else 2 * stem - 1, 0)

    def _stem(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) how many nodes the path has before the centre."""
        return np.argmax(self.nodes(columns) == self.centre(columns)[:, None], axis=1)

    def _stems(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) how many nodes lead to the centre."""
        return (np.asarray(columns["edges"])[:, :, 1] == self.centre(columns)[:, None]).sum(axis=1)

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        ways = self.difficulty(columns)["degree"] if order == "forward" else self._stems(columns)
        return 1 / np.maximum(ways, 1)

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n graphs: `edges` (n, E, 2), `source` (n,), `goal` (n,), `path` (n, answer_length), all int32.

        Degrees, lengths and crossings are uniform, as in the source; labels a uniform draw without replacement.
        """
        most, degrees = bounds(self.degree)[1], draw(rng, self.degree, n)
        lengths = draw(rng, self.path_length, (most, n))
        stems = rng.integers(0, lengths - self.behind)
        exists = np.arange(most)[:, None] < degrees
        nodes = distinct(rng, n, self.num_nodes, 1 + self.num_edges)
        edges, path = star(rng, nodes, np.where(exists, stems, 0), np.where(exists, lengths - 1 - stems, 0))
        goal = path[np.arange(n), lengths[0] - 1]
        return {"edges": edges, "source": path[:, 0].copy(), "goal": goal, "path": self._written(path)}

    def _answered_nodes(self, answers: Sequence[Sequence[int]], n: int) -> tuple[np.ndarray, np.ndarray]:
        answered, sizes = padded_answers(answers, n, self.answer_length)
        if self.form == "nodes":
            return answered, sizes
        joined = (answered[:, 2::2] == answered[:, 1:-1:2]) | (np.arange(2, self.answer_length, 2) >= sizes[:, None])
        whole = joined.all(axis=1) & (sizes % 2 == 0)
        return self.nodes({"path": answered}), np.where(whole, sizes // 2 + 1, 0)

    def parse(self, text: str) -> dict[str, object]:
        """Read `edges/source,goal=` or `edges/source,goal=path` back: `edges`, `source`, `goal`, and `path` or None.

        Which stem belongs to which arm does not show, so the lengths of the arms beside the path are only bounded.
        ValueError if it is no graph of this size, or the path in it is not the path to the goal.
        """
        line = self.line(text)
        edges, source, goal, path = read_line(line, "star")
        way = way_through(edges, source, goal, bounds(self.degree), bounds(self.path_length), self.behind)
        if way is None:
            raise ValueError(
                f"{shorten(line, 80)} is not a star of {written(self.degree)} arms with "
                f"{written(self.path_length)} nodes each, {self.behind} or more of them behind a centre, with a way "
                f"from {source} to {goal}; parse it with the UnequalStar that it was made with."
            )
        right = [node for node in self._written(np.array([way]))[0].tolist() if node >= 0]
        return self.checked(line, {"edges": edges, "source": source, "goal": goal, "path": path}, right)

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The way to the centre, and on to the leaf of a wrong arm, each equally likely; cut where it is too long."""
        nodes, turn = self.nodes(columns), self._stem(columns) + 1
        return self._written(other_ways(np.asarray(columns["edges"]), nodes, turn, rng))

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star:
        """As `Task.picture`; edges that hang together are drawn as their nodes."""
        star = super().picture(row, answer)
        if self.form == "edges":
            right = list(answer) == list(star.path)
            star = dataclasses.replace(star, path=joined(star.path), answer=joined(answer), right=right)
        return star

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the centre, the set of its children and the set of all nodes.

        As in path-star graphs, all that begins alike at the centre is in one split, whatever is joined to what, and
        wherever the source and the goal are: nothing but the whole way back tells which child is right.
        """
        edges, centre = np.asarray(columns["edges"]), self.centre(columns)
        first = (edges[:, :, 0] == centre[:, None]).astype(np.uint64)
        nodes = np.sort(edges.reshape(len(edges), 2 * self.num_edges), axis=1)
        once = np.concatenate([np.ones((len(nodes), 1), bool), nodes[:, 1:] != nodes[:, :-1]], axis=1)
        every = (mix64(nodes.astype(np.uint64)) * once).sum(axis=1, dtype=np.uint64)
        children = (mix64(edges[:, :, 1].astype(np.uint64) | np.uint64(1 << 32)) * first).sum(axis=1, dtype=np.uint64)
        return every ^ mix64(children) ^ mix64(mix64(centre.astype(np.uint64)))
