"""The star whose arms are of unequal length: by hand, against its source's sizes, and under the diagnosis."""

import numpy as np
import pytest
from chi_square import assert_uniform
from memory import REMEMBERED, memorised
from planted_graphs import Blank, Walker, nowhere, seen_in
from task_checks import assert_judged, assert_refused, bad_lines, bad_parameters, columns_of

from nt_failures.diagnosis import diagnose, figures
from nt_failures.tasks.unequal_star import UnequalStar

TASK = UnequalStar(2, (4, 6), 2, 12)
AS_EDGES = UnequalStar(2, (4, 6), 2, 12, "edges")
MEDIUM, HARD = (UnequalStar(**UnequalStar.CONFIGS[name]) for name in ("medium", "hard"))
PROMPT = "6,4|3,0|7,3|8,5|0,8|1,3|3,6/7,5="  # 7 > 3 > 0 > 8 > 5 and 1 > 3 > 6 > 4
EDGES = [(6, 4), (3, 0), (7, 3), (8, 5), (0, 8), (1, 3), (3, 6), (-1, -1), (-1, -1), (-1, -1)]


@pytest.mark.parametrize(
    ("task", "completion", "path", "decision"),
    [
        (TASK, "7,3,0,8,5 . .", [7, 3, 0, 8, 5, -1], 3),
        (AS_EDGES, "7,3,3,0,0,8,8,5 . . .", [7, 3, 3, 0, 0, 8, 8, 5, -1, -1], 4),
    ],
    ids=["nodes", "edges"],
)
def test_golden_by_hand(task, completion, path, decision):
    """Catches: a centre that is taken for the source, a decision at a fixed place, edges written tail behind head."""
    assert task.parse(PROMPT + completion) == {"edges": EDGES, "source": 7, "goal": 5, "path": path}
    columns = columns_of(task, PROMPT + completion)
    assert {name: text.to_list() for name, text in task.texts(columns).items()} == {
        "prompt": [PROMPT],
        "completion": [completion],
    }
    assert task.decisions(columns, "forward").tolist() == [decision]
    assert task.guess(columns, "forward").tolist() == [0.5]
    assert task.detours(columns, np.random.default_rng(0)).tolist() == [
        [7, 3, 6, 4, -1, -1] if task is TASK else [7, 3, 3, 6, 6, 4, -1, -1, -1, -1]
    ]


def test_backwards_the_decision_is_before_the_centre():
    """Catches: a reversed order called free of planning although two stems lead to the centre; a decision where the
    stem is the source, which the prompt shows, or where no other stem is."""
    lines = ["9,7|7,3|3,0|0,8|1,3|3,6|6,4/9,8=9,7,3,0,8", PROMPT + "7,3,0,8,5", "9,7|7,3|3,0|0,8|3,6|6,4/9,8=9,7,3,0,8"]
    columns = columns_of(TASK, *lines)
    assert TASK.decisions(columns, "reversed").tolist() == [2, 0, 0]
    assert TASK.guess(columns, "reversed").tolist() == [0.5, 0.5, 1.0]
    as_edges = columns_of(AS_EDGES, lines[0].replace("=9,7,3,0,8", "=9,7,7,3,3,0,0,8"))
    assert AS_EDGES.decisions(as_edges, "reversed").tolist() == [3]  # from the end: 8 0 0 3 3 and then 7


JUDGED = {
    "right": ([7, 3, 0, 8, 5], True, 0, True, True),
    "the wrong arm": ([7, 3, 6, 4], False, 3, False, True),
    "the wrong arm, then the goal": ([7, 3, 6, 5], False, 3, False, False),
    "against an edge": ([7, 3, 1], False, 3, False, False),
    "right decision, then the wrong arm": ([7, 3, 0, 6, 4], False, 4, True, False),
    "from the other stem": ([1, 3, 0, 8, 5], False, 1, True, False),
    "from the centre on": ([3, 0, 8, 5], False, 1, False, False),
    "stops early": ([7, 3, 0, 8], False, 5, True, False),
    "goes on": ([7, 3, 0, 8, 5, 4], False, 6, True, False),
    "empty": ([], False, 1, False, False),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    assert_judged(TASK, columns_of(TASK, PROMPT + "7,3,0,8,5"), *JUDGED[case])


@pytest.mark.parametrize(
    ("answer", "exact", "valid_path"),
    [
        ([7, 3, 3, 0, 0, 8, 8, 5], True, True),
        ([7, 3, 3, 6, 6, 4], False, True),
        ([7, 3, 6, 3, 3, 0, 0, 8, 8, 5], False, False),  # an edge turned round
        ([7, 3, 3, 0, 8, 5], False, False),  # an edge left out
        ([7, 3, 3, 0, 0, 8, 8], False, False),  # half an edge
        ([7, 3, 0, 8, 5], False, False),  # the nodes
    ],
)
def test_edges_are_judged_as_edges(answer, exact, valid_path):
    """Catches: an answer of edges that do not hang together, or of nodes, that counts as a path."""
    judged = AS_EDGES.judge(columns_of(AS_EDGES, PROMPT + "7,3,3,0,0,8,8,5"), [answer])
    assert (judged["exact"].tolist(), judged["valid_path"].tolist()) == ([exact], [valid_path])


def test_the_star_to_draw():
    """Catches: edges drawn as steps from each head to itself; what fills up a shorter graph drawn as a node -1; a
    wrong answer called right because it is drawn as the path."""
    row = AS_EDGES.parse(PROMPT + "7,3,3,0,0,8,8,5")
    star = AS_EDGES.picture(row, [7, 3, 3, 6, 4, 5, 5])
    assert (star.edges, star.path) == (EDGES[:7], [7, 3, 0, 8, 5])
    assert star.answer == [7, 3, 6, 4, 5, 5]  # 6 to 4 is an edge that was not written as one; the last one is none
    nodes = AS_EDGES.picture(row, [7, 3, 0, 8, 5])  # joined, these are the path; as edges they are wrong
    assert (nodes.answer, nodes.right) == (nodes.path, False)
    assert "(wrong)" in figures.path_star(**vars(nodes)).axes[0].get_title("left")
    star = TASK.picture(TASK.parse(PROMPT + "7,3,0,8,5"), [7, 7, 3])
    assert (star.edges, star.path, star.answer) == (EDGES[:7], [7, 3, 0, 8, 5], [7, 7, 3])


def test_sizes_of_the_source():
    """Catches: lengths counted otherwise than arXiv 2505.05755's generator, or labels that do not suffice."""
    easy = UnequalStar(**UnequalStar.CONFIGS["easy"])
    assert [task.config_name for task in (easy, MEDIUM, HARD)] == ["easy", "medium", "hard"]
    assert (easy.num_edges, MEDIUM.num_edges, HARD.num_edges) == (12, 15, 55)
    assert (easy.answer_length, easy.lengths_differ, MEDIUM.answer_length, HARD.answer_length) == (5, False, 6, 12)
    columns = easy.block(0, "train", 0)
    assert set(easy.decisions(columns, "forward").tolist()) == {2}  # the source is the centre
    assert set(easy.decisions(columns, "reversed").tolist()) == {0}
    assert UnequalStar(3, 5, 4, 20, "edges").config_name == "deg3-path5-behind4-nodes20-edges"
    assert UnequalStar(3, 5, 3, 20).config_name == "deg3-path5-behind3-nodes20"


def test_lengths_and_crossings_are_uniform():
    """Catches: arms that favour a length, or a centre that favours a place."""
    columns = MEDIUM.sample(np.random.default_rng(0), 48_000)
    length = MEDIUM.difficulty(columns)["path_length"]
    assert_uniform(length - 3, 4)
    assert set(MEDIUM.difficulty(columns)["degree"].tolist()) == {3}
    stem = MEDIUM.decisions(columns, "forward") - 2
    for size in (3, 4, 5, 6):
        places = stem[length == size]
        assert_uniform(places, size - 2) if size > 3 else np.testing.assert_array_equal(places, 0)
    assert_uniform(columns["source"], 20)
    assert_uniform(columns["goal"], 20)


def test_no_place_or_label_tells_the_goals_arm():
    """Catches: a leak of the goal's arm by the order in which edges are shown, or by the labels."""
    columns = MEDIUM.sample(np.random.default_rng(1), 30_000)
    edges, centre = columns["edges"], MEDIUM.centre(columns)
    right = columns["path"][np.arange(len(edges)), MEDIUM.decisions(columns, "forward") - 1]
    children = edges[:, :, 1][edges[:, :, 0] == centre[:, None]].reshape(-1, 3)  # as they are listed
    assert_uniform(np.argmax(children == right[:, None], axis=1), 3)
    assert_uniform(np.argmax(np.sort(children, axis=1) == right[:, None], axis=1), 3)


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_memory_of_train_is_at_chance_held_out(remembered):
    """Catches: a split by the whole graph, whose mirror images tell what a held-out one answers."""
    task = UnequalStar(2, 4, 2, 7)  # few graphs, so that every key comes again
    share, sigma = memorised(task, remembered, 20_000, 4096)
    assert abs(share) < 4 * sigma
    assert sigma < 0.05


def test_graphs_that_begin_alike_are_in_one_split():
    """Catches: a hash that sees the goal, the source, or what is joined to what behind the centre."""
    same = ["6,4|3,0|7,3|0,5|1,3|3,6/7,5=", "6,5|3,0|7,3|0,4|1,3|3,6/7,5=", "6,4|3,0|7,1|0,5|1,3|3,6/7,4="]
    rows = [UnequalStar(2, (4, 6), 2, 12).parse(line) for line in same]
    columns = {name: np.array([row[name] for row in rows]) for name in ("edges", "source", "goal")}
    assert len({*TASK.split_hash(columns).tolist()}) == 1
    assert len({*TASK.instance_hash(columns).tolist()}) == 3
    other = ["6,4|3,5|7,3|5,0|1,3|3,6/7,0=", "6,4|1,0|7,1|0,5|3,1|1,6/7,5=", "6,4|3,0|7,3|0,8|1,3|3,6/7,8="]
    rows = [UnequalStar(2, (4, 6), 2, 12).parse(line) for line in other]
    columns = {name: np.array([row[name] for row in rows]) for name in ("edges", "source", "goal")}
    assert len({*TASK.split_hash(columns).tolist()}) == 3


@bad_lines(
    (PROMPT.replace("=", ""), "not a star line"),
    (PROMPT.replace("7,3|", ""), "not a star of 2 arms"),  # no way from 7
    (PROMPT.replace("3,6|", "").replace("|3,6", ""), "not a star of 2 arms"),  # nothing to choose
    (PROMPT.replace("8,5|", "8,5|0,9|"), "not a star of 2 arms"),  # a second fork
    (PROMPT.replace("6,4|", ""), "not a star of 2 arms"),  # an arm of one node behind the centre
    (PROMPT.replace("/7,5", "/5,7"), "not a star of 2 arms"),
    (PROMPT.replace("8,5", "8,7"), "not a star of 2 arms"),  # a circle
    (PROMPT.replace("6,4", "6,12"), "not below num_nodes=12"),
    (PROMPT + "7,3,6,4", "not the path to the goal"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        TASK.parse(line)


@bad_parameters(
    ({"degree": 1}, "degree=1", "degree >= 2"),
    ({"path_length": 2}, "path_length=2", "path_length >= 3"),
    ({"behind": 1}, "behind=1", "behind >= 2"),
    ({"behind": 3}, "behind=3", "behind <= 2"),
    ({"num_nodes": 15}, "num_nodes=15", "num_nodes >= 16"),
    ({"form": "edge"}, "form='edge'", "'nodes', 'edges'. Did you mean 'edges'?"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a graph that does not fit, found out only while sampling, or an error without a way out."""
    assert_refused(UnequalStar, parameters, given, repair)


PLANTED = {
    "solved": lambda task, train: Walker(task),
    "clever-hans + indecipherable token": lambda task, train: Walker(task, nowhere),
    "memorised": lambda task, train: Walker(task, seen_in(task, train)),
    "undertrained": lambda task, train: Blank(task),
}


@pytest.mark.parametrize("task", [TASK, AS_EDGES, MEDIUM], ids=["nodes", "edges", "medium"])
@pytest.mark.parametrize("name", PLANTED)
def test_verdicts_of_planted_models(name, task):
    """Catches: one place of the decision for all rows, or a detour that is held to go on behind its own leaf."""
    train, held_out = (task.block(0, split, 0, rows=1500) for split in ("train", "test"))
    found = diagnose(PLANTED[name](task, train), task, held_out, train)
    assert found["verdict"]["name"] == name
    assert found["decision_token"]["chance"] == pytest.approx(task.chance)
    if name.startswith("clever"):
        assert found["clever_hans"]["follow_rate"] == 1.0
        assert "wrong arm" in found["verdict"]["text"]


class Backwards(Walker):
    """Writes the way from the goal, and guesses among the nodes that lead to the centre."""

    def __init__(self, task):
        super().__init__(task, nowhere, order="reversed")

    def forced(self, columns, answers):
        found = answers.copy()
        rng = np.random.default_rng(0)
        for i, k in enumerate(self.task.decisions(columns, "reversed").tolist()):
            if k:
                edges = columns["edges"][i]
                found[i, k - 1] = rng.choice(edges[edges[:, 1] == answers[i, k], 0])
        return found

    def free(self, columns):
        return np.column_stack([self.forced(columns, columns["path"]), np.full(len(columns["path"]), -1)])


def test_backwards_no_cheat_is_measured():
    """Catches: a detour of the forward order followed backwards, where it is the right way."""
    held_out = MEDIUM.block(0, "test", 0, rows=1500)
    found = diagnose(Backwards(MEDIUM), MEDIUM, held_out)
    assert found["clever_hans"] is None
    chance = MEDIUM.guess(held_out, "reversed")[MEDIUM.decisions(held_out, "reversed") > 0].mean()
    assert found["decision_token"]["chance"] == pytest.approx(chance)
    assert abs(found["decision_token"]["accuracy"] - chance) < 0.08
    assert found["verdict"]["name"] == "undertrained"
