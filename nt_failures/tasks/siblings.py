"""Siblings: write two siblings of a graph that is known by heart, then their parent; any pair will do, a new one best.

In the order of use: the size, drawing pairs, what is right and what is new, text, hashes.
Shapes: n rows, P parents, C children of each, K symbols of a prefix.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._graphs import MAX_LABELS
from nt_failures.tasks._sampling import distinct
from nt_failures.tasks._text import MAX_TEXT, Text, join_words
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integers, split_of_hash
from nt_failures.tasks.hashing import hash_rows
from nt_failures.tasks.judging import judged, padded_answers

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Symbols of a prefix."""
_LINE = re.compile(r"((?:[A-Z](?:,[A-Z])*)?)=(.*)")


@dataclasses.dataclass(frozen=True)
class Siblings(Task):
    """Two different children of one parent, in any order, then the parent, from a graph that no prompt shows.

    `num_parents` parents `p0`, `p1`, ... have `num_children` children each, of which none has two parents; `graph_seed`
    says which of the labels 0, 1, ... are whose. One line of text, for `Siblings(2, 4, prefix_length=4, graph_seed=3)`,
    in whose graph p0 has the children 1, 2, 6, 7 and p1 the others:

        prompt      Q,C,C,X=
        tokens      Q C C X =
        completion  6,2,p0
        position    1 2 3       2 is the decision

    **The prompt asks for nothing.** Its random letters only part one row from the next, so that a model that decodes
    greedily writes many different answers (the source's seed-conditioning): rows must be fixed, as letters that are
    never seen twice tell a model nothing. With `prefix_length` 0 all prompts are `=`. Then answers differ only if they
    are sampled with a temperature, which this library's evaluation does not do: `judge` scores them, and a diagnosis
    says that it has one different prompt. n counts different prompts.

    **Right** (`coherent`) is any pair of siblings with its parent. **New** (`unseen`) is a right answer whose pair is
    of no train row. A pair belongs to one split whichever child comes first, so no list of rows is needed: what is of
    validation or test was surely never trained on, with whatever seed and number of rows (but not with
    overlap="allow"). What is of train need not have been: 50,000 rows of 467,813 pairs show a tenth of them. So the
    share of new answers counts too few, and who chooses among all pairs writes a quarter. Of the first of each new pair
    alone, the share is the source's creativity.

    **The decision.** The first child may be any, and the parent is read off a child. The second child is the one that
    needs the parent beforehand; who does not know it is right with (C - 1) / (P C - 1), a fifth for five parents.
    Nothing follows but the parent, so no cheat is measured. From the parent on (`reversed`), every symbol is a look-up.

    The task and its size are those of arXiv 2504.15266; that two orders are one pair, and the letters, are ours.

    Args:
        num_parents: at least 2.
        num_children: of each parent, at least 2.
        prefix_length: random letters of a prompt, from 0.
        graph_seed: which graph, an integer >= 0; the same in all splits.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import Siblings
        >>> task = Siblings(num_parents=2, num_children=4, prefix_length=4, graph_seed=3)
        >>> rows = {name: np.array([value] * 3) for name, value in task.parse("Q,C,C,X=6,2,p0").items()}
        >>> judged = task.judge(rows, [task.read_answer(text) for text in ("2,6,p0", "7,1,p0", "7,0,p0")])
        >>> judged["coherent"].tolist(), judged["unseen"].tolist()
        ([True, True, False], [False, True, False])
    """

    num_parents: int = 5
    num_children: int = 500
    prefix_length: int = 10
    graph_seed: int = 0

    in_weights = True
    citation = "sibling discovery of arXiv 2504.15266; that two orders are one pair, and the letters, are ours"
    PROBLEM, ANSWER, DETOUR = "prompt", "triple", "stranger"
    CONFIGS = {
        f"parents5-children{children}-prefix{letters}": {"num_children": children, "prefix_length": letters}
        for children in (500, 50)
        for letters in (10, 0)
    }
    answer_length = 3

    def __post_init__(self) -> None:
        check_integers(self, num_parents=2, num_children=2, prefix_length=0, graph_seed=0)
        if self.num_parents * self.num_children > MAX_LABELS:
            raise ValueError(
                f"num_parents={self.num_parents} times num_children={self.num_children} is too large, as each child is "
                f"a token; give at most {MAX_LABELS:,} children in all."
            )
        if self.prefix_length > (most := MAX_TEXT // (BLOCK_ROWS * 2) - 1):
            raise ValueError(f"prefix_length={self.prefix_length:,} is too large; give at most {most:,}, which fit.")

    @property
    def config_name(self) -> str:
        sizes = f"parents{self.num_parents}-children{self.num_children}-prefix{self.prefix_length}"
        return sizes + f"-graph{self.graph_seed}" * (self.graph_seed != 0)

    @property
    def symbols(self) -> list[str]:
        children = map(str, range(self.num_parents * self.num_children))
        return [*children, *(f"p{j}" for j in range(self.num_parents)), *LETTERS, "=", self.DUMMY]

    @property
    def num_problems(self) -> int:
        """Different prompts; all splits draw from all of them."""
        return len(LETTERS) ** self.prefix_length

    @property
    def num_answers(self) -> int:
        """Different pairs of siblings."""
        return self.num_parents * self.num_children * (self.num_children - 1) // 2

    @property
    def factors(self) -> dict[str, float]:
        return {"num_parents": self.num_parents, "num_children": self.num_children}

    @property
    def chance(self) -> float:
        """Any other child than the first."""
        return (self.num_children - 1) / (self.num_parents * self.num_children - 1)

    def decision_position(self, order: str) -> int:
        return 2 if order == "forward" else 0

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n rows: `answer` (n, 3), every pair in both orders equally likely, and `prefix` (n, K) if K > 0; int32.

        Both hold indices, `answer` into `symbols` and `prefix` into `LETTERS`.
        """
        parents = rng.integers(0, self.num_parents, n, dtype=np.int32)
        graph = _graph(self.num_parents, self.num_children, self.graph_seed)
        pairs = graph[parents, distinct(rng, n, self.num_children, 2)]
        answer = np.stack([*pairs, self.num_parents * self.num_children + parents], axis=1).astype(np.int32)
        prefix = rng.integers(0, len(LETTERS), (n, self.prefix_length), dtype=np.int32)
        return {"prefix": prefix, "answer": answer} if self.prefix_length else {"answer": answer}

    def _parents(self, symbols: np.ndarray) -> np.ndarray:
        """The parent of each child, as symbols; -1 for what is no child."""
        graph = _graph(self.num_parents, self.num_children, self.graph_seed)
        owner = np.argsort(graph, axis=None) // self.num_children + graph.size
        return np.where((symbols >= 0) & (symbols < graph.size), owner[np.clip(symbols, 0, graph.size - 1)], -1)

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """Score answers, as `read_answer` gives them; any pair of siblings is right.

        Returns:
            `correct` (n, 3): a child; another child of the same parent; the parent of either. `exact` and `coherent`
            (n,): all of these, no more and no less. `first_error` (n,), as in `Task.judge`. `unseen` (n,): coherent,
            and a pair that no train row has. `written` (n,) uint64, equal for equal pairs.
        """
        answered, sizes = padded_answers(answers, len(self.answers(columns)), 3)
        one, two = self._parents(answered[:, :2]).T
        third = (answered[:, 2] == one) | (answered[:, 2] == two)
        pair = (one == two) & (answered[:, 0] != answered[:, 1])
        correct = np.stack([one >= 0, pair & (one >= 0), third & (answered[:, 2] >= 0)], axis=1)
        exact, written = correct.all(axis=1) & (sizes == 3), _pair_hash(answered)
        unseen = exact & (split_of_hash(written) != "train")
        return judged(correct, 3, exact) | {"coherent": exact, "unseen": unseen, "written": written}

    def judge_forced(self, columns: Mapping[str, np.ndarray], predicted: np.ndarray, order: str) -> np.ndarray:
        """Which symbols go on rightly from those of the written answer before them, and so belong to some triple."""
        (first, second, parent), predicted = self.answers(columns).T, np.asarray(predicted)
        one, two = self._parents(predicted[:, :2]).T
        if order == "forward":
            right = [one >= 0, (two == parent) & (predicted[:, 1] != first), predicted[:, 2] == parent]
        else:
            a_parent = np.isin(predicted[:, 2] - self.num_parents * self.num_children, np.arange(self.num_parents))
            right = [(one == parent) & (predicted[:, 0] != second), two == parent, a_parent]
        return np.stack(right, axis=1)

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        prefix = np.asarray(columns.get("prefix", np.zeros((len(self.answers(columns)), 0), np.int32)))
        marks = np.full((len(prefix), 1), 2 * len(LETTERS))
        shift = np.where(np.arange(self.prefix_length) == self.prefix_length - 1, len(LETTERS), 0)
        words = [*(f"{letter}," for letter in LETTERS), *LETTERS, "="]
        return {"prompt": join_words(np.concatenate([prefix + shift, marks], axis=1), words)}

    def parse(self, text: str) -> dict[str, object]:
        """Read `Q,C,C,X=`, or with an answer `Q,C,C,X=6,2,p0`.

        Returns:
            `prefix` (list of places in the alphabet; missing where it has no letters) and `answer` (list, or None when
            the text ends with `=`). ValueError if it is no row of this size, or its answer is wrong.
        """
        line = text.strip()
        found = _LINE.fullmatch(line)
        prefix = [LETTERS.index(letter) for letter in found[1].replace(",", "")] if found else None
        if prefix is None or len(prefix) != self.prefix_length:
            raise ValueError(
                f"{shorten(line, 80)} is no prompt of {self.prefix_length} letters; the form is 'A,B,C=1,2,p0', and "
                "the answer may be missing."
            )
        row: dict[str, object] = {"prefix": prefix, "answer": None} if prefix else {"answer": None}
        if answer := found[2]:
            row["answer"] = self.read_answer(answer)
            if not self.judge({"answer": np.zeros((1, 3))}, [row["answer"]])["exact"][0]:
                raise ValueError(f"the answer {answer!r} in {shorten(line, 80)} is wrong; give two siblings, then p0.")
        return row

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the prompt: who decodes greedily answers the same prompt once."""
        none = np.zeros((len(self.answers(columns)), 1), np.int32)
        return hash_rows(columns.get("prefix", none))

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the pair of siblings, whichever comes first; that it is right, train is to tell."""
        return _pair_hash(self.answers(columns))


@functools.lru_cache(maxsize=4)
def _graph(num_parents: int, num_children: int, seed: int) -> np.ndarray:
    """The children of each parent, (P, C); cached, so it must not be changed."""
    labels = np.random.default_rng(seed).permutation(num_parents * num_children)
    labels.flags.writeable = False
    return labels.reshape(num_parents, num_children)


def _pair_hash(answers: np.ndarray) -> np.ndarray:
    return hash_rows(np.sort(answers[:, :2], axis=1))
