"""Hops: go k steps along a cycle that is shown as shuffled pairs, in the mind or in writing.

In the order of use: the size, drawing cycles, text, hashes.
Shapes: n rows, N nodes of the cycle, K hops at most.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._graphs import way_back
from nt_failures.tasks._sampling import distinct, in_random_order
from nt_failures.tasks._text import MAX_TEXT, Text, join_words
from nt_failures.tasks.base import END, Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integers
from nt_failures.tasks.hashing import hash_edges, hash_rows

_NUMBER = "(?:0|[1-9][0-9]{0,6})"
_LINE = re.compile(rf"({_NUMBER},{_NUMBER}(?:\|{_NUMBER},{_NUMBER})*)/({_NUMBER}),k({_NUMBER})=([0-9,]*(?: \.)*)")


@dataclasses.dataclass(frozen=True)
class Hops(Task):
    """The k-th successor of a node on a cycle of all `num_nodes` labels, k from 1 to `hops`, every k equally likely.

    The directed pairs are shown in random order, then the node to start from and k, `k1` to `k8`, a token each. One
    line of text, for `Hops(5, 3)`, and its tokens (commas carry none):

        prompt              3,0|4,2|0,4|1,3|2,1/3,k2=
        tokens              3 0 | 4 2 | 0 4 | 1 3 | 2 1 / 3 k2 =
        completion          4
        with `way`          0,4 . .     filled up to one more than the longest
        position            1 2

    Alone, the answer is one symbol, for which the model takes k steps in its mind: there is no position that another
    one could help, so no decision and no cheat. What is asked is **how many hops a depth can do**, the accuracy by k
    (`difficulty`) for models of more and more layers. With the way every position is a look-up, the pair that begins
    with the node before. From its end (`reversed`) the first symbol, position k, is again all k steps at once: where
    k > 1 it is the decision, and chance is that of who looks one step ahead and one back, and guesses among the others.

    Splits are by the whole cycle. Below nine nodes who remembers of train which cycles went with a source, its two
    neighbours and k is right less often held out than chance (of five nodes 17 % for 50 %, of six 3 % for 33 %).

    In the manner of the task Depo of arXiv 2512.17351, whose cycles differ in size and have several questions each, and
    which asks for the last node alone. One size, one question and the way are ours.

    Args:
        num_nodes: nodes of the cycle, and labels, 0..num_nodes-1; at least 3.
        hops: the largest k, from 1 to num_nodes - 1.
        way: whether the answer is every node on the way, or the last one alone.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import Hops
        >>> task = Hops(num_nodes=5, hops=3, way=True)
        >>> rows = task.sample(np.random.default_rng(1), 1)
        >>> texts = task.texts(rows)
        >>> texts["prompt"].to_list()[0] + texts["completion"].to_list()[0]
        '2,3|3,4|1,2|4,0|0,1/2,k1=3 . . .'
    """

    num_nodes: int = 20
    hops: int = 8
    way: bool = False

    citation = "in the manner of Depo, arXiv 2512.17351; one size, one question and the way are ours"
    PROBLEM = "question"
    CONFIGS = {
        f"nodes{n}-hops{k}{'-way' * way}": {"num_nodes": n, "hops": k, "way": way}
        for way in (False, True)
        for n, k in ((20, 4), (20, 8), (50, 8))
    }

    def __post_init__(self) -> None:
        check_integers(self, num_nodes=3, hops=1)
        if not isinstance(self.way, bool):
            raise ValueError(f"way={self.way!r} is not a choice; give True or False.")
        if self.hops >= self.num_nodes:
            raise ValueError(
                f"hops={self.hops} goes once around a cycle of num_nodes={self.num_nodes}, and more is less; give "
                f"hops <= {self.num_nodes - 1}."
            )
        most = MAX_TEXT // (BLOCK_ROWS * 2 * len(f"{self.num_nodes},")) - 1
        if self.num_nodes > most:
            raise ValueError(f"num_nodes={self.num_nodes:,} is too large; give at most {most:,}, which fit into text.")

    @property
    def config_name(self) -> str:
        return f"nodes{self.num_nodes}-hops{self.hops}{'-way' * self.way}"

    @property
    def instruction(self) -> str:
        asked = "every node that you come to, in order, with commas between them" if self.way else "the node you end at"
        return (
            "Each node of a cycle points to the next one, in pairs from,to with | between them. Behind / stand a node "
            f"to start from and k with the number of steps, and then =. Go that many steps. Give {asked}."
        )

    @property
    def symbols(self) -> list[str]:
        steps = [f"k{k}" for k in range(1, self.hops + 1)]
        return [*map(str, range(self.num_nodes)), *steps, "|", "/", "=", *([END] * self.way), self.DUMMY]

    @property
    def answer_length(self) -> int:
        return self.hops if self.way else 1

    @property
    def num_problems(self) -> int:
        """Different cycles, nodes to start from and k, whatever the order of the pairs."""
        return math.factorial(self.num_nodes - 1) * self.num_nodes * self.hops

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n rows: `edges` (n, N, 2), `source` and `hops` (n,), `answer` (n, K) or (n, 1), all int32."""
        nodes = distinct(rng, n, self.num_nodes, self.num_nodes)  # one cycle is a column, from its source on
        edges = in_random_order(rng, nodes, np.roll(nodes, -1, axis=0))
        steps = rng.integers(1, self.hops + 1, n, dtype=np.int32)
        way = nodes[1 : self.hops + 1].T
        answer = np.where(np.arange(self.hops) < steps[:, None], way, -1) if self.way else way[np.arange(n), steps - 1]
        return {
            "edges": edges,
            "source": nodes[0],
            "hops": steps,
            "answer": np.ascontiguousarray(answer.reshape(n, -1) if n else np.zeros((0, self.answer_length), np.int32)),
        }

    def difficulty(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """`hops`: the k of each row, (n,)."""
        return {"hops": np.asarray(columns["hops"])}

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        steps = np.asarray(columns["hops"])
        planned = (steps > 1) & (steps < self.num_nodes - 1)  # one step ahead, or one back, is a look-up
        return np.where(planned & self.way & (order == "reversed"), steps, 0)

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """Among all nodes but the source, the one behind it and the one before; 1 without a decision."""
        return np.where(self.decisions(columns, order) > 0, 1 / max(self.num_nodes - 3, 1), 1.0)

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        size, labels = self.num_nodes, range(self.num_nodes)
        words = [f"{label}{mark}" for mark in ",|/" for label in labels] + [f"k{k}=" for k in range(1, self.hops + 1)]
        edges = np.asarray(columns["edges"]) + np.array([0, size], dtype=np.int32)
        edges[:, -1, 1] += size
        query = np.stack([columns["source"], np.asarray(columns["hops"]) + 3 * size - 1], axis=-1)
        prompt = join_words(np.concatenate([edges.reshape(-1, 2 * size), query], axis=1), words)
        # An end where there is no label: more than one symbol fills up to one more than the longest answer.
        answers, words = self.answers(columns), [*map(str, labels), *(f",{label}" for label in labels), f" {END}"]
        if self.way:
            answers = np.column_stack([answers, np.full(len(answers), -1)])
        index = np.where(answers < 0, 2 * size, answers + size * (np.arange(answers.shape[1]) > 0))
        return {"prompt": prompt, "completion": join_words(index, words)}

    def parse(self, text: str) -> dict[str, object]:
        """Read `3,0|4,2|0,4|1,3|2,1/3,k2=`, or with its answer `4`, or `0,4 . .`.

        Returns:
            `edges` (list of pairs), `source`, `hops` and `answer` (list, -1 behind its end, or None when the text ends
            with `=`). ValueError if it is no cycle of this size, or its answer is wrong.
        """
        line = text.strip()
        try:
            graph, source, steps, answer = _LINE.fullmatch(line).groups()
            edges = [tuple(map(int, pair.split(","))) for pair in graph.split("|")]
            successor = {first: second for first, second in edges}
            source, steps = int(source), int(steps)
        except (AttributeError, ValueError) as error:
            raise ValueError(f"not a line of hops: {shorten(line, 80)}; the form is 'a,b|b,c|c,a/a,k2=c'.") from error
        way = way_back(successor, source, self.num_nodes)[-2::-1]  # the nodes behind the source
        whole = sorted(way) == [*range(self.num_nodes)] and len(edges) == self.num_nodes and way[-1] == source
        if not whole or not 1 <= steps <= self.hops:
            of = f"the labels 0 to {self.num_nodes - 1} with 1 to {self.hops} hops"
            raise ValueError(f"{shorten(line, 80)} is not one cycle of {of}; parse it with the Hops it was made with.")
        right = way[:steps] if self.way else [way[steps - 1]]
        if answer and self.read_answer(answer) != right:
            raise ValueError(f"the answer {answer!r} in {shorten(line, 80)} is wrong; it is {right}.")
        filled = right + [-1] * (self.answer_length - len(right))
        return {"edges": edges, "source": source, "hops": steps, "answer": filled if answer else None}

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the cycle: not of the order of its pairs, nor of what is asked of it."""
        return hash_edges(np.asarray(columns["edges"]))

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the cycle, the source and k."""
        return hash_rows(self.split_hash(columns).view(np.int64), columns["source"], columns["hops"])
