"""Addition: add two numbers of k digits, the most significant digit of the sum first (arXiv 2403.06963, section F.4).

In the order of use: the size, drawing numbers, carries and what has to be planned of them, text, hashes.
Shapes: n rows, K digits of a number, the most significant first; a sum has K + 1.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from nt_failures.registry import shorten
from nt_failures.tasks._text import MAX_TEXT, Text, join_numbers
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, Columns, check_integers
from nt_failures.tasks.facts import Clue
from nt_failures.tasks.hashing import hash_rows

_SALT = 23
"""Of the splits: by this number each of those of two digits has some of the ten groups with nines."""
_DIGITS = "[0-9](?:,[0-9])*"
_LINE = re.compile(rf"({_DIGITS})\+({_DIGITS})=({_DIGITS})?")


@dataclasses.dataclass(frozen=True)
class Addition(Task):
    """Sum of two numbers of `digits` digits, each digit a token, numbers and sum filled up with zeros in front.

    One line of text, for `Addition(3)`, and its tokens:

        prompt      3,5,7+4,4,6=
        tokens      3 5 7 + 4 4 6 =
        completion  0,8,0,3
        position    1 2 3 4     2 is the decision

    **The decision.** Nearly all digits of a sum are look-ups: a digit is that of the two above it and of a carry, and
    the carry shows in the pair to the right. Not so where that pair adds up to nine, as 5+4 here: it hands on what
    comes from behind it, from 7+6 in the example, however many nines stand in a row. Models look ahead by just one
    digit (arXiv 2502.19981). So the decision is the digit before the first such row of nines, at position 1 to K - 1,
    and a sum without one (81 % of them for K = 3) has none.

    **The cheat.** The nines are written as zeros if there is a carry behind them, and as nines if there is none. So
    once the digit before them is shown, whoever adds up two digits reads the carry off it, and need not look behind the
    nines. A detour is the sum with this carry dropped or invented, `0,7,9,3`: wrong at the decision, and then on along
    the nines.

    **Chance.** Behind the nines a carry is as likely as none, as pairs of 10 to 18 are as many as pairs of 0 to 8; if
    nines go on to the units there is none. So the best guess is "no carry", right in (1 + 10^-p) / 2 of the sums with
    p places behind the first nine: 55 % where it is the tens'. That is of all sums. A split has more or fewer whose
    nines go on to the units, so its chance is counted in its rows: for two digits 57 % in train, which has all of them,
    and 50 % held out. Who reads single digits does better: the first number's digit behind the nines, 5 or more, tells
    75 % of the carries of two digits. And of many digits a sum has several rows of nines, of which the first alone is
    the decision: who guesses at the others has 98 % at the worst of the other positions with 8 digits, and with 16 or
    more less than 97 %, so that a verdict of such sums may say that look-ups are not learnt.

    From the units on (`reversed`) the carry of every digit is known before it is needed: nothing is to be decided.

    The paper says that next-token training learns 3 digits in the end, and needs more samples for the cheat. Ours are
    the form of the text, the full width of the sums, and the decision.

    Args:
        digits: of each number, at least 1.

    Example:
        >>> import numpy as np
        >>> from nt_failures.tasks import Addition
        >>> task = Addition(digits=3)
        >>> sums = {name: np.array([value]) for name, value in task.parse("3,5,7+4,4,6=0,8,0,3").items()}
        >>> task.decisions(sums, "forward").tolist(), task.detours(sums, np.random.default_rng(0)).tolist()
        ([2], [[0, 7, 9, 3]])
    """

    digits: int = 3

    citation = "arXiv 2403.06963, section F.4; the text, the full width and the decision are ours"
    PROBLEM, ANSWER, DETOUR = "sum", "result", "wrong carry"
    CONFIGS = {f"digits{k}": {"digits": k} for k in (2, 3, 4, 8)}

    def __post_init__(self) -> None:
        check_integers(self, digits=1)
        most = MAX_TEXT // (BLOCK_ROWS * 2 * len("9,"))  # of which one block of rows can be written as text
        if self.digits > most:
            raise ValueError(f"digits={self.digits:,} is too large; give digits <= {most:,}, which fit into text.")

    @property
    def instruction(self) -> str:
        return (
            f"Two numbers of {self.digits} digits stand with commas between the digits, + between the numbers, and "
            f"then =. Give the sum with {self.digits + 1} digits, zeros in front included, the most significant digit "
            "first, with commas between the digits."
        )

    @property
    def symbols(self) -> list[str]:
        return [*"0123456789", "+", "=", self.DUMMY]

    @property
    def answer_length(self) -> int:
        return self.digits + 1

    @property
    def num_problems(self) -> int:
        """Different sums; a+b is b+a."""
        return 10**self.digits * (10**self.digits + 1) // 2

    @property
    def chance(self) -> float:
        """Of the sums that have a decision, all equally likely; 1 for one digit, which leaves nothing to decide."""
        places = np.arange(1, self.digits)  # behind the first nine
        shares = 0.9 ** (self.digits - 1.0 - places)
        no_carry = (1 + 0.1**places) / 2  # from so many places into a nine
        return float(shares @ no_carry / shares.sum()) if len(places) else 1.0

    def sample(self, rng: np.random.Generator, n: int) -> Columns:
        """Draw n sums: `a`, `b` (n, K), every digit equally likely, and `answer` (n, K + 1), all int32."""
        a, b = rng.integers(0, 10, (2, n, self.digits), dtype=np.int32)
        return {"a": a, "b": b, "answer": _sum(a, b)}

    def decisions(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        first, _ = self._nines(columns)
        return np.where((first < self.digits - 1) & (order == "forward"), first + 1, 0)

    def guess(self, columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
        """That of "no carry": 1 where the nines go on to the units, else 1/2; 1 without a decision."""
        _, behind = self._nines(columns)
        return np.where((self.decisions(columns, order) > 0) & (behind < self.digits), 0.5, 1.0)

    def _nines(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Where the first row of nines begins, (n,), and the place behind its end; both K where there is none.

        Places are counted from 0 at the most significant pair, so each is the index of the digit before in the sum.
        """
        nine = np.asarray(columns["a"]) + np.asarray(columns["b"]) == 9
        place = np.arange(self.digits)
        first = np.where(nine, place, self.digits).min(axis=1, initial=self.digits)
        behind = np.where(~nine & (place > first[:, None]), place, self.digits).min(axis=1, initial=self.digits)
        return first, behind

    def detours(self, columns: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The sum with the carry behind its first row of nines dropped, or invented; right where nothing is decided."""
        answers, (first, behind) = self.answers(columns), self._nines(columns)
        decided, place = self.decisions(columns, "forward")[:, None] > 0, np.arange(self.answer_length)
        inside = decided & (place > first[:, None]) & (place <= behind[:, None])
        carry = np.take_along_axis(answers, np.minimum(first + 1, self.digits)[:, None], axis=1) == 0
        changed = np.where(inside, 9 - answers, answers)  # nines with a carry are zeros
        return np.where(decided & (place == first[:, None]), (answers + np.where(carry, -1, 1)) % 10, changed)

    def clue(self, columns: Mapping[str, np.ndarray]) -> Clue | None:
        """The pair behind the first row of nines; it is never the first one."""
        if self.digits < 2:
            return None
        _, behind = self._nines(columns)
        return Clue("the pair behind the nines", np.clip(behind, 1, self.digits - 1), self.digits - 1)

    def render(self, columns: Mapping[str, np.ndarray]) -> dict[str, Text]:
        between = "," * (self.digits - 1)
        numbers = np.concatenate([columns["a"], columns["b"]], axis=1)
        return {
            "prompt": join_numbers(numbers, f"{between}+{between}="),
            "completion": join_numbers(self.answers(columns), f"{between},"),
        }

    def parse(self, text: str) -> dict[str, object]:
        """Read `3,5,7+4,4,6=`, or with its sum `3,5,7+4,4,6=0,8,0,3`.

        Returns:
            `a`, `b` and `answer`, lists of digits; `answer` is None when the text ends with `=`. ValueError if it is no
            sum of this size, or a wrong one.
        """
        line = text.strip()
        found = _LINE.fullmatch(line)
        read = [[*map(int, part.split(","))] if part else None for part in found.groups()] if found else [[], [], None]
        a, b, answer = read
        if len(a) != self.digits or len(b) != self.digits:
            raise ValueError(
                f"{shorten(line, 80)} is no sum of two numbers of {self.digits} digits; the form is 'a,b+c,d=e,f,g', "
                "most significant digits first, and the result may be missing."
            )
        right = _sum(np.array([a]), np.array([b]))[0].tolist()
        if answer not in (None, right):
            raise ValueError(f"the result {answer} in {shorten(line, 80)} is wrong; it is {right}.")
        return {"a": a, "b": b, "answer": answer}

    def instance_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of the two numbers, whichever stands first."""
        a, b = (hash_rows(np.asarray(columns[name])) for name in ("a", "b"))
        return hash_rows(np.minimum(a, b).view(np.int64), np.maximum(a, b).view(np.int64))

    def split_hash(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash of what each pair adds up to, or of the mirror image, 18 less that: 10^K groups.

        So no table of the sums of pairs holds the result of a held-out sum. Mirrored, a carry is none, and none is one,
        while nines stay nines: in every group, so in train too, both are equally frequent behind the same nines, and
        who knows train by heart is at chance held out. Two digits have 100 groups, ten of them with nines before units.
        """
        pairs = np.asarray(columns["a"]) + np.asarray(columns["b"])
        return hash_rows(np.full(len(pairs), _SALT), np.minimum(pairs, 18 - pairs))


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Digits (n, K + 1) of the sums of numbers (n, K)."""
    pairs = a + b
    found, carry = np.zeros((len(a), a.shape[1] + 1), dtype=np.int32), np.zeros(len(a), dtype=np.int32)
    for k in reversed(range(a.shape[1])):
        carry, found[:, k + 1] = np.divmod(pairs[:, k] + carry, 10)
    found[:, 0] = carry
    return found
