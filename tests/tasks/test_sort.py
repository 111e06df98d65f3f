"""Sorting, copying and reversing: by hand, and what every planted model of them is called: never a failure to plan."""

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise
from task_checks import assert_refused, assert_scored, bad_lines, bad_parameters, read_or_none

from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.tasks.sort import MODES, Sort

SHOWN = [31, 7, 48, 12]
BY_HAND = {"sort": [7, 12, 31, 48], "copy": [31, 7, 48, 12], "reverse": [12, 48, 7, 31]}


@pytest.mark.parametrize("mode", MODES)
def test_line_by_hand(mode):
    """Catches: labels sorted as text (12 before 7), one mode taken for another, columns that share memory."""
    task = Sort(4, 50, mode)
    answer = ",".join(map(str, BY_HAND[mode]))
    assert task.parse(f"31,7,48,12={answer}") == {"labels": SHOWN, "answer": BY_HAND[mode]}
    columns = {"labels": np.array([SHOWN], dtype=np.int32), "answer": np.array([BY_HAND[mode]], dtype=np.int32)}
    texts = {name: text.to_list() for name, text in task.texts(columns).items()}
    assert texts == {"prompt": ["31,7,48,12="], "completion": [answer]}
    assert task.symbols == [*map(str, range(50)), "=", "$"]
    drawn = task.sample(np.random.default_rng(0), 500)
    assert [MODES[mode](row[None])[0].tolist() for row in drawn["labels"]] == drawn["answer"].tolist()
    assert not np.shares_memory(drawn["labels"], drawn["answer"])


def test_names_and_counts():
    """Catches: two sizes or modes with one name; sets counted as orders."""
    named = [Sort(**values) for values in Sort.CONFIGS.values()]
    assert [task.config_name for task in named] == [*Sort.CONFIGS]
    assert {"sort8", "sort16", "copy8", "reverse16"} <= {*Sort.CONFIGS}
    assert len({task.config_name for task in (*named, Sort(8, 51), Sort(8, 60, "copy"))}) == len(named) + 2
    assert (Sort(2, 4).num_problems, Sort(2, 4, "copy").num_problems) == (6, 12)


JUDGED = {
    "right": ([7, 12, 31, 48], [1, 1, 1, 1], True, 0),
    "copied": ([31, 7, 48, 12], [0, 0, 0, 0], False, 1),
    "backwards": ([48, 31, 12, 7], [0, 0, 0, 0], False, 1),
    "two exchanged": ([7, 31, 12, 48], [1, 0, 0, 1], False, 2),
    "one left out": ([7, 12, 48], [1, 1, 0, 0], False, 3),
    "one twice": ([7, 12, 12, 48], [1, 1, 0, 1], False, 3),
    "one that was not shown": ([7, 12, 30, 48], [1, 1, 0, 1], False, 3),
    "goes on": ([7, 12, 31, 48, 48], [1, 1, 1, 1], False, 5),
    "no label": ([7, -1, 31, 48], [1, 0, 1, 1], False, 2),
    "empty": ([], [0, 0, 0, 0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    columns = {"labels": np.array([SHOWN]), "answer": np.array([BY_HAND["sort"]])}
    assert_scored(Sort(4, 50), columns, *JUDGED[case])


@bad_lines(
    ("", "is no row of 4 different labels below 50"),
    ("31,7,48,12", "is no row of 4"),
    ("31,7,48=", "is no row of 4"),
    ("31,7,48,7=", "is no row of 4 different"),
    ("31,7,50,12=", "is no row of 4 different labels below 50"),
    ("31,07,48,12=", "is no row of 4"),
    ("31,7,48,12=31,7,48,12", r"is wrong; it is \[7, 12, 31, 48\]"),
    ("31,7,48,12=7,12,31", r"is wrong; it is \[7, 12, 31, 48\]"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        Sort(4, 50).parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,= "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind on text that a model made up."""
    row = read_or_none(Sort(2, 10), text)
    assert row is None or len({*row["labels"]}) == 2


@bad_parameters(
    ({"length": 1}, "length=1", "length >= 2"),
    ({"length": 51}, "num_labels=50", "num_labels from 51"),
    ({"num_labels": 2**20 + 1}, "num_labels=1048577", "to 1,048,576"),
    ({"num_labels": 2**20, "length": 2**17}, "length=131,072", "fit into text"),
    ({"mode": "shuffle"}, "mode='shuffle'", "'sort', 'copy', 'reverse'"),
    ({"mode": ["sort"]}, "mode=['sort']", "Did you mean 'sort'?"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a size found out only while rows are drawn, or an error without a way out."""
    assert_refused(Sort, parameters, given, repair)


# ---------------------------------------------------------------- planted models


def following(columns, shown, k):
    """Each label from the one before it, as the next in the right order: wherever it is put, it goes on from there."""
    answers = columns["answer"]
    if k == 1:
        return answers[:, 0]
    at = np.argmax(answers == shown[:, k - 2 : k - 1], axis=1)
    return answers[np.arange(len(at)), np.minimum(at + 1, answers.shape[1] - 1)]


def slips(columns, shown, k):
    """Learnt, but at each position wrong in one of twenty rows."""
    lost = np.random.default_rng(k).random(len(columns["labels"])) < 0.05
    return np.where(lost, -1, columns["answer"][:, k - 1])


def forgets(place):
    """Does not know the label of this place in half of the rows; goes on rightly."""

    def step(columns, shown, k):
        lost = (k == place) & (columns["labels"].sum(axis=1) % 2 == 0)
        return np.where(lost, -1, columns["answer"][:, k - 1])

    return step


PLANTED = {
    "solved": (lambda c, shown, k: c["answer"][:, k - 1], "solved"),
    "solved, from one to the next": (following, "solved"),
    "copies": (lambda c, shown, k: c["labels"][:, k - 1], "undertrained"),
    "half of the first": (forgets(1), "undertrained"),
    "half of one in the middle": (forgets(5), "undertrained"),
    "nothing": (lambda c, shown, k: np.full(len(c["labels"]), -1), "undertrained"),
    "small errors everywhere": (slips, "snowballing"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_no_verdict_speaks_of_planning(name):
    """Catches: Clever Hans, an indecipherable token or chance seen in a task in which nothing is to be decided."""
    task = Sort()
    step, verdict = PLANTED[name]
    found = diagnose(Stepwise(task, step), task, task.block(0, "test", 0, rows=2000))
    assert found["verdict"]["name"] == verdict
    assert found["decision_token"] is found["clever_hans"] is found["by_place"] is None
    assert not {"chance", "plan", "Clever"} & {*found["verdict"]["text"].split()}


def test_train_by_heart_is_no_failure_to_plan():
    """Catches: "memorised" for a task without a decision, where it would be about one."""
    task = Sort()
    train, held_out = task.block(0, "train", 0), task.block(0, "test", 0)
    known = task.instance_hash(train)

    def step(columns, shown, k):
        return np.where(np.isin(task.instance_hash(columns), known), columns["answer"][:, k - 1], -1)

    assert diagnose(Stepwise(task, step), task, held_out, train)["verdict"]["name"] == "undertrained"


# ---------------------------------------------------------------- rows and splits


def test_orders_are_uniform():
    """Catches: labels that repeat, are drawn with a bias, or come half sorted."""
    shown = Sort(3, 5).sample(np.random.default_rng(1), 60_000)["labels"]
    places = shown @ [25, 5, 1]
    different = np.unique(places)
    assert len(different) == 60
    assert_uniform(np.searchsorted(different, places), 60)


def test_a_set_is_one_problem_to_sort():
    """Catches: the same labels in another order held out, with the answer known from train; orders of which one is
    copied taken for one problem."""
    rows = {"labels": np.array([SHOWN, SHOWN[::-1]]), "answer": np.array([BY_HAND["sort"]] * 2)}
    for mode in MODES:
        for hash_of in (Sort(4, 50, mode).instance_hash, Sort(4, 50, mode).split_hash):
            assert len({*hash_of(rows).tolist()}) == (1 if mode == "sort" else 2)
