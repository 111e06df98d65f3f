"""Hops on a cycle: by hand, with the way and without, and what planted models of them are called."""

import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise
from task_checks import assert_refused, assert_scored, bad_lines, bad_parameters, columns_of, read_or_none

from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.diagnosis.report import findings
from nt_failures.tasks.hops import Hops

PROMPT = "3,0|4,2|0,4|1,3|2,1/3,k2="
EDGES = [(3, 0), (4, 2), (0, 4), (1, 3), (2, 1)]


@pytest.mark.parametrize(("way", "completion", "answer"), [(False, "4", [4]), (True, "0,4 . .", [0, 4, -1])])
def test_line_by_hand(way, completion, answer):
    """Catches: the source counted as the first hop, pairs read backwards, a way that is not filled up."""
    task = Hops(5, 3, way)
    read = task.parse(PROMPT + completion)
    assert read == {"edges": EDGES, "source": 3, "hops": 2, "answer": answer}
    assert task.parse(PROMPT) == {**read, "answer": None}
    columns = {name: np.array([value]) for name, value in read.items()}
    texts = {name: text.to_list() for name, text in task.texts(columns).items()}
    assert texts == {"prompt": [PROMPT], "completion": [completion]}
    assert task.symbols == [*"01234", "k1", "k2", "k3", "|", "/", "=", *(["."] if way else []), "$"]
    assert (task.config_name, task.answer_length) == ("nodes5-hops3" + "-way" * way, 3 if way else 1)


@pytest.mark.parametrize("way", [False, True])
def test_every_row_is_one_cycle(way):
    """Catches: permutations of several cycles, a way that leaves the pairs, k out of range (parse checks all of it)."""
    task = Hops(7, 6, way)
    columns = task.sample(np.random.default_rng(0), 200)
    texts = {name: text.to_list() for name, text in task.texts(columns).items()}
    for i, (prompt, completion) in enumerate(zip(texts["prompt"], texts["completion"], strict=True)):
        row = task.parse(prompt + completion)
        assert {name: np.asarray(value).tolist() for name, value in row.items()} == {
            name: column[i].tolist() for name, column in columns.items()
        }
    assert {*columns["hops"].tolist()} == {1, 2, 3, 4, 5, 6}
    assert np.array_equal(task.difficulty(columns)["hops"], columns["hops"])


JUDGED = {  # with the way, of two hops
    "right": ([0, 4], [1, 1, 0], True, 0),
    "the last node alone": ([4], [0, 0, 0], False, 1),
    "one hop too few": ([0], [1, 0, 0], False, 2),
    "one hop too many": ([0, 4, 2], [1, 1, 0], False, 3),
    "from the source on": ([3, 0], [0, 0, 0], False, 1),
    "backwards": ([1, 2], [0, 0, 0], False, 1),
    "a wrong turn": ([0, 2], [1, 0, 0], False, 2),
    "no label": ([0, -1], [1, 0, 0], False, 2),
    "a number of hops": ([0, 6], [1, 0, 0], False, 2),
    "empty": ([], [0, 0, 0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    task = Hops(5, 3, way=True)
    assert_scored(task, columns_of(task, PROMPT + "0,4 . ."), *JUDGED[case])


@pytest.mark.parametrize("answer", [[3], [0], [2], [1], [-1], [], [4, 4], [0, 4]])
def test_one_node_by_hand(answer):
    """Catches: any node on the way taken for the last one."""
    task = Hops(5, 3)
    assert not task.judge(columns_of(task, PROMPT + "4"), [answer])["exact"][0]
    assert task.judge(columns_of(task, PROMPT + "4"), [[4]])["exact"][0]


@bad_lines(
    ("", "not a line of hops"),
    (PROMPT.replace("=", ""), "not a line of hops"),
    (PROMPT.replace("k2", "2"), "not a line of hops"),
    (PROMPT.replace("3,0|", "03,0|"), "not a line of hops"),
    (PROMPT.replace("3,0|", ""), "is not one cycle of the labels 0 to 4"),
    (PROMPT.replace("3,0|", "3,0|3,0|"), "is not one cycle of the labels"),
    (PROMPT.replace("3,0|4,2", "3,2|4,0"), "is not one cycle of the labels"),  # two cycles
    (PROMPT.replace("4", "5"), "is not one cycle of the labels 0 to 4"),
    (PROMPT.replace("k2", "k4"), "with 1 to 3 hops"),
    (PROMPT.replace("k2", "k0"), "with 1 to 3 hops"),
    (PROMPT + "0", r"the answer '0' .* is wrong; it is \[4\]"),
    (PROMPT + "0,4", r"is wrong; it is \[4\]"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        Hops(5, 3).parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,|/k=. "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind, or a hang, on text that a model made up."""
    row = read_or_none(Hops(3, 2), text)
    assert row is None or len({*row["edges"]}) == 3


@bad_parameters(
    ({"num_nodes": 2}, "num_nodes=2", "num_nodes >= 3"),
    ({"hops": 0}, "hops=0", "hops >= 1"),
    ({"hops": 20}, "hops=20", "hops <= 19"),
    ({"way": 1}, "way=1", "True or False"),
    ({"num_nodes": 10**6}, "num_nodes=1,000,000", "give at most"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a size found out only while rows are drawn, or an error without a way out."""
    assert_refused(Hops, parameters, given, repair)


# ---------------------------------------------------------------- the decision


def test_a_decision_is_only_the_end_of_the_way_backwards():
    """Catches: a decision where every symbol is a look-up, or where one symbol is all there is; one hop guessed."""
    for way, order, expected in [(False, "forward", 0), (False, "reversed", 0), (True, "forward", 0)]:
        task = Hops(9, 8, way)
        columns = task.sample(np.random.default_rng(0), 100)
        assert {*task.decisions(columns, order).tolist()} == {expected}
        assert {*task.guess(columns, order).tolist()} == {1.0}
    decisions = task.decisions(columns, "reversed")
    assert np.array_equal(decisions, np.where((columns["hops"] > 1) & (columns["hops"] < 8), columns["hops"], 0))


def test_chance_by_counting():
    """Catches: a guesser who is told too little, or too much: he sees one step ahead and one back."""
    size = 6
    for k in range(1, size):
        ends = set()
        for rest in itertools.permutations(range(2, size - 1)):  # the cycle 0, 1, ..., size - 1 but for what is between
            ends.add([0, 1, *rest, size - 1][k])
        task = Hops(size, size - 1, way=True)
        columns = {"hops": np.array([k]), "answer": np.zeros((1, size - 1), int)}
        assert task.guess(columns, "reversed") == pytest.approx(1 / len(ends))
        assert (task.decisions(columns, "reversed") > 0) == (len(ends) > 1)


def walker(columns, shown, k):
    """Solved: one step from the node before it, wherever that is; stops where it is asked to."""
    before = columns["source"] if k == 1 else shown[:, k - 2]
    edges = np.asarray(columns["edges"])
    at = np.argmax(edges[:, :, 0] == before[:, None], axis=1)
    return np.where(k <= columns["hops"], edges[np.arange(len(at)), at, 1], -1)


def shallow(depth):
    """Walks at most so many steps in its mind, and then says where it is."""

    def step(columns, shown, k):
        return np.where(columns["hops"] <= depth, columns["answer"][:, k - 1], columns["source"])

    return step


@pytest.mark.parametrize(
    ("way", "step", "verdict", "exact"),
    [
        (True, walker, "solved", 1.0),
        (False, shallow(8), "solved", 1.0),
        (False, shallow(4), "undertrained", 0.5),
        (True, shallow(0), "undertrained", 0.0),
    ],
    ids=["writes the way", "deep enough", "too shallow", "stays where it is"],
)
def test_verdicts(way, step, verdict, exact):
    """Catches: too few hops called a failure to plan, or guessing, where nothing can be decided."""
    task = Hops(20, 8, way)
    found = diagnose(Stepwise(task, step), task, task.block(0, "test", 0, rows=2000))
    assert found["verdict"]["name"] == verdict
    assert found["forced_vs_free"]["exact"] == pytest.approx(exact, abs=0.04)
    assert found["decision_token"] is found["clever_hans"] is None
    assert "chance" not in found["verdict"]["text"]


def test_who_guesses_the_end_backwards_is_at_chance():
    """Catches: a chance that whoever looks one step ahead and one back beats."""
    task = Hops(10, 4, way=True)
    columns = task.block(0, "test", 0)
    edges, rows, source = columns["edges"], np.arange(4096), columns["source"]
    ahead = edges[rows, np.argmax(edges[:, :, 0] == source[:, None], axis=1), 1]
    back = edges[rows, np.argmax(edges[:, :, 1] == source[:, None], axis=1), 0]
    scores = np.random.default_rng(0).random((4096, 10))
    for node in (source, ahead, back):
        scores[rows, node] = -1
    end = columns["answer"][rows, columns["hops"] - 1]
    decided = task.decisions(columns, "reversed") > 0
    share = (scores.argmax(axis=1) == end)[decided].mean()
    assert share == pytest.approx(
        task.guess(columns, "reversed")[decided].mean(), abs=4 * np.sqrt(0.12 / decided.sum())
    )


# ---------------------------------------------------------------- rows and splits


def test_cycles_places_and_hops_are_uniform():
    """Catches: a biased cycle, pairs that stay in the order of the cycle, a k that is drawn more often."""
    drawn = Hops(4, 3).sample(np.random.default_rng(1), 60_000)
    successor = np.take_along_axis(drawn["edges"][:, :, 1], np.argsort(drawn["edges"][:, :, 0], axis=1), axis=1)
    cycles, which = np.unique(successor @ [64, 16, 4, 1], return_inverse=True)
    orders, shown = np.unique(drawn["edges"][:, :, 0] @ [64, 16, 4, 1], return_inverse=True)
    assert (len(cycles), len(orders)) == (6, 24)
    assert_uniform(which * 24 + shown, 144)
    assert_uniform(drawn["source"] * 3 + drawn["hops"] - 1, 12)
    place = np.argmax(drawn["edges"][:, :, 0] == drawn["source"][:, None], axis=1)
    assert_uniform(which * 4 + place, 24)


def test_a_cycle_is_in_one_split_whatever_is_asked_of_it():
    """Catches: a held-out question about a cycle whose other questions train has answered; n that counts orders of
    the pairs."""
    task = Hops(5, 3)
    turned = PROMPT.replace("3,0|4,2", "4,2|3,0")
    columns = columns_of(
        task, PROMPT + "4", turned + "4", PROMPT.replace("/3,", "/1,") + "0", PROMPT.replace("k2", "k1") + "0"
    )
    assert len({*task.split_hash(columns).tolist()}) == 1
    assert len({*task.instance_hash(columns).tolist()}) == 3
    other = columns_of(task, "0,3|2,4|4,0|3,1|1,2/3,k2=2")  # the same cycle backwards
    assert task.split_hash(other) != task.split_hash(columns)[0]
    assert len({*Hops(4, 3).instance_hash(Hops(4, 3).sample(np.random.default_rng(0), 5000)).tolist()}) == 72
    assert Hops(4, 3).num_problems == 72


def test_accuracy_is_told_by_hops():
    """Catches: sizes of other rows, or forced predictions of one symbol taken for whole answers."""
    task = Hops(20, 8)
    columns = task.block(0, "test", 0, rows=2000)
    whole = diagnose(Stepwise(task, shallow(4)), task, columns)
    found = whole["by_difficulty"]
    (said,) = [line for line in findings(whole, task.words) if line.startswith("exact answers by hops")]
    assert "1: 100.0 % [ 9" in said  # an interval beside each, of as many problems as have that size
    assert {k: each["exact"] for k, each in found["hops"].items()} == {k: float(k <= 4) for k in range(1, 9)}
    assert sum(each["n"] for each in found["hops"].values()) == len({*task.instance_hash(columns).tolist()})
    one = {name: column[columns["hops"] == 2] for name, column in columns.items()}
    assert diagnose(Stepwise(task, shallow(4)), task, one)["by_difficulty"] == {}
