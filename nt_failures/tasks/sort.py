"""Sort: write labels in ascending order, as they are, or backwards. Nothing is to be planned: the negative control.

In the order of use: the size, drawing labels, text, hashes.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

from nt_failures.registry import check_choice, shorten
from nt_failures.tasks._graphs import MAX_LABELS
from nt_failures.tasks._sampling import distinct
from nt_failures.tasks._text import MAX_TEXT, Text, join_numbers
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integers
from nt_failures.tasks.hashing import hash_rows

MODES = {"sort": lambda shown: np.sort(shown, axis=1), "copy": np.copy, "reverse": lambda shown: shown[:, ::-1].copy()}
"""From the labels as they are shown, (n, length), to the answers."""
_NUMBERS = "(?:0|[1-9][0-9]{0,6})(?:,(?:0|[1-9][0-9]{0,6}))*"
_LINE = re.compile(f"({_NUMBERS})=({_NUMBERS})?")


@dataclasses.dataclass(frozen=True)
class Sort(Task):
    """Different labels below `num_labels` in random order; the answer is all of them in the order that `mode` says.

    One line of text, for `Sort(4, 50)`, and its tokens (commas carry none):

        prompt          31,7,48,12=
        tokens          31 7 48 12 =
        `sort`          7,12,31,48
        `copy`          31,7,48,12
        `reverse`       12,48,7,31
        position        1 2  3  4

    Every label of the answer is read off the prompt and the one before: the next larger, the one behind it, the one in
    front of it; and likewise from the end (`reversed`). So there is no decision, no cheat and no chance, all objectives
    are to learn it alike, and no verdict may speak of a failure to plan.

    Copying and sorting are among the tasks of arXiv 2310.16028, there to ask about longer inputs than in training. The
    fixed length, and what is asked of it here, are ours.

    Args:
        length: labels of a row, at least 2.
        num_labels: labels to draw from, 0..num_labels-1; at least `length`.
        mode: `"sort"` (ascending), `"copy"` or `"reverse"`.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import Sort
        >>> task = Sort(length=3, num_labels=10)
        >>> rows = task.sample(np.random.default_rng(0), 1)
        >>> task.render(rows)["prompt"].to_list(), task.answers(rows).tolist()
        (['8,6,1='], [[1, 6, 8]])
    """

    length: int = 8
    num_labels: int = 50
    mode: str = "sort"

    citation = "arXiv 2310.16028, whose tasks include copying and sorting; the fixed length is ours"
    PROBLEM = "list"
    CONFIGS = {f"{mode}{n}": {"length": n, "mode": mode} for mode in MODES for n in (8, 16)}

    def __post_init__(self) -> None:
        check_integers(self, length=2, num_labels=2)
        check_choice("mode", self.mode, [*MODES])
        if not self.length <= self.num_labels <= MAX_LABELS:
            raise ValueError(
                f"num_labels={self.num_labels} is out of range: length={self.length} needs as many different labels, "
                f"and each is a token; give num_labels from {self.length} to {MAX_LABELS:,}."
            )
        most = MAX_TEXT // (BLOCK_ROWS * len(f"{self.num_labels},"))
        if self.length > most:
            raise ValueError(f"length={self.length:,} is too large; give length <= {most:,}, which fit into text.")

    @property
    def config_name(self) -> str:
        return f"{self.mode}{self.length}" + f"-labels{self.num_labels}" * (self.num_labels != Sort.num_labels)

    @property
    def instruction(self) -> str:
        order = {"sort": "ascending order", "copy": "the same order", "reverse": "reverse order"}[self.mode]
        return (
            f"Different numbers stand with commas between them, and then =. Give them in {order}, with commas between "
            "them."
        )

    @property
    def symbols(self) -> list[str]:
        return [*map(str, range(self.num_labels)), "=", self.DUMMY]

    @property
    def answer_length(self) -> int:
        return self.length

    @property
    def num_problems(self) -> int:
        """Different sets of labels to sort; orders of them to copy or reverse."""
        return (math.comb if self.mode == "sort" else math.perm)(self.num_labels, self.length)

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n rows: `labels` and `answer`, (n, length) int32, every order of every set equally likely."""
        shown = np.ascontiguousarray(distinct(rng, n, self.num_labels, self.length).T)
        return {"labels": shown, "answer": MODES[self.mode](shown)}

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        between = "," * (self.length - 1)
        return {
            "prompt": join_numbers(np.asarray(columns["labels"]), f"{between}="),
            "completion": join_numbers(self.answers(columns), between),
        }

    def parse(self, text: str) -> dict[str, object]:
        """Read `31,7,48,12=`, or with its answer `31,7,48,12=7,12,31,48`.

        Returns:
            `labels` and `answer`, lists; `answer` is None when the text ends with `=`. ValueError if it is no row of
            this size, or its answer is wrong.
        """
        line = text.strip()
        found = _LINE.fullmatch(line)
        numbers = [[*map(int, part.split(","))] if part else None for part in found.groups()] if found else [[], None]
        shown, answer = numbers
        if len(shown) != self.length or len({*shown}) != self.length or max(shown) >= self.num_labels:
            raise ValueError(
                f"{shorten(line, 80)} is no row of {self.length} different labels below {self.num_labels}; the form is "
                "'a,b,c=d,e,f', and the answer may be missing."
            )
        right = MODES[self.mode](np.array([shown]))[0].tolist()
        if answer not in (None, right):
            raise ValueError(f"the answer {answer} in {shorten(line, 80)} is wrong; it is {right}.")
        return {"labels": shown, "answer": answer}

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the set of labels where they are sorted, else of their order: what the answer depends on."""
        shown = np.asarray(columns["labels"])
        return hash_rows(np.sort(shown, axis=1) if self.mode == "sort" else shown)
