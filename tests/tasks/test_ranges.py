"""Path-star graphs whose sizes are ranges: each row draws its own, and all else follows from its own size."""

import argparse
import json

import numpy as np
import pytest
from chi_square import assert_uniform
from memory import REMEMBERED, memorised
from planted_graphs import Blank, Walker, nowhere, seen_in
from task_checks import assert_judged, bad_lines, columns_of

from nt_failures.diagnosis import diagnose
from nt_failures.experiments.command_line import parse
from nt_failures.tasks._ranges import Size
from nt_failures.tasks._text import join_numbers
from nt_failures.tasks.path_star import PathStar

TASK = PathStar((2, 3), (3, 5), 20)
LINE = "7,4|4,9|7,2|2,11|7,3|3,0/7,11=7,2,11 . . ."  # three arms of three nodes
NO = (-1, -1)
GOLDEN = {
    "edges": [(7, 4), (4, 9), (7, 2), (2, 11), (7, 3), (3, 0), *[NO] * 6],
    "source": 7,
    "goal": 11,
    "path": [7, 2, 11, -1, -1],
}


def test_golden_by_hand():
    """Catches: a smaller graph that is filled up otherwise, that tells its size by blank edges, or that has no end."""
    assert TASK.parse(LINE) == GOLDEN
    columns = columns_of(TASK, LINE)
    prompt, completion = (text.to_list() for text in TASK.texts(columns).values())
    assert prompt + completion == [LINE.split("=")[0] + "=", LINE.split("=")[1]]
    assert TASK.read_answer("7,2,11 . . .") == TASK.read_answer("7 2 11 .") == [7, 2, 11]
    assert (TASK.answer_length, TASK.num_edges, TASK.symbols[-2:]) == (5, 12, [".", "$"])


JUDGED = {
    "right": ([7, 2, 11], True, 0, True, True),
    "the wrong arm": ([7, 4, 9], False, 2, False, True),
    "the wrong arm, then the goal": ([7, 4, 11], False, 2, False, False),
    "stops early": ([7, 2], False, 3, True, False),
    "goes on": ([7, 2, 11, 0], False, 4, True, False),
    "goes on beyond the longest": ([7, 2, 11, 0, 0, 0], False, 4, True, False),
    "no label": ([7, -1, 11], False, 2, False, False),
    "nothing but what fills up": ([-1, -1, -1], False, 1, False, False),
    "backwards": ([11, 2, 7], False, 1, True, False),
    "empty": ([], False, 1, False, False),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it; -1 of a small graph taken for an edge."""
    assert_judged(TASK, columns_of(TASK, LINE), *JUDGED[case])


def test_a_range_is_no_factor():
    """Catches: a pair of ends in the regression of a study, where a number is needed."""
    assert PathStar((2, 3), 5, 16).factors == {"node of the path": 5, "doubling of the labels": 4.0}
    assert PathStar(2, (3, 5), 16).factors == {"arm": 2, "doubling of the labels": 4.0}


def test_a_range_of_one_size_is_that_size():
    """Catches: other rows, another name or another vocabulary for `path_length=(5, 5)`."""
    assert PathStar((2, 2), [5, 5], 50) == PathStar(2, 5, 50)
    assert PathStar((2, 2), (5, 5)).config_name == "deg2-path5-nodes50"


def test_ranges_are_plain_data():
    """Catches: a list of a recipe or of JSON that makes another task, or none."""
    for task in (TASK, PathStar(2, (3, 5)), PathStar((1, 4), 5)):
        assert PathStar(**json.loads(json.dumps(task.to_dict()))) == task
    assert TASK.config_name == "deg2_3-path3_5-nodes20"
    assert PathStar(**PathStar.CONFIGS["mixed"]).config_name == "mixed"
    assert PathStar((2, 10), (3, 9), 100).config_name == "deg2_10-path3_9-nodes100"


@pytest.mark.parametrize("given", [(0, 3), (3, 2), (2, 3, 4), (2, "3"), (2.0, 3), (True, 3), (2,), "2-3", ()])
def test_bad_ranges(given):
    """Catches: ends in the wrong order, of the wrong number or kind, found out only while sampling."""
    with pytest.raises(ValueError, match=r"degree=.* or a range .* such as \(1, 3\)"):
        PathStar(degree=given)


def test_the_largest_graph_must_fit():
    """Catches: labels counted for the smallest graph, or for the mean."""
    with pytest.raises(ValueError, match="= 13 different labels, but num_nodes=12; give num_nodes >= 13"):
        PathStar((2, 3), (3, 5), 12)


def test_ranges_on_the_command_line(tmp_path):
    """Catches: a flag or a recipe that takes no range, or takes `2-10` for a text."""
    assert parse(["--degree", "2-10", "--num_nodes", "50", "--output_dir", str(tmp_path)]).task.degree == (2, 10)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("path_length: [3, 8]\ndegree: 2-4\nnum_nodes: 40\nuse_cpu: true\n")
    assert parse([str(recipe)]).task == PathStar((2, 4), (3, 8), 40)
    with pytest.raises(ValueError, match="'2-x' is neither a whole number nor a range such as 2-10"):
        parse([str(recipe), "--degree", "2-x"])
    assert (Size("3"), Size("3-8")) == (3, (3, 8))
    with pytest.raises(argparse.ArgumentTypeError):
        Size("three")


def test_sizes_are_uniform_and_told():
    """Catches: sizes that favour small graphs, arms of a length of their own, a difficulty of another row."""
    columns = TASK.sample(np.random.default_rng(0), 30_000)
    degrees, lengths = TASK.difficulty(columns).values()
    assert_uniform(3 * (degrees - 2) + lengths - 3, 6)
    assert np.array_equal((columns["edges"][:, :, 0] >= 0).sum(axis=1), degrees * (lengths - 1))
    for position in range(3):
        assert_uniform(columns["path"][:, position], 20)


def test_no_place_or_label_tells_the_goals_arm():
    """Catches: a leak of the goal's arm by the order in which edges are shown, or by the labels."""
    columns = TASK.sample(np.random.default_rng(1), 30_000)
    three = TASK.difficulty(columns)["degree"] == 3
    edges, right = columns["edges"][three], columns["path"][three, 1]
    from_source = edges[:, :, 0] == columns["source"][three, None]
    children = edges[:, :, 1][from_source].reshape(-1, 3)  # as they are listed
    assert_uniform(np.argmax(children == right[:, None], axis=1), 3)
    assert_uniform(np.argmax(np.sort(children, axis=1) == right[:, None], axis=1), 3)
    first = columns["edges"][:, 0, 1] == columns["goal"]  # in one of E cases
    expected = 1 / (columns["edges"][:, :, 0] >= 0).sum(axis=1)
    assert abs(first.mean() - expected.mean()) < 4 * np.sqrt(expected.mean() / len(first))


def test_every_row_decides_by_its_own_size():
    """Catches: the chance of the mean size in every row; a decision of one arm alone, or of paths of two nodes."""
    task = PathStar((1, 3), (2, 4), 20)
    lines = ["0,1|1,2/0,2=", "0,1|0,2/0,2=", "0,1|1,2|2,3|0,4|4,5|5,6/0,6="]
    rows = [task.parse(f"{line}{path}") for line, path in zip(lines, ("0,1,2", "0,2", "0,4,5,6"), strict=True)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    assert task.decisions(columns, "forward").tolist() == [0, 0, 2]
    assert task.decisions(columns, "reversed").tolist() == [0, 0, 3]
    assert task.guess(columns, "forward").tolist() == [1.0, 1.0, 0.5]
    assert task.chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert PathStar((2, 5), 2, 20).chance == 1.0
    assert not task.alike
    assert PathStar().alike


def test_a_graph_without_a_decision_has_not_decided_wrongly():
    """Catches: the last node judged as the decision of a graph with one arm, which has none."""
    task = PathStar((1, 2), 3, 10)
    assert_judged(task, columns_of(task, "0,1|1,2/0,2=0,1,2"), [0, 1, 9], False, 3, True, False)


@bad_lines(
    ("7,4|4,9/7,9=", "not a graph of 2 to 3 arms with 3 to 5 nodes"),
    ("7,4|7,2/7,2=", "not a graph of 2 to 3 arms"),
    ("7,4|4,9|9,8|7,2|2,11/7,11=", "not a graph of 2 to 3 arms"),  # arms of unequal length
    ("7,4|4,9|7,2|2,20/7,9=", "not below num_nodes=20"),
    (LINE.replace("=7,2,11", "=7,2,11,-1"), "not a path-star line"),
)
def test_bad_lines(line, reason):
    """Catches: a graph out of range, or a filled-up one, that is read as data."""
    with pytest.raises(ValueError, match=reason):
        TASK.parse(line)


def test_numbers_below_zero_are_left_out():
    """Catches: the last number of a table written for -1, or its separator."""
    assert join_numbers(np.array([[1, -1, 2], [3, 4, -1]]), ",|").to_list() == ["1,2", "3,4|"]
    between = np.frombuffer(b",=;!", dtype=np.uint8).reshape(2, 2)
    assert join_numbers(np.array([[1, 10], [0, -1]]), between).to_list() == ["1,10=", "0;"]


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_memory_of_train_is_at_chance_held_out(remembered):
    """Catches: graphs of several sizes split by the whole graph, or by what differs between sizes alone."""
    share, sigma = memorised(PathStar((2, 3), (3, 4), 10), remembered, 20_000, 4096)
    assert abs(share) < 4 * sigma
    assert sigma < 0.05


PLANTED = {
    "solved": lambda task, train: Walker(task),
    "clever-hans + indecipherable token": lambda task, train: Walker(task, nowhere),
    "memorised": lambda task, train: Walker(task, seen_in(task, train)),
    "undertrained": lambda task, train: Blank(task),
}


@pytest.mark.parametrize("name", PLANTED)
def test_verdicts_of_planted_models(name):
    """Catches: rows of other sizes measured at one position, against one chance, or followed beyond their end."""
    train, held_out = (TASK.block(0, split, 0, rows=1500) for split in ("train", "test"))
    found = diagnose(PLANTED[name](TASK, train), TASK, held_out, train)
    assert found["verdict"]["name"] == name
    degrees = TASK.difficulty(held_out)["degree"]
    assert found["decision_token"]["chance"] == pytest.approx((1 / degrees).mean())
    if name.startswith("clever"):
        assert found["clever_hans"]["follow_rate"] == 1.0
        assert found["clever_hans"]["rows"] == (TASK.lengths(held_out) > 3).sum()
