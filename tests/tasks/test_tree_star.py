"""The tree of arms that branch at every node: by hand, and what the diagnosis makes of several decisions."""

import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from memory import REMEMBERED, memorised
from planted_graphs import Blank, Walker, nowhere, seen_in
from task_checks import assert_judged, assert_refused, bad_lines, bad_parameters

from nt_failures.diagnosis import diagnose
from nt_failures.tasks.tree_star import TreeStar

TASK = TreeStar(2, 2, 4, 20)
SMALL = TreeStar(2, 2, 3, 10)
PROMPT = "9,4|5,0|0,2|5,9|9,1|0,7/5,1="  # 5 > (0 > (2, 7), 9 > (1, 4))
EDGES = [(9, 4), (5, 0), (0, 2), (5, 9), (9, 1), (0, 7)]
COLUMNS = {
    "edges": np.array([EDGES], dtype=np.int32),
    "source": np.array([5], dtype=np.int32),
    "goal": np.array([1], dtype=np.int32),
    "path": np.array([[5, 9, 1]], dtype=np.int32),
}


def test_golden_by_hand():
    """Catches: another order of edges or nodes, a goal on another leaf."""
    assert SMALL.parse(PROMPT + "5,9,1") == {"edges": EDGES, "source": 5, "goal": 1, "path": [5, 9, 1]}
    assert SMALL.parse(PROMPT)["path"] is None
    assert [text.to_list() for text in SMALL.texts(COLUMNS).values()] == [[PROMPT], ["5,9,1"]]


def test_facts_of_the_task():
    """Catches: a branch too many at the source or a leaf, a decision backwards, where every node has one parent."""
    task = TreeStar(3, 2, 4, 30)
    assert (task.num_edges, task.answer_length, task.chance) == (3 + 6 + 12, 4, 1 / 3)
    assert (task.decision_position("forward"), task.decision_position("reversed")) == (2, 0)
    assert TreeStar(2, 2, 3, 7).num_problems == 5040 // 8 * 4
    assert TASK.config_name == "deg2-branch2-path4-nodes20"
    with pytest.raises(ValueError, match="has no `detours`"):
        task.detours(task.block(0, "train", 0), np.random.default_rng(0))


def test_a_large_tree_is_cut_to_what_matters():
    """Catches: 32 leaves on one page; a way of the answer that is left out, or what branches off it; nodes called cut
    that are leaves."""
    edges = [(node, child) for node in range(31) for child in (2 * node + 1, 2 * node + 2)]
    row = {"edges": edges, "source": 0, "goal": 31, "path": [0, 1, 3, 7, 15, 31]}
    star = TreeStar(2, 2, 6, 70).picture(row, [0, 2, 14, 64, -1])
    inner = [0, 1, 3, 7, 15, *(2, 6, 14)]
    assert star.edges == [edge for edge in edges if edge[0] in inner]
    assert star.cut == {4, 8, 16, *(5, 13, 29, 30)}
    assert (star.path, star.answer) == (row["path"], [0, 2, 14, 64, -1])
    small = TreeStar(2, 2, 3, 70).picture({**row, "edges": edges[:6], "goal": 3, "path": [0, 1, 3]}, [0])
    assert (small.edges, small.cut) == (edges[:6], ())


JUDGED = {
    "right": ([5, 9, 1], True, 0, True, True),
    "the wrong arm": ([5, 0, 2], False, 2, False, True),
    "the right arm, the wrong leaf": ([5, 9, 4], False, 3, True, True),
    "the wrong arm, then the goal": ([5, 0, 1], False, 2, False, False),
    "stops early": ([5, 9], False, 3, True, False),
    "goes on": ([5, 9, 1, 4], False, 4, True, False),
    "no label": ([5, -1, 1], False, 2, False, False),
    "empty": ([], False, 1, False, False),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    assert_judged(SMALL, COLUMNS, *JUDGED[case])


def test_trees_are_uniform():
    """Catches: labels tied to their place, an order of the edges that favours a level, a leaf that tells itself."""
    columns = SMALL.sample(np.random.default_rng(0), 60_000)
    for position in range(3):
        assert_uniform(columns["path"][:, position], 10)
    edges, path = columns["edges"], columns["path"]
    assert_uniform(np.argmax(edges[:, :, 1] == columns["goal"][:, None], axis=1), 6)
    places = np.argsort(edges[:, :, 0] != columns["source"][:, None], axis=1, kind="stable")[:, :2]
    pairs = {pair: i for i, pair in enumerate(itertools.combinations(range(6), 2))}
    assert_uniform(np.array([pairs[tuple(pair)] for pair in places.tolist()]), 15)
    for step in (1, 2):  # which of the children, as they are listed
        children = edges[:, :, 1][edges[:, :, 0] == path[:, step - 1, None]].reshape(-1, 2)
        assert_uniform(np.argmax(children == path[:, step, None], axis=1), 2)
        assert_uniform(np.argmax(np.sort(children, axis=1) == path[:, step, None], axis=1), 2)


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_memory_of_train_is_at_chance_held_out(remembered):
    """Catches: a split by the whole tree, whose mirror images tell what a held-out one answers."""
    share, sigma = memorised(TreeStar(2, 2, 3, 7), remembered, 20_000, 4096)
    assert abs(share) < 4 * sigma
    assert sigma < 0.05


@bad_lines(
    (PROMPT.replace("=", ""), "not a tree line"),
    (PROMPT.replace("9,4|", ""), "not a tree of 2 arms"),
    (PROMPT.replace("0,7", "9,7"), "not a tree of 2 arms"),  # three and one
    (PROMPT.replace("0,7", "2,7"), "not a tree of 2 arms"),  # too long a way
    (PROMPT.replace("/5,1", "/9,1"), "not a tree of 2 arms"),
    (PROMPT.replace("/5,1", "/5,9"), "is no leaf"),
    (PROMPT.replace("4", "10"), "not below num_nodes=10"),
    (PROMPT + "5,0,2", "not the path to the goal"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        SMALL.parse(line)


@bad_parameters(
    ({"degree": 1}, "degree=1", "degree >= 2"),
    ({"branching": 1}, "branching=1", "branching >= 2"),
    ({"path_length": 2}, "path_length=2", "path_length >= 3"),
    ({"num_nodes": 30}, "num_nodes=30", "num_nodes >= 31"),
    ({"path_length": 10**9}, "path_length=1000000000", "smaller tree"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a tree that does not fit, found out only while sampling, and powers that never end."""
    assert_refused(TreeStar, parameters, given, repair)


PLANTED = {
    "solves all": (lambda task, train: Walker(task), "solved"),
    "guesses at every fork": (lambda task, train: Walker(task, nowhere), "undertrained"),
    "guesses the first, plans the later": (
        lambda task, train: Walker(task, nowhere, first_only=True),
        "indecipherable token",
    ),
    "knows the first by heart, plans the later": (
        lambda task, train: Walker(task, seen_in(task, train), first_only=True),
        "memorised",
    ),
    "knows all by heart, guesses elsewhere": (lambda task, train: Walker(task, seen_in(task, train)), "memorised"),
    "nothing is learnt": (lambda task, train: Blank(task), "undertrained"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_verdicts_of_planted_models(name):
    """Catches: later decisions taken for look-ups, a cheat claimed where each node leaves a choice."""
    train, held_out = (TASK.block(0, split, 0, rows=1500) for split in ("train", "test"))
    plant, verdict = PLANTED[name]
    found = diagnose(plant(TASK, train), TASK, held_out, train)
    assert found["verdict"]["name"] == verdict
    assert found["clever_hans"] is None
    assert found["decision_token"]["position"] == 2
    if name == "guesses at every fork":  # position 4 is a copy of the goal, and no fork
        assert found["forced_vs_free"]["forced"][3] == pytest.approx(1 / 2, abs=0.05)
        assert "position 3 is right in" in found["verdict"]["text"]
