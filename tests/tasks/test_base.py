"""What every task inherits: text, reading, judging, hashes and splits that a task of one's own need not write."""

import dataclasses
import re

import numpy as np
import pytest
from own_tasks import Countdown, Pair, counted

from nt_failures.tasks import Text
from nt_failures.tasks.base import Task
from nt_failures.tasks.hashing import hash_rows, mix64
from nt_failures.tasks.judging import padded_answers
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.unequal_star import UnequalStar

TASK = Countdown()
ROWS = counted(3, 1, 4)


# ---------------------------------------------------------------- text


def test_completions_are_filled_up_with_the_end():
    """Catches: text that tells by its length how long the answer has to be; a longest answer without its end; an
    answer's -1 written as a symbol."""
    texts = TASK.texts(ROWS)
    assert texts["prompt"].to_list() == ["3=", "1=", "4="]
    assert texts["completion"].to_list() == ["3,2,1 . .", "1 . . . .", "4,3,2,1 ."]


def test_completions_without_an_end():
    """Catches: ends behind answers that all have the same length."""
    columns = {"answer": np.array([[2, 5], [0, 9]]), "shown": np.array([[2, 5], [0, 9]])}
    assert Pair().texts(columns)["completion"].to_list() == ["2,5", "0,9"]


def rendering(given):
    """A `Countdown` that renders what it is told to."""
    return type("Own", (Countdown,), {"render": lambda task, columns: given})()


def test_a_completion_of_ones_own_is_kept():
    """Catches: the default written over a task's own text, or made from answers that are no symbols; a list of strings
    that is refused, or a Text that is copied."""
    own = Text.from_list(["a", "b", "c"])
    texts = rendering({"prompt": ["x", "y", "z"], "completion": own}).texts({"answer": np.full((3, 4), 99)})
    assert texts["completion"] is own
    assert texts["prompt"].to_list() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "gives []; give `prompt` and `completion`"),
        ({"completion": ["a"]}, "gives ['completion']; give `prompt` and `completion`"),
        ({"prompt": ["a"], "edges": ["b"]}, "gives ['edges', 'prompt']; give `prompt` and `completion`"),
        ({"prompt": [1, 2]}, "gives [1, 2] for 'prompt'; give a list of strings"),
    ],
)
def test_text_that_is_none(given, message):
    """Catches: a task's slip that shows as a crash of Arrow in the middle of building."""
    with pytest.raises(ValueError, match=re.escape(message)):
        rendering(given).texts(counted(1))


def test_answers_that_cannot_be_written():
    """Catches: a shorter answer without END written as if it were whole; labels in place of indices read as other
    symbols, or as an IndexError."""
    endless = type("Endless", (Countdown,), {"symbols": ["0", "1", "2", "3", "4", "=", "$"]})()
    assert endless.texts(counted(4))["completion"].to_list() == ["4,3,2,1"]
    with pytest.raises(
        ValueError, match=r"the answers of Endless differ in length, and END, '\.', is not among its sym"
    ):
        endless.texts(ROWS)
    for wrong in (8, -2, 100):
        with pytest.raises(ValueError, match="the answers of Countdown are no indices into its 8 symbols"):
            TASK.texts({"start": np.array([1]), "answer": np.array([[wrong, -1, -1, -1]])})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3,2,1 . .", [3, 2, 1]),
        ("3 2 1 .", [3, 2, 1]),
        (" 3,2 ,1", [3, 2, 1]),
        (". 3,2", []),
        ("3,x,1 .", [3, -1, 1]),
        ("03,7,$,-1,[PAD] .", [-1] * 5),
        ("=,2", [5, 2]),
        ("3,.2 .", [3, -1]),
        ("", []),
    ],
)
def test_answers_are_read_up_to_their_end(text, answer):
    """Catches: what stands behind the end judged, too; symbols of the prompt or the dummy that are dropped, which
    moves all later ones; a number that reads as another."""
    assert TASK.read_answer(text) == answer


def test_text_comes_back():
    """Catches: an answer that is read as another than it was written as, shorter ones above all."""
    columns = TASK.block(0, "train", 0, overlap="allow", rows=200)
    answers = [[i for i in row if i != -1] for row in columns["answer"].tolist()]
    assert {len(answer) for answer in answers} == {1, 2, 3, 4}
    assert [TASK.read_answer(text) for text in TASK.texts(columns)["completion"].to_list()] == answers


def test_a_task_that_reads_nothing_back_says_so():
    """Catches: None in place of a row, or an AttributeError."""
    with pytest.raises(ValueError, match="Countdown reads no text back: it has no `parse`"):
        TASK.parse("3=")
    with pytest.raises(ValueError, match="Countdown has no wrong start that goes on consistently: it has no `detours`"):
        TASK.detours(ROWS, np.random.default_rng(0))


# ---------------------------------------------------------------- judging

T, F = True, False
JUDGED = {
    # Of a row that begins at 3 among answers of at most 4 symbols: correct, exact, first error.
    "right": ([3, 2, 1], [T, T, T, F], True, 0),
    "too short": ([3, 2], [T, T, F, F], False, 3),
    "nothing": ([], [F, F, F, F], False, 1),
    "too long": ([3, 2, 1, 0], [T, T, T, F], False, 4),
    "too long by no symbol": ([3, 2, 1, -1], [T, T, T, F], False, 4),
    "longer than any": ([3, 2, 1, 0, 0, 0], [T, T, T, F], False, 4),
    "wrong, then right": ([0, 2, 1], [F, T, T, F], False, 1),
    "wrong and too long": ([3, 0, 1, 0], [T, F, T, F], False, 2),
    "no symbol": ([3, -1, 1], [T, F, T, F], False, 2),
}


@pytest.mark.parametrize("case", JUDGED)
def test_shorter_answers_are_judged_by_hand(case):
    """Catches: an answer that goes on behind its end called right, -1 that fits the -1 behind the end of a shorter
    answer, a position that the row lacks called correct."""
    answer, correct, exact, first_error = JUDGED[case]
    judged = TASK.judge(counted(3), [answer])
    assert {name: column.tolist() for name, column in judged.items()} == {
        "correct": [correct],
        "exact": [exact],
        "first_error": [first_error],
    }


def test_rows_of_several_lengths_are_judged_each_for_itself():
    """Catches: the length of the longest answer asked of every row, or that of a neighbour."""
    judged = TASK.judge(ROWS, [[3, 2, 1], [1, 0], [4, 3, 2]])
    assert judged["exact"].tolist() == [True, False, False]
    assert judged["first_error"].tolist() == [0, 2, 4]
    assert judged["correct"].sum(axis=1).tolist() == [3, 1, 3]
    assert TASK.lengths(ROWS).tolist() == [3, 1, 4]


def test_answers_that_are_none():
    """Catches: numbers rounded to labels, answers that are shifted by one that is missing."""
    assert [column.tolist() for column in padded_answers([[1, 2, 3], []], 2, 2)] == [[[1, 2], [-1, -1]], [3, 0]]
    with pytest.raises(ValueError, match="2 answers for 3 instances"):
        TASK.judge(ROWS, [[3], [1]])
    for answer in ([1.5], "3,2", [[3], [2, 1]], [None], 3):
        with pytest.raises(ValueError, match=r"answer 2, .* is no list of node labels or other symbols"):
            TASK.judge(ROWS, [[3], answer, [4]])


def test_which_tasks_have_one_answer():
    """Catches: a judge of one's own that is not asked, or one that need not be asked and costs a decoding."""
    own = type("AnyArm", (PathStar,), {"judge": lambda self, columns, answers: PathStar.judge(self, columns, answers)})
    found = (TASK.one_answer, Pair().one_answer, PathStar().one_answer, UnequalStar().one_answer, own().one_answer)
    assert found == (True, False, True, True, False)


def test_defaults_of_a_task_without_decision():
    """Catches: a decision where the task names none; a chance other than 1 there; the problem called path or arm."""
    for order in ("forward", "reversed"):
        assert TASK.decisions(ROWS, order).tolist() == [0, 0, 0]
        assert TASK.guess(ROWS, order).tolist() == [1.0, 1.0, 1.0]
    assert TASK.words == ("problem", "answer", "wrong start")
    assert PathStar().words == ("graph", "path", "wrong arm")
    assert TASK.clue(ROWS) is None
    assert TASK.picture({"start": 1}, [1]) is None
    assert TASK.num_problems == float("inf")
    # The arms may be swapped, and each of the two ends may be the goal.
    assert PathStar(2, 3, 7).num_problems == 7 * 6 * 5 * 4 * 3 / 2 * 2


def test_decisions_and_chance_of_every_row_by_default():
    """Catches: the decision of one order given for the other; one row for all."""
    columns = PathStar(4, 5, 50).block(0, "test", 0, rows=3)
    assert PathStar(4, 5, 50).decisions(columns, "forward").tolist() == [2, 2, 2]
    assert PathStar(4, 5, 50).decisions(columns, "reversed").tolist() == [4, 4, 4]
    assert PathStar(4, 5, 50).guess(columns, "forward").tolist() == [0.25, 0.25, 0.25]


def test_the_star_to_draw():
    """Catches: the model's answer drawn as the right path."""
    row = {"edges": [[0, 1], [1, 2], [0, 3], [3, 4]], "source": 0, "goal": 2, "path": [0, 1, 2]}
    star = PathStar(2, 3, 10).picture(row, [0, 3, 2])
    assert vars(star) == {**row, "answer": [0, 3, 2], "cut": (), "note": "", "right": None}


def test_training_rows_of_their_own():
    """Catches: `train_sample` drawn for the other splits, too, or for none."""
    own = type("Own", (Countdown,), {"train_sample": lambda task, rng, n: counted(*[2] * n)})()
    assert set(own.block(0, "train", 0, "allow", rows=50)["start"].tolist()) == {2}
    assert set(own.block(0, "test", 0, "allow", rows=50)["start"].tolist()) == {1, 2, 3, 4}


# ---------------------------------------------------------------- hashes and splits


def test_hashes_do_not_depend_on_how_many_are_made_at_once():
    """Catches: a row hashed with the source of another; no rows at all."""
    task = PathStar(2, 5, 50)
    rows, none = task.block(0, "train", 0, rows=20), task.sample(np.random.default_rng(0), 0)
    for hash_of in (task.split_hash, task.instance_hash):
        alone = [hash_of({name: column[i : i + 1] for name, column in rows.items()}).item() for i in range(20)]
        assert hash_of(rows).tolist() == alone
        assert len(hash_of(none)) == 0


def test_hash_of_rows_by_hand():
    """Catches: columns that may change places, entries whose sum alone counts, a row that depends on its neighbours,
    other bits for other kinds of whole numbers."""
    once = mix64(mix64(np.uint64(0) ^ np.array([5], dtype=np.uint64)) ^ np.uint64(7))
    assert hash_rows(np.array([[5, 7]])).tolist() == once.tolist() == hash_rows(np.array([5]), np.array([7])).tolist()
    rows = np.array([[1, 2], [2, 1], [0, 3], [1, 2]], dtype=np.int8)
    hashed = hash_rows(rows)
    assert hashed.dtype == np.uint64
    assert hashed[0] == hashed[3]
    assert len({*hashed.tolist()}) == 3
    assert hash_rows(rows[::-1].astype(np.int64)).tolist() == hashed[::-1].tolist()
    assert hash_rows(rows.astype(np.uint8).reshape(4, 1, 2)).tolist() == hashed.tolist()
    assert hash_rows(np.array([-1])) != hash_rows(np.array([1]))


def test_a_problem_is_all_columns_but_the_answer():
    """Catches: the same question with another answer in train and in test; the order of the columns that decides."""
    other = {"answer": ROWS["answer"][::-1], "start": ROWS["start"]}
    assert TASK.instance_hash(other).tolist() == TASK.instance_hash(ROWS).tolist()
    assert TASK.split_hash(ROWS).tolist() == TASK.instance_hash(ROWS).tolist()
    assert len({*TASK.instance_hash(ROWS).tolist()}) == 3


def test_a_star_and_its_goals_lie_in_one_split():
    """Catches: the same star with the other goal in train, by which a model that knows stars by heart is wrong more
    often than chance; a star with another source called the same."""
    task = PathStar(2, 3, 10)
    columns = task.block(0, "train", 0, "allow", rows=500)
    leaves = columns["edges"][..., 1]
    other_goal = np.array(
        [
            next(leaf for leaf in row if leaf not in edges[:, 0] and leaf != goal)
            for row, edges, goal in zip(leaves, columns["edges"], columns["goal"], strict=True)
        ]
    )
    turned = {**columns, "goal": other_goal}
    assert (task.split_of(turned) == task.split_of(columns)).all()
    assert (task.split_hash(turned) == task.split_hash(columns)).all()
    assert (task.instance_hash(turned) != task.instance_hash(columns)).all()
    elsewhere = {**columns, "source": columns["goal"]}
    assert (task.split_hash(elsewhere) != task.split_hash(columns)).all()


def test_splits_mix_the_bits_of_a_hash():
    """Catches: a hash of small numbers, all of which would be in train because their first bits are 0."""
    small = type("Small", (Countdown,), {"split_hash": lambda task, columns: columns["start"].astype(np.uint64)})
    task = small(highest=4000)
    split, counts = np.unique(task.split_of({"start": np.arange(4000)}), return_counts=True)
    assert dict(zip(split.tolist(), counts.tolist(), strict=True)) == {
        "train": pytest.approx(3000, abs=110),
        "validation": pytest.approx(500, abs=85),
        "test": pytest.approx(500, abs=85),
    }


# ---------------------------------------------------------------- writing one


def test_a_field_without_the_decorator_is_refused():
    """Catches: a task whose parameters are ignored, so that two sizes have one cache folder, because @dataclass is
    missing above it; class constants, or a subclass without fields, that are refused."""

    class Bare(Countdown):
        lowest: int = 1
        name: "str" = "x"

    class Untyped(Countdown):
        highest = 3

    @dataclasses.dataclass(frozen=True)
    class Decorated(Countdown):
        highest = 3

    @dataclasses.dataclass(frozen=True)
    class Below(Untyped):
        lowest: int = 1

    for lost, named, kind in (
        ("lowest, name", Bare, Bare),
        ("highest", Untyped, Untyped),
        ("highest", Decorated, Decorated),
        ("highest", Untyped, Below),
    ):
        with pytest.raises(ValueError, match=rf"{named.__name__} sets {lost}, which .* @dataclasses.dataclass\(frozen"):
            kind()

    @dataclasses.dataclass(frozen=True, slots=True)
    class Slots(Countdown):
        lowest: int = 1

    assert Slots(highest=3).lowest == 1

    class Constant(Countdown):
        from typing import ClassVar

        PROBLEM: ClassVar[str] = "sum"
        limit: "ClassVar[int]" = 3

    assert Constant(highest=2).words.problem == "sum"

    class Derived(Countdown):
        pass

    assert Derived(highest=3).highest == 3
    decorated = dataclasses.dataclass(frozen=True)(Bare)
    assert decorated(highest=3, lowest=2).to_dict() == {"highest": 3, "lowest": 2, "name": "x"}


def test_names_of_sizes():
    """Catches: a folder whose name a file system or the Hub refuses; two sizes in one folder; an empty name."""
    assert Countdown(7).config_name == "highest7"

    @dataclasses.dataclass(frozen=True)
    class Odd(Countdown):
        words_: str = "a/b c"

    assert Odd(7).config_name == "highest7-words_a_b_c"
    same = dict.fromkeys(("symbols", "answer_length", "sample", "render"))
    assert type("Sizeless", (Task,), same)().config_name == "default"
