"""Siblings: by hand, what is right and what is new, and what planted models are called."""

import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise
from task_checks import assert_refused, assert_scored, bad_lines, bad_parameters, columns_of, read_or_none

from nt_failures.data.task_config import TaskConfig
from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.diagnosis.report import diagnosis_text, findings
from nt_failures.evaluation.metrics import Scored
from nt_failures.tasks.siblings import LETTERS, Siblings

SMALL = Siblings(2, 4, prefix_length=4, graph_seed=3)
FAMILIES = {"p0": [6, 7, 2, 1], "p1": [4, 5, 3, 0]}
HELD_OUT = [{6, 7}, {7, 1}, {2, 1}]
"""The pairs of validation and test: written down, as a hash cannot be worked out by hand."""
LINE = "Q,C,C,X=6,2,p0"


def pairs(task):
    """Every pair of siblings, read off a great many rows."""
    answers = task.sample(np.random.default_rng(7), 20_000)["answer"]
    return {(frozenset(row[:2]), row[2]) for row in answers.tolist()}


def test_line_by_hand():
    """Catches: letters or children counted from elsewhere, a parent that is a child's label, a prompt that tells."""
    assert SMALL.symbols == [*map(str, range(8)), "p0", "p1", *LETTERS, "=", "$"]
    row = SMALL.parse(LINE)
    assert row == {"prefix": [16, 2, 2, 23], "answer": [6, 2, 8]}
    assert SMALL.parse("Q,C,C,X=") == {"prefix": [16, 2, 2, 23], "answer": None}
    texts = {name: text.to_list() for name, text in SMALL.texts(columns_of(SMALL, LINE)).items()}
    assert texts == {"prompt": ["Q,C,C,X="], "completion": ["6,2,p0"]}
    empty = Siblings(2, 4, prefix_length=0, graph_seed=3)
    assert empty.parse("=6,2,p0") == {"answer": [6, 2, 8]}
    assert empty.texts(columns_of(empty, "=6,2,p0"))["prompt"].to_list() == ["="]
    assert {*empty.sample(np.random.default_rng(0), 1)} == {"answer"}


def test_every_pair_of_the_graph_and_no_other():
    """Catches: another graph in each split or row, a child twice, a family that lacks a child."""
    wanted = {
        (frozenset(pair), SMALL.symbols.index(parent))
        for parent, children in FAMILIES.items()
        for pair in itertools.combinations(children, 2)
    }
    assert pairs(SMALL) == wanted
    assert SMALL.num_answers == len(wanted) == 12
    found = set()
    for split in ("train", "validation", "test"):
        for seed in (0, 5):
            answers = SMALL.block(seed, split, 0)["answer"].tolist()
            mine = {frozenset(row[:2]) for row in answers}
            assert all((pair in HELD_OUT) == (split != "train") for pair in mine)
            found |= mine
    assert len(found) == 12
    assert pairs(Siblings(2, 4, 4)) != wanted


def test_named_sizes():
    """Catches: two sizes or graphs with one name; the graph's seed as something that makes a task harder."""
    named = [Siblings(**values) for values in Siblings.CONFIGS.values()]
    assert [task.config_name for task in named] == [*Siblings.CONFIGS]
    assert Siblings().config_name == "parents5-children500-prefix10"
    assert len({task.config_name for task in (*named, Siblings(graph_seed=1), Siblings(graph_seed=2))}) == 6
    assert Siblings().factors == {"num_parents": 5, "num_children": 500}
    assert (Siblings().num_answers, Siblings(prefix_length=2).num_problems) == (623_750, 676)
    few = TaskConfig(task=Siblings(prefix_length=2), num_train=100, num_test=2028)
    said = (
        "2,028 rows of only about 676 different prompts, so each comes about 3 times; every n counts different prompts."
    )
    assert few.too_small() == [f"test: {said}"]


JUDGED = {
    "of train": ([6, 2, 8], [1, 1, 1], True, 0),
    "the other way round": ([2, 6, 8], [1, 1, 1], True, 0),
    "held out": ([7, 1, 8], [1, 1, 1], True, 0),
    "of the other parent": ([4, 0, 9], [1, 1, 1], True, 0),
    "strangers, the parent of the first": ([6, 4, 8], [1, 0, 1], False, 2),
    "strangers, the parent of the second": ([6, 4, 9], [1, 0, 1], False, 2),
    "one child twice": ([6, 6, 8], [1, 0, 1], False, 2),
    "another's parent": ([6, 2, 9], [1, 1, 0], False, 3),
    "a child for the parent": ([6, 2, 7], [1, 1, 0], False, 3),
    "the parent first": ([8, 6, 2], [0, 0, 0], False, 1),
    "a letter": ([10, 6, 8], [0, 0, 1], False, 1),
    "no symbol": ([-1, -1, -1], [0, 0, 0], False, 1),
    "stops early": ([6, 2], [1, 1, 0], False, 3),
    "goes on": ([6, 2, 8, 8], [1, 1, 1], False, 4),
    "empty": ([], [0, 0, 0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it; new what is wrong, or what train may have had."""
    columns = columns_of(SMALL, LINE)
    assert_scored(SMALL, columns, *JUDGED[case])
    answer, _, exact, _ = JUDGED[case]
    judged = SMALL.judge(columns, [answer])
    assert judged["coherent"].tolist() == [exact]
    assert judged["unseen"].tolist() == [exact and {*answer[:2]} in HELD_OUT]


def test_one_pair_is_one_answer():
    """Catches: a turned pair counted as another one, and so a train pair written backwards as new."""
    judged = SMALL.judge(columns_of(SMALL, *[LINE] * 3), [[7, 1, 8], [1, 7, 8], [2, 1, 8]])
    assert judged["written"][0] == judged["written"][1] != judged["written"][2]
    columns = columns_of(SMALL, LINE, "Q,C,C,X=2,6,p0", "A,A,A,A=6,2,p0", "A,A,A,A=7,1,p0")
    split, prompts = SMALL.split_hash(columns), SMALL.instance_hash(columns)
    assert len({*split[:3]}) == 1
    assert split[3] != split[0]
    assert [prompts[i] == prompts[0] for i in range(4)] == [True, True, False, False]
    empty = Siblings(2, 4, prefix_length=0)
    assert len({*empty.instance_hash(empty.sample(np.random.default_rng(0), 50)).tolist()}) == 1


def test_what_is_new_was_never_drawn():
    """Catches: a train row of another seed that counts as new; a test row that does not."""
    task = Siblings(5, 20)
    for split, new in (("train", False), ("validation", True), ("test", True)):
        for seed in (0, 1):
            columns = task.block(seed, split, 0, rows=500)
            judged = task.judge(columns, columns["answer"].tolist())
            assert judged["exact"].all()
            assert {*judged["unseen"].tolist()} == {new}


FORCED = {  # of the written 6,2,p0: what is right at each position, in the order of writing and backwards
    "written": ([6, 2, 8], [1, 1, 1], [1, 1, 1]),
    "another triple": ([4, 0, 9], [1, 0, 0], [0, 0, 1]),
    "other children": ([7, 1, 8], [1, 1, 1], [1, 1, 1]),
    "the same child twice": ([2, 6, 8], [1, 0, 1], [0, 1, 1]),
    "other kinds": ([8, 9, 6], [0, 0, 0], [0, 0, 0]),
    "nothing": ([-1, -1, -1], [0, 0, 0], [0, 0, 0]),
    "letters": ([10, 35, 10], [0, 0, 0], [0, 0, 0]),
}


@pytest.mark.parametrize("case", FORCED)
@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_forced_by_hand(case, order):
    """Catches: a first child, or backwards a parent, called wrong because the written answer goes on otherwise; a
    second child that is the first."""
    predicted, *right = FORCED[case]
    found = Scored.of_forced(SMALL, columns_of(SMALL, LINE), np.array([predicted]), order)
    assert found.right.tolist() == [[bool(r) for r in right[order == "reversed"]]]
    assert found.exact.tolist() == [found.right.all()]


@bad_lines(
    ("", "is no prompt of 4 letters"),
    ("Q,C,C,X", "is no prompt of 4 letters"),
    ("Q,C,C=6,2,p0", "is no prompt of 4 letters"),
    ("q,c,c,x=6,2,p0", "is no prompt of 4 letters"),
    ("Q,C,C,X=6,2", "the answer '6,2' .* is wrong"),
    ("Q,C,C,X=6,6,p0", "the answer '6,6,p0' .* is wrong"),
    ("Q,C,C,X=6,4,p0", "is wrong; give two siblings"),
    ("Q,C,C,X=6,2,p1", "is wrong"),
    ("Q,C,C,X=6,2,p0,p0", "is wrong"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        SMALL.parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,=pAB "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind on text that a model made up."""
    row = read_or_none(Siblings(2, 4, prefix_length=1), text)
    assert row is None or len(row["prefix"]) == 1


@bad_parameters(
    ({"num_parents": 1}, "num_parents=1", "num_parents >= 2"),
    ({"num_children": 1}, "num_children=1", "num_children >= 2"),
    ({"prefix_length": -1}, "prefix_length=-1", "prefix_length >= 0"),
    ({"graph_seed": True}, "graph_seed=True", "graph_seed >= 0"),
    ({"num_parents": 1024, "num_children": 1025}, "num_parents=1024", "at most 1,048,576"),
    ({"prefix_length": 10**6}, "prefix_length=1,000,000", "give at most"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a size found out only while rows are drawn, or an error without a way out."""
    assert_refused(Siblings, parameters, given, repair)


def test_pairs_and_letters_are_uniform():
    """Catches: a parent or a child preferred, an order of two that tells something, letters that go with the pair."""
    task = Siblings(3, 4, prefix_length=2)
    drawn = task.sample(np.random.default_rng(1), 60_000)
    ordered, which = np.unique(drawn["answer"] @ [144, 12, 0], return_inverse=True)
    assert len(ordered) == 3 * 4 * 3
    assert_uniform(which, 36)
    assert_uniform(drawn["prefix"] @ [26, 1], 676)
    assert_uniform((drawn["answer"][:, 2] - 12) * 26 + drawn["prefix"][:, 0], 78)
    assert_uniform(Siblings(5, 500).sample(np.random.default_rng(2), 60_000)["answer"][:, 1], 2500)


# ---------------------------------------------------------------- models

TASK = Siblings(5, 100)
KNOWN = TASK.block(0, "train", 0, rows=300)["answer"]
FAMILY = np.array([[child for child in range(500) if TASK._parents(np.array([child]))[0] == 500 + j] for j in range(5)])


def drawn(columns, k, below):
    """A number for each prompt and position, the same whenever it is asked."""
    return ((TASK.instance_hash(columns) >> np.uint64(13 * k)) % np.uint64(below)).astype(np.int64)


def sibling(columns, child, k):
    """Another child of the same parent."""
    family = FAMILY[TASK._parents(child) - 500]
    here = np.argmax(family == child[:, None], axis=1)
    return family[np.arange(len(child)), (here + 1 + drawn(columns, k, 99)) % 100]


def planner(columns, shown, k):
    """Solved: any child, a sibling of it, and their parent."""
    if k == 1:
        return drawn(columns, 1, 500)
    return sibling(columns, shown[:, 0], 2) if k == 2 else TASK._parents(shown[:, 1])


def cheat(columns, shown, k):
    """The Clever Hans of this task: two children, whichever, and the parent read off the one before."""
    return drawn(columns, k, 500) if k < 3 else TASK._parents(shown[:, 1])


def memoriser(columns, shown, k):
    """Knows 300 train rows, and nothing else."""
    return KNOWN[drawn(columns, 1, 300), k - 1]


def parrot(columns, shown, k):
    """Writes one right answer, which is new, to every prompt."""
    return np.full(len(shown), TASK.block(0, "test", 0, rows=1)["answer"][0, k - 1])


def guesser(columns, shown, k):
    """Any child or parent, anywhere."""
    return drawn(columns, k, 505)


def mostly(columns, shown, k):
    """One answer in three is the planner's, the others are the memoriser's."""
    return np.where(drawn(columns, 3, 3) == 0, planner(columns, shown, k), memoriser(columns, shown, k))


@pytest.mark.parametrize(
    ("step", "verdict", "exact", "unseen", "creativity"),
    [
        (planner, "solved", 1.0, 0.25, 0.24),
        (cheat, "indecipherable token", 0.2, 0.05, 0.05),
        (memoriser, "memorised", 1.0, 0.0, 0.0),
        (parrot, "memorised", 1.0, 1.0, 1 / 2000),
        (guesser, "undertrained", 0.0, 0.0, 0.0),
        (mostly, "memorised", 1.0, 0.083, 0.083),
    ],
)
def test_verdicts(step, verdict, exact, unseen, creativity):
    """Catches: who knows train by heart, or one answer, called solved; a guess of the second sibling that is not found
    at chance; the first child called unlearnt as it is another than the written one."""
    columns = TASK.block(0, "test", 0, rows=2000)
    found = diagnose(Stepwise(TASK, step), TASK, columns)
    new = found["originality"]
    assert found["verdict"]["name"] == verdict
    assert found["forced_vs_free"]["exact"] == pytest.approx(exact, abs=0.03)
    assert (new["unseen"], new["creativity"]) == pytest.approx((unseen, creativity), abs=0.025)
    assert new["ideal"] == pytest.approx(0.25 * 24_750 * (1 - (1 - 1 / 24_750) ** 2000) / 2000)
    assert "New and different" in found["verdict"]["text"]
    assert found["decision_token"]["chance"] == pytest.approx(99 / 499)
    assert found["clever_hans"] is None
    assert "n = 2,000 different held-out prompts" in diagnosis_text(found, TASK)
    assert any(line.startswith("new triples, right and surely of no train row") for line in findings(found, TASK.words))


class Backwards(Stepwise):
    """Writes the parent, then children of it."""

    order = "reversed"

    def __init__(self):
        super().__init__(TASK, None)

    def forced(self, columns, answers):
        parent = 500 + drawn(columns, 3, 5)
        last = FAMILY[answers[:, 2] - 500, drawn(columns, 2, 100)]
        return np.stack([sibling(columns, answers[:, 1], 1), last, parent], axis=1)

    def free(self, columns):
        parent = 500 + drawn(columns, 3, 5)
        last = FAMILY[parent - 500, drawn(columns, 2, 100)]
        return np.stack([sibling(columns, last, 1), last, parent], axis=1)


def test_from_the_parent_on_all_is_a_look_up():
    """Catches: a parent, or a child, called wrong as the written answer has another; a decision where none is."""
    found = diagnose(Backwards(), TASK, TASK.block(0, "test", 0, rows=2000))
    assert found["verdict"]["name"] == "solved"
    assert found["forced_vs_free"]["forced"] == found["forced_vs_free"]["free"] == {1: 1.0, 2: 1.0, 3: 1.0}
    assert found["decision_token"] is None
    assert found["originality"]["creativity"] == pytest.approx(0.24, abs=0.03)


def test_one_prompt_is_one_answer():
    """Catches: a verdict on a thousand rows that all ask the same, and that a greedy model answers once."""
    task = Siblings(5, 100, prefix_length=0)
    found = diagnose(Stepwise(task, parrot), task, task.block(0, "test", 0, rows=1000))
    assert found["forced_vs_free"]["n"] == 1
    assert found["verdict"]["name"] == "undertrained"
    assert "of only 1 different prompt" in found["verdict"]["text"]
