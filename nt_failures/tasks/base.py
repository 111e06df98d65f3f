"""Task: the base class of all problems. NumPy only. What follows from the rest is in _derived.py.

A task is a frozen dataclass whose fields are its parameters.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nt_failures import registry
from nt_failures.tasks import blocks
from nt_failures.tasks._derived import END, Derived, answer_words
from nt_failures.tasks._sources import source_hash
from nt_failures.tasks._text import Text
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns
from nt_failures.tasks.facts import WORDS, Clue, Star
from nt_failures.tasks.hashing import hash_rows
from nt_failures.tasks.judging import judged, padded_answers


@dataclasses.dataclass(frozen=True)
class Task(Derived, abc.ABC):
    """Base of all tasks: what a problem is and what counts as right.

    A subclass gives the sizes as its fields, and `symbols`, `answer_length`, `sample` and `render`. All else has a
    default, for tasks with one right answer a row, which stands in the column `answer_column` as indices into
    `symbols`. Positions are counted from 1 in the task's own order, in symbols of the answer.
    Ours refuse a parameter that is out of range by a ValueError that states the rule and the repair.

    Example:
        >>> import dataclasses  # path-star graphs that list their edges by the labels they start from
        >>> import numpy as np
        >>> from nt_failures import PathStar
        >>> @dataclasses.dataclass(frozen=True)
        ... class SortedEdges(PathStar):
        ...     def sample(self, rng, n):
        ...         graphs = super().sample(rng, n)
        ...         order = np.argsort(graphs["edges"][:, :, :1], axis=1, kind="stable")
        ...         return {**graphs, "edges": np.take_along_axis(graphs["edges"], order, axis=1)}
        >>> task = SortedEdges(degree=2, path_length=3, num_nodes=10)
        >>> task.texts(task.block(seed=0, split="train", index=0))["prompt"].to_list()[0]
        '4,9|6,2|8,4|8,6/8,2='
    """

    VERSION: ClassVar[str] = "1.0.0"
    """of the data; a change of them needs a new one"""
    DUMMY: ClassVar[str] = "$"
    """symbol that never occurs in an instance; objectives put it where they hide an answer token"""
    END: ClassVar[str] = END
    """symbol that ends an answer, where answers differ in length; it belongs to no position"""
    free_text: ClassVar[bool] = False
    """whether prompts and answers are any text, of which no list of symbols is whole"""
    in_weights: ClassVar[bool] = False
    """whether answers need what no prompt shows, so that no model can be asked that was not trained on the task"""
    citation: ClassVar[str] = ""
    """its source, for the card of a model trained on it; path-star's is the paper, which every card names"""
    PROBLEM: ClassVar[str] = WORDS.problem
    """a problem in the words of reports and figures"""
    ANSWER: ClassVar[str] = WORDS.answer
    """an answer in these words"""
    DETOUR: ClassVar[str] = WORDS.detour
    """what `detours` go wrong by, in these words"""
    answer_column: ClassVar[str] = "answer"
    """the column of `sample` that holds the right answers"""
    CONFIGS: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """parameters of the sizes that have a name of their own, such as those of a source, by that name"""

    def __new__(cls, *args: object, **kwargs: object) -> "Task":
        registry.check_decorated(cls)
        return super().__new__(cls)

    # ------------------------------------------------------------ what every task says

    @property
    @abc.abstractmethod
    def symbols(self) -> list[str]:
        """Every symbol of prompts and answers, `DUMMY` last. Their order gives the word-level token ids.

        A task whose answers differ in length has `END` among them.
        """

    @property
    @abc.abstractmethod
    def answer_length(self) -> int:
        """Symbols of the longest answer, without `END`."""

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n instances at once; every array has n rows. No rejection of rows: splits are made from this."""

    @abc.abstractmethod
    def render(self, columns: Mapping[str, np.ndarray]) -> Mapping[str, Text | Sequence[str]]:
        """The `prompt` of each instance, a list of strings or a `Text`, and the `completion` unless it is the default.

        By default, a completion is the symbols of the answer with commas between them. Where answers differ in length
        it is filled up with ` .`, blank and `END`, to one more than the longest, so that nothing tells a model how long
        its answer has to be: `1,2 . .` and `1,2,3 .`
        """

    # ------------------------------------------------------------ what most tasks leave as it is

    @property
    def num_problems(self) -> float:
        """How many different problems (`instance_hash`) there are in all splits; infinite where that is not known."""
        return math.inf

    @property
    def one_answer(self) -> bool:
        """Whether an answer is right only if it is `answers`, symbol by symbol, so that none has to be judged."""
        return type(self).judge is Task.judge

    @property
    def alike(self) -> bool:
        """Whether all rows have the same decision and chance, so that both are known without the rows."""
        return type(self).decisions is Task.decisions and type(self).guess is Task.guess

    @property
    def chance(self) -> float:
        """Accuracy at the decision, in 0..1, of a guess among the ways that are open, without a plan."""
        return 1.0

    def decision_position(self, order: str) -> int:
        """Position of the first answer symbol, in the order of generation, that is no copy or look-up; 0 for none."""
        return 0

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """`decision_position` of each row, (n,), for tasks in which it differs."""
        return np.full(len(self.answers(columns)), self.decision_position(order))

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """`chance` of each row, (n,), for tasks in which it differs."""
        return np.full(len(self.answers(columns)), self.chance)

    def choices(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray | None:
        """Symbols (n, k), -1 for none, that a guess at the decision chooses among; None where the task does not say."""
        return None

    def difficulty(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """What each row drew, (n,), of the parameters that may be ranges, by their names."""
        return {}

    @property
    def factors(self) -> dict[str, float]:
        """Sizes that the time to learn it may grow with, by the name of one unit, such as `arm`; by default all whole
        numbers, by their own names."""
        return {name: value for name, value in self.to_dict().items() if type(value) is int}

    def lengths(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Symbols of each right answer, (n,), without `END`."""
        return (self.answers(columns) != -1).sum(axis=1)

    def train_sample(self, rng: np.random.Generator, n: int) -> Columns:
        """As `sample`, for the train split: a task may train on more than it asks."""
        return self.sample(rng, n)

    def parse(self, text: str) -> dict[str, object]:
        """Read a prompt, or a prompt and its completion in one string, back into a row. ValueError if it is neither."""
        raise ValueError(f"{type(self).__name__} reads no text back: it has no `parse`.")

    def read_answer(self, text: str) -> list[int]:
        """Read a model's answer, up to `END`; never fails. A symbol that belongs to no answer reads as -1.

        Symbols stand between commas or blanks, and read as their indices in `symbols`.
        """
        places = {symbol: i for i, symbol in enumerate(self.symbols) if symbol != self.DUMMY}
        return [places.get(word, -1) for word in answer_words(text)]

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """Score answers, as `read_answer` gives them. By default right is what `answers` has, symbol by symbol.

        Returns:
            `correct` (n, answer_length): right at that position; False where a row has no such position. `exact` (n,):
            the whole answer, no more and no less. `first_error` (n,): first wrong position from 1, one past the end
            where only something follows a right answer, 0 where exact.
        """
        right, lengths = self.answers(columns), self.lengths(columns)
        answered, sizes = padded_answers(answers, *right.shape)
        has = right != -1
        correct = has & (answered == right)
        return judged(correct, lengths, (correct == has).all(axis=1) & (sizes == lengths))

    def answers(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The right answers of the given instances, (n, answer_length), -1 behind the end of a shorter one."""
        return np.asarray(columns[self.answer_column])

    def with_answers(self, columns: Mapping[str, np.ndarray], answers: np.ndarray) -> Columns:
        """The same instances with other answers, right or wrong, in place of the right ones; `texts` shows them."""
        return {**{name: np.asarray(column) for name, column in columns.items()}, self.answer_column: answers}

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Answers (n, answer_length) that go wrong at the decision and then on consistently; ValueError if none do."""
        raise ValueError(f"{type(self).__name__} has no {self.DETOUR} that goes on consistently: it has no `detours`.")

    def clue(self, columns: Mapping[str, np.ndarray]) -> Clue | None:
        """Where in its prompt each instance shows what tells the decision; None where prompts have no such places."""
        return None

    def picture(self, row: Mapping[str, Any], answer: Sequence[int]) -> Star | None:
        """One instance, as lists, and a model's answer to it, as a graph to draw; None for a task without pictures."""
        return None

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """uint64 per row, equal for rows that pose the same problem however it is written down: what n counts.

        By default, the same problem has the same entries in all columns but the answer's.
        """
        return hash_rows(*(column for name, column in sorted(columns.items()) if name != self.answer_column))

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """uint64 per row, equal for rows of which none may be in train while another is in test.

        By default `instance_hash`. Where what train has tells of other problems which answer is right, or which is not,
        it is the hash of what these have in common. The bits may be anything: they are mixed before they decide.
        """
        return self.instance_hash(columns)

    def split_of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Name of the split of each row, by `split_hash` unless a task says otherwise; those of all seeds are apart."""
        return blocks.split_of_hash(self.split_hash(columns))

    def block(self, seed: int, split: str, index: int, overlap: str = "forbid", rows: int = BLOCK_ROWS) -> Columns:
        """Rows `index * BLOCK_ROWS` up to `(index + 1) * BLOCK_ROWS` of a split, a function of the arguments alone.

        Args:
            seed: which stream of data; any integer >= 0.
            split: `"train"`, `"validation"` or `"test"`.
            index: which block, from 0 without end.
            overlap: `"forbid"` keeps instances whose hash belongs to the split, so splits never share one;
                `"allow"` draws every split from all instances, as the paper's released code does.
            rows: how many of them, from the first one; few are drawn faster.

        Raises:
            ValueError: an argument out of range, or a task so small that the split is empty.
        """
        sample = self.train_sample if split == "train" else self.sample
        return blocks.draw(str(self), sample, self.split_of, (seed, split, index), overlap, rows)

    @classmethod
    def source_hash(cls) -> str:
        """Hash of the code that defines the data: the class's, its bases' and what they import of the user's own.

        Changed code never meets old caches. Files that the code reads are not seen: a change of them needs a new
        `VERSION`.
        """
        modules = [base.__module__ for base in cls.__mro__ if issubclass(base, Task)]
        return source_hash([*modules, "nt_failures.tasks"])
