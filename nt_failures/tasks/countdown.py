"""Countdown: combine numbers by equations, each number once, so that the last equation gives a target.

In the order of use: the size, drawing problems, judging, what is decided, text, hashes.
Shapes: n rows, K numbers, M of them left, L = 5 (K - 1) symbols of an answer; F first equations of a row.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._arithmetic import OPERATORS, combined, equations, first_results, leads_on, pairs, reaches
from nt_failures.tasks._text import Text, join_words
from nt_failures.tasks.base import END, Task
from nt_failures.tasks.blocks import Columns, check_integers
from nt_failures.tasks.hashing import hash_rows
from nt_failures.tasks.judging import judged, padded_answers

SYMBOLS = 5
"""Of one equation: its result, `=`, a number, an operator, a number."""
_LARGEST_BOUND = 9999
_CHANCE_ROWS = 4000
"""Problems in which chance is counted."""
_LINE = re.compile(r"([1-9][0-9]{0,3}(?:,[1-9][0-9]{0,3})*)\|([1-9][0-9]{0,3}):(.*)")


@dataclasses.dataclass(frozen=True)
class Countdown(Task):
    """Numbers stand before |, a target behind it. Write equations with blanks and result first, such as 4 = 12 / 3, and
    commas between them, until all numbers are used: each takes two of those that are left, and its result, a whole
    number above 0, takes their place. The last result is the target.

    One line of text, for `Countdown(3)`, and its tokens, numbers up to `bound` (commas carry none):

        prompt      12,7,3|28:
        tokens      12 7 3 | 28 :
        completion  4 = 12 / 3, 28 = 7 * 4 .
        position    1 2  3 4 5   6 7 8 9 10     1 is the decision

    Every problem is made from a solution, so it has one, and often several: `84 = 12 * 7, 28 = 84 / 3` is right, too.

    **The decision** is the first result: one that leaves the target within reach. Which numbers it is made of is a
    look-up by arithmetic. The sources write a result behind its equation, `12/3=4`, where three symbols share the
    decision and none is it; ours stands in front.

    **The cheat.** Any true equation over numbers that are left looks fine in isolation: it counts as right, symbol by
    symbol, whether or not it leads on. Only the first symbol has to lead on, and the last equation has to give the
    target: it carries the regret, as no equation of the two numbers that are left then does. A detour is a first
    equation that is true and leads nowhere, `15 = 12 + 3`, and ends there.

    **Chance** is that of the best of four blind rules: any first result that the numbers give, the one nearest to the
    target, the smallest, the largest. It is counted in 4,000 problems: 48 % for 3 numbers up to 50.

    From the end (`reversed`) the last equation comes first, and what it needs of the others is decided by several of
    its symbols: no one of them is called the decision.

    By its abstract, arXiv 2410.14157 reaches 91.5 % by diffusion, and 45.8 % by next-token prediction; it writes digit
    by digit (second-hand, from forks of its code). The code of Stream of Search, arXiv 2404.03683, draws numbers from 1
    to 99 and targets from 10 to 100, uses all numbers, has no negative differences and exact quotients, and a BPE. A
    token a number, the result in front, smaller numbers and the way of drawing are ours.

    Args:
        numbers: how many are given, from 3 to 5.
        largest: of the given numbers, from 2 to `bound`.
        bound: of all results, the target included, at most 9,999.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import find_task
        >>> task = find_task("countdown")(numbers=3)
        >>> rows = {name: np.array([value]) for name, value in task.parse("12,7,3|28:4 = 12 / 3, 28 = 7 * 4 .").items()}
        >>> task.judge(rows, [task.read_answer("84 = 12 * 7, 28 = 84 / 3 .")])["exact"].tolist()
        [True]
    """

    numbers: int = 3
    largest: int = 50
    bound: int = 100

    citation = "arXiv 2410.14157 and 2404.03683, whose numbers and tokens differ; the result in front is ours"
    ANSWER, DETOUR = "solution", "wrong first equation"
    CONFIGS = {f"numbers{k}": {"numbers": k} for k in (3, 4, 5)}

    def __post_init__(self) -> None:
        check_integers(self, numbers=3, largest=2, bound=2)
        if self.numbers > 5:
            raise ValueError(f"numbers={self.numbers} is too many to search what they can reach; give 3, 4 or 5.")
        if not self.largest <= self.bound <= _LARGEST_BOUND:
            raise ValueError(
                f"bound={self.bound} is out of range: largest={self.largest} must be below it, and each number is a "
                f"token; give bound from {self.largest} to {_LARGEST_BOUND:,}."
            )

    @property
    def instruction(self) -> str:
        return f"{super().instruction} No result is above {self.bound}."

    @property
    def symbols(self) -> list[str]:
        return [*map(str, range(self.bound + 1)), *OPERATORS, "=", "|", ":", END, self.DUMMY]

    @property
    def answer_length(self) -> int:
        return SYMBOLS * (self.numbers - 1)

    @property
    def chance(self) -> float:
        return _chance(self)

    def decision_position(self, order: str) -> int:
        """1, the first result; 0 from the end."""
        return 1 if order == "forward" else 0

    # ------------------------------------------------------------ drawing

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n rows: `numbers` (n, K), `target` (n,) and `answer` (n, L), all int32.

        Numbers are uniform, with repetition. Each equation has one of the operators that some pair of the numbers left
        allows, then one of these pairs, both equally likely; the larger number stands first.
        """
        left = rng.integers(1, self.largest + 1, (n, self.numbers), dtype=np.int32)
        given, rows, parts = left, np.arange(n), []
        while left.shape[1] > 1:
            found = first_results(left, self.bound)
            allowed = found > 0  # two numbers have a difference, or where they are equal a quotient
            operator = np.where(allowed.any(axis=1), rng.random((4, n)), -1).argmax(axis=0)
            allowed = allowed[operator, :, rows]
            pair = np.where(allowed, rng.random(allowed.shape), -1).argmax(axis=1)
            result, places = found[operator, pair, rows], pairs(left.shape[1])[pair]
            x, y = left[rows, places[:, 0]], left[rows, places[:, 1]]
            parts += [result, np.full(n, self.bound + 5), np.maximum(x, y), operator + self.bound + 1, np.minimum(x, y)]
            left = combined(left, places, result)
        return {"numbers": given, "target": left[:, 0], "answer": np.column_stack(parts).astype(np.int32)}

    # ------------------------------------------------------------ judging

    def judge(self, columns: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]]) -> Columns:
        """As `Task.judge`. A symbol is right if some equation over the numbers left begins like that and all before it
        are; the last equation must give the target, and the first symbol leave it within reach."""
        left, target = (np.asarray(columns[name]) for name in ("numbers", "target"))
        answered, sizes = padded_answers(answers, len(left), self.answer_length)
        correct, rows = np.zeros(answered.shape, dtype=bool), np.arange(len(left))
        alive = np.ones(len(left), dtype=bool)
        for start in range(0, self.answer_length, SYMBOLS):
            places, parts = self._written(left)
            possible = (parts[0] > 0) & alive[:, None]
            if left.shape[1] == 2:
                possible &= parts[0] == target[:, None]
            for k, part in enumerate(parts, start):
                possible &= part == answered[:, k, None]
                correct[:, k] = possible.any(axis=1)
            alive, taken = correct[:, start + SYMBOLS - 1], possible.argmax(axis=1)
            left = combined(left, places[taken], parts[0][rows, taken])
        first = np.flatnonzero(correct[:, 0])
        numbers = np.asarray(columns["numbers"])
        correct[first, 0] = leads_on(numbers[first], target[first], answered[first, 0], self.bound)
        return judged(correct, self.answer_length, correct.all(axis=1) & (sizes == self.answer_length))

    def _written(self, left: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The equations over numbers (n, M): places of their numbers, (E, 2), and their symbols, five arrays (n, E)."""
        places, result, x, operator, y = equations(left, self.bound)
        return places, [result, np.full_like(result, self.bound + 5), x, self.bound + 1 + operator, y]

    # ------------------------------------------------------------ what is decided

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """A first equation alone whose result leads nowhere, each equally likely; right where there is none."""
        numbers, target = np.asarray(columns["numbers"]), np.asarray(columns["target"])
        parts, answers = self._written(numbers)[1], self.answers(columns)
        once = (parts[0] > 0) & (parts[2] >= parts[4])  # as ours are written
        order = np.where(once, rng.random(once.shape), 2).argsort(axis=1)
        found, ours = answers.copy(), np.ones(len(answers), dtype=bool)
        for tried in order.T:
            rows = np.flatnonzero(ours & once[np.arange(len(answers)), tried])
            equation = np.column_stack([part[rows, tried[rows]] for part in parts])
            hopeless = ~leads_on(numbers[rows], target[rows], equation[:, 0], self.bound)
            rows = rows[hopeless]
            found[rows] = np.pad(equation[hopeless], ((0, 0), (0, self.answer_length - SYMBOLS)), constant_values=-1)
            ours[rows] = False
        return found

    # ------------------------------------------------------------ text

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        size, symbols = self.bound + 1, self.symbols
        numbers = np.asarray(columns["numbers"])
        shown = np.column_stack([numbers, np.asarray(columns["target"]) + 2 * size])
        shown[:, -2] += size
        prompt = join_words(shown, [f"{number}{mark}" for mark in ",|:" for number in range(size)])
        answers = np.column_stack([self.answers(columns), np.full(len(numbers), -1)])
        before = np.array([1 if k % SYMBOLS else 2 * (k > 0) for k in range(answers.shape[1])])
        words = [f"{mark}{symbol}" for mark in ("", " ", ", ") for symbol in symbols]
        index = np.where(answers < 0, len(symbols) + symbols.index(END), answers + len(symbols) * before)
        return {"prompt": prompt, "completion": join_words(index, words)}

    def parse(self, text: str) -> dict[str, object]:
        """Read `12,7,3|28:`, or with any of its solutions `12,7,3|28:4 = 12 / 3, 28 = 7 * 4 .`

        Returns:
            `numbers` (list), `target` and `answer` (list of indices into `symbols`, or None when the text ends with
            `:`). ValueError if it is no problem of this size, has no solution, or its answer is none.
        """
        line = text.strip()
        found = _LINE.fullmatch(line)
        numbers, target = [*map(int, found[1].split(","))] if found else [], int(found[2]) if found else 0
        if len(numbers) != self.numbers or max(numbers) > self.largest or target > self.bound:
            raise ValueError(
                f"{shorten(line, 80)} is no problem of {self.numbers} numbers up to {self.largest} and a target up to "
                f"{self.bound}; the form is 'a,b,c|d:e = a + b, d = e * c .', and the equations may be missing."
            )
        columns = {"numbers": np.array([numbers]), "target": np.array([target])}
        if not reaches(*columns.values(), self.bound)[0]:
            raise ValueError(f"no equations of the numbers in {shorten(line, 80)} give {target}.")
        answer = self.read_answer(found[3]) if found[3] else None
        if answer is not None and not self.judge(columns, [answer])["exact"][0]:
            raise ValueError(f"the equations in {shorten(line, 80)} are no solution.")
        return {"numbers": numbers, "target": target, "answer": answer}

    # ------------------------------------------------------------ hashes

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the numbers, whatever their order and the target."""
        return hash_rows(np.sort(columns["numbers"], axis=1))

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the numbers, whatever their order, and the target."""
        return hash_rows(np.sort(columns["numbers"], axis=1), columns["target"])


@functools.lru_cache(maxsize=16)
def _chance(task: Countdown) -> float:
    """The share of first results that lead on, by the best of four rules that do not look ahead."""
    columns, rows = task.sample(np.random.default_rng(0), _CHANCE_ROWS), np.arange(_CHANCE_ROWS)
    numbers, target = columns["numbers"], columns["target"]
    first_FN = first_results(numbers, task.bound).reshape(-1, _CHANCE_ROWS)
    right_FN = np.stack([leads_on(numbers, target, first, task.bound) for first in first_FN]) & (first_FN > 0)
    shares = [right_FN.sum(axis=0) / (first_FN > 0).sum(axis=0)]
    for rule_FN in (np.abs(first_FN - target), first_FN, -first_FN):
        shares.append(right_FN[np.where(first_FN > 0, rule_FN, task.bound + 1).argmin(axis=0), rows])
    return float(np.mean(shares, axis=1).max())
