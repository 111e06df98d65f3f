"""InWeightsStar: one star of paths that no prompt shows: learn its edges by heart, then find the way to a new leaf.

After arXiv 2510.26745 and its released code; what is ours is said below.
In the order of use: the size, the star, drawing rows, what is decided, text, splits.
Shapes: n rows, D arms, L path_length, N nodes.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._graphs import MAX_LABELS, Graphs, is_label
from nt_failures.tasks._text import MAX_TEXT, Text, join_numbers
from nt_failures.tasks.base import END, Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integers
from nt_failures.tasks.facts import Star

_LINE = re.compile(r"([0-9]+)([-=])((?:[0-9]+(?:,[0-9]+)*)?)((?: \.)*)")
_SHOWN_ARMS = 8
"""Arms in a picture."""


@dataclasses.dataclass(frozen=True)
class InWeightsStar(Task):
    """One star of `degree` arms, a constant of the task: a prompt is a leaf, and the answer is the path to it.

    Two kinds of lines of text, for a star whose source is 2 and one of whose arms is 2, 14, 3, 16, 10, and tokens:

        an edge     3-        16 . . . . .          tokens  3 -  |  16 . . . . .
        a path      10=       2,14,3,16,10 .        tokens 10 =  |  2 14 3 16 10 .
        position              1 2  3 4  5           2 is the decision, 5 a copy of the leaf

    **Training** draws from all edges, each in both directions, and from the paths of three quarters of the leaves, each
    line equally likely: for L = 5, 91 % are edges. A node that has several neighbours has as many right edges, of which
    a line of train has one; edges are never asked for. **Held out** are the paths of the other leaves. Their edges are
    known, so all is a look-up in the weights but the first node behind the source: from the leaf alone it is the end of
    L - 2 look-ups, all at once. It looks like the decision of path-star graphs, and next-token training should fail.

    It does not, says the source: Transformers and Mamba get held-out paths right, on stars of up to 50,000 nodes, so
    they must hold more than edges, such as a geometry of the star. That is second-hand, from an account of the paper. A
    small GPT-2 of ours learnt the first node, too (examples/recipes/tasks).

    **Chance.** Who knows train by heart, and cannot plan, sees which arms are taken, and guesses among the others:
    1 / (held-out leaves), 4 % of 100 arms. From the leaf on (`reversed`) all is a look-up, and nothing decided.

    The source's code has these edges and paths, both trained on at once or one behind the other, a token in front that
    says which (`[EDGE]`, `[PATH]`), and one pause token behind a leaf. Ours are `-` and `=` in place of all three, `.`
    behind an answer, and a validation split: the held-out quarter is halved, where the source tests on all of it.
    There are no more problems than leaves, so rows repeat, and every n counts different leaves: 13 in the test split of
    100 arms, of which a guess cannot be told from chance.

    Args:
        degree: arms, at least 8, so that each split has a leaf.
        path_length: nodes of an arm, source and leaf included, at least 3.
        graph_seed: which star: its 1 + degree * (path_length - 1) labels in another order.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import InWeightsStar
        >>> task = InWeightsStar(degree=8, path_length=3)
        >>> rows = task.train_sample(np.random.default_rng(0), 2)
        >>> [task.texts(rows)[name].to_list() for name in ("prompt", "completion")]
        [['8-', '9='], ['14 . . .', '2,6,9 .']]
    """

    degree: int = 100
    path_length: int = 5
    graph_seed: int = 0

    in_weights = True
    citation = "arXiv 2510.26745 and its released code; the text and the validation split are ours"
    PROBLEM, ANSWER, DETOUR = "goal", "path", "wrong arm"
    CONFIGS = {
        f"deg{degree}-path{length}": {"degree": degree, "path_length": length}
        for degree, length in ((100, 5), (5000, 5), (10_000, 6))
    }
    read_answer = Graphs.read_answer

    def __post_init__(self) -> None:
        check_integers(self, degree=8, path_length=3, graph_seed=0)
        size, nodes = f"degree={self.degree}, path_length={self.path_length}", self.num_nodes
        if nodes > MAX_LABELS:
            raise ValueError(
                f"{size} makes {nodes:,} nodes, above {MAX_LABELS:,}; give fewer or shorter arms: each node is a "
                "token, and a row of the model's embedding."
            )
        most = MAX_TEXT // (BLOCK_ROWS * len(f"{nodes},")) - 1  # of which one block of rows can be written as text
        if self.path_length > most:
            raise ValueError(f"{size} is too long; give path_length <= {most:,}, which fit into text.")

    @property
    def num_nodes(self) -> int:
        """Nodes of the star, and labels."""
        return 1 + self.degree * (self.path_length - 1)

    @property
    def config_name(self) -> str:
        return f"deg{self.degree}-path{self.path_length}" + f"-graph{self.graph_seed}" * (self.graph_seed > 0)

    @property
    def symbols(self) -> list[str]:
        return [*map(str, range(self.num_nodes)), "-", "=", END, self.DUMMY]

    @property
    def answer_length(self) -> int:
        return self.path_length

    @property
    def num_problems(self) -> int:
        """The leaves."""
        return self.degree

    @property
    def factors(self) -> dict[str, float]:
        return {"degree": self.degree, "path_length": self.path_length}

    @property
    def arms(self) -> np.ndarray:
        """(D, L) the nodes of each arm, from the source on."""
        return _arms(self.degree, self.path_length, self.graph_seed)

    # ------------------------------------------------------------ rows

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n leaves: `node` (n,), `edge` (n,), 0 for a path, and `answer` (n, L), all int32."""
        return self._rows(rng.integers(0, self.degree, n), np.zeros(n, dtype=np.int64))

    def train_sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n lines among all edges, in both directions, and the paths of all leaves.

        `node` (n,) is the leaf, or where an edge begins; `edge` (n,) 0 for a path, 1 for an edge; `answer` (n, L).
        """
        each = 2 * self.path_length - 1  # lines of an arm: its path, its edges, and these backwards
        return self._rows(*np.divmod(rng.integers(0, self.degree * each, n), each))

    def _rows(self, arm: np.ndarray, line: np.ndarray) -> Columns:
        """Line 0 of an arm is its path, then come its edges from the source on, then these backwards."""
        path, last = self.arms[arm], self.path_length - 1
        begin = np.where(line > last, line - last, np.where(line > 0, line - 1, last))
        end = np.where(line > last, line - last - 1, line)
        rows, edge = np.arange(len(arm)), line > 0
        answer = np.where(edge[:, None], -1, path)
        answer[:, 0] = path[rows, end]
        return {"node": path[rows, begin], "edge": edge.astype(np.int32), "answer": answer.astype(np.int32)}

    def _arm(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) the arm of each row's node; any for the source."""
        arm_of = np.zeros(self.num_nodes, dtype=np.int64)
        arm_of[self.arms[:, 1:]] = np.arange(self.degree)[:, None]
        return arm_of[np.asarray(columns["node"])]

    # ------------------------------------------------------------ the decision

    @property
    def chance(self) -> float:
        """1 / (leaves that are held out)."""
        return 1 / (self.degree - 3 * self.degree // 4)

    def decision_position(self, order: str) -> int:
        """2, of a path; 0 from the leaf on."""
        return 2 if order == "forward" else 0

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        return np.where(np.asarray(columns["edge"]) == 0, self.decision_position(order), 0)

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        return np.where(self.decisions(columns, order) > 0, self.chance, 1.0)

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The path to another leaf, each equally likely; the right answer for an edge."""
        answers = self.answers(columns)
        other = (self._arm(columns) + rng.integers(1, self.degree, len(answers))) % self.degree
        return np.where(np.asarray(columns["edge"])[:, None] == 0, self.arms[other], answers)

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star | None:
        """The arms of the leaf and of the answer, and some others; None for an edge."""
        if row["edge"]:
            return None
        given = np.isin(self.arms[:, 1:], [node for node in answer if node >= 0]).any(axis=1)
        goal = self.arms[:, -1] == row["node"]
        shown = self.arms[np.argsort(-(2 * goal + given), kind="stable")[:_SHOWN_ARMS]]
        edges = np.stack([shown[:, :-1], shown[:, 1:]], axis=-1).reshape(-1, 2).tolist()
        note = f"{_SHOWN_ARMS} of {self.degree:,} arms are shown" if self.degree > _SHOWN_ARMS else ""
        return Star(edges, int(self.arms[0, 0]), row["node"], row["answer"], answer, note=note)

    # ------------------------------------------------------------ text

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        marks = np.where(np.asarray(columns["edge"]) == 1, ord("-"), ord("=")).astype(np.uint8)
        return {"prompt": join_numbers(np.asarray(columns["node"])[:, None], marks[:, None])}

    def parse(self, text: str) -> dict[str, object]:
        """Read `10=` or `3-`, or with its answer `10=2,14,3,16,10 .` or `3-16 . . . . .`.

        Returns:
            `node`, `edge` (0 or 1) and `answer` (list, -1 behind its end, or None when the text ends with its mark).
            ValueError if the star has no such leaf or node, or not this path or edge.
        """
        line = text.strip()
        found, star = _LINE.fullmatch(line), f"the star of {self}"
        if found is None or not is_label(found[1]):
            form = "'10=2,14,3,16,10 .' or '3-16 . . . . .', the answer may be missing"
            raise ValueError(f"not a line of an in-weights star: {shorten(line, 80)}; the form is {form}.")
        node, edge, answer = int(found[1]), int(found[2] == "-"), self.read_answer(found[3])
        asked = "edge" if edge else "path"
        arm, place = np.nonzero(self.arms == node)
        if len(arm) == 0 or (not edge and place[0] != self.path_length - 1):
            raise ValueError(f"node {node} in {shorten(line, 80)} begins or ends no {asked} of {star}.")
        right = [self.arms[arm[0]].tolist()]
        if edge:
            ways = [(i, k + step) for i, k in zip(arm, place, strict=True) for step in (-1, 1)]
            right = [[int(self.arms[i, k])] for i, k in ways if 0 <= k < self.path_length]
        if answer and answer not in right:
            raise ValueError(f"the answer {answer} in {shorten(line, 80)} is no {asked} of {star}.")
        filled = answer + [-1] * (self.path_length - len(answer))
        return {"node": node, "edge": edge, "answer": filled if answer else None}

    # ------------------------------------------------------------ splits

    def split_of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """All edges are train's, and the paths of 3/4 of the leaves.

        The arms are in random order, so by their number: the first three quarters are train's, of the others the first
        half validation's.
        """
        train = 3 * self.degree // 4
        validation = (self.degree - train) // 2
        names = np.repeat(["train", "validation", "test"], [train, validation, self.degree - train - validation])
        return np.where(np.asarray(columns["edge"]) == 1, "train", names[self._arm(columns)])


@functools.lru_cache(maxsize=4)
def _arms(degree: int, path_length: int, graph_seed: int) -> np.ndarray:
    """`InWeightsStar.arms`, read-only, because it is shared."""
    labels = np.random.default_rng(graph_seed).permutation(1 + degree * (path_length - 1)).astype(np.int32)
    arms = np.insert(labels[1:].reshape(degree, path_length - 1), 0, labels[0], axis=1)
    arms.setflags(write=False)
    return arms
