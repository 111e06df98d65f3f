"""The path-star task: against lines of the paper's released data, by hand, and against chance."""

import itertools

import numpy as np
import pytest
from chi_square import assert_uniform
from task_checks import assert_refused, bad_parameters

from nt_failures.tasks.path_star import PathStar

# A line of the released data for G(2, 5), 50 labels: arms 32 34 6 16 12 (goal) and 32 3 19 47 28.
PROMPT = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12="
LINE = PROMPT + "32,34,6,16,12"
EDGES = [(32, 3), (16, 12), (3, 19), (32, 34), (34, 6), (6, 16), (19, 47), (47, 28)]
COLUMNS = {
    "edges": np.array([EDGES], dtype=np.int32),
    "source": np.array([32], dtype=np.int32),
    "goal": np.array([12], dtype=np.int32),
    "path": np.array([[32, 34, 6, 16, 12]], dtype=np.int32),
}


def test_released_line_is_read():
    """Catches: another order of edges, parts or nodes than the released data's."""
    task = PathStar(2, 5, 50)
    assert task.parse(LINE) == {"edges": EDGES, "source": 32, "goal": 12, "path": [32, 34, 6, 16, 12]}
    assert task.parse(PROMPT) == {"edges": EDGES, "source": 32, "goal": 12, "path": None}
    assert task.parse(LINE + "\n") == task.parse(LINE)


def test_released_line_is_written():
    """Catches: a comma or bar too many, padded numbers, a prompt without its `=`."""
    text = PathStar(2, 5, 50).render(COLUMNS)
    assert text["prompt"].to_list() == [PROMPT]
    assert text["completion"].to_list() == ["32,34,6,16,12"]


def test_facts_of_the_task():
    """Catches: path_length counted in edges, a decision at the copied source, symbols in another order."""
    task = PathStar(2, 5, 50)
    assert (task.num_edges, task.answer_length, task.chance) == (8, 5, 0.5)
    assert (task.decision_position("forward"), task.decision_position("reversed")) == (2, 4)
    assert task.symbols[:3] + task.symbols[49:] == ["0", "1", "2", "49", "|", "=", "/", "$"]
    assert len(task.symbols) == 54
    assert task.config_name == "deg2-path5-nodes50"


JUDGED = {
    "right": ([32, 34, 6, 16, 12], [1, 1, 1, 1, 1], True, 0, True, True),
    "the wrong arm": ([32, 3, 19, 47, 28], [1, 0, 0, 0, 0], False, 2, False, True),
    "the wrong arm, then the goal": ([32, 3, 19, 47, 12], [1, 0, 0, 0, 1], False, 2, False, False),
    "wrong decision, then right": ([32, 3, 6, 16, 12], [1, 0, 1, 1, 1], False, 2, False, False),
    "wrong first node, then right": ([3, 34, 6, 16, 12], [0, 1, 1, 1, 1], False, 1, True, False),
    "too short": ([32, 34, 6, 16], [1, 1, 1, 1, 0], False, 5, True, False),
    "too long": ([32, 34, 6, 16, 12, 28], [1, 1, 1, 1, 1], False, 6, True, False),
    "too long and wrong": ([32, 34, 6, 16, 28, 12], [1, 1, 1, 1, 0], False, 5, True, False),
    "not an edge": ([32, 34, 16, 6, 12], [1, 1, 0, 0, 1], False, 3, True, False),
    "backwards": ([12, 16, 6, 34, 32], [0, 0, 1, 0, 0], False, 1, False, False),
    "no label": ([32, 34, -1, 16, 12], [1, 1, 0, 1, 1], False, 3, True, False),
    "empty": ([], [0, 0, 0, 0, 0], False, 1, False, False),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    answer, correct, exact, first_error, decision, valid_path = JUDGED[case]
    judged = PathStar(2, 5, 50).judge(COLUMNS, [answer])
    assert {name: column.tolist() for name, column in judged.items()} == {
        "correct": [[bool(c) for c in correct]],
        "exact": [exact],
        "first_error": [first_error],
        "decision": [decision],
        "valid_path": [valid_path],
    }


def test_judge_keeps_rows_apart():
    """Catches: edges of one row allowed in another; a missing answer that shifts all that follow."""
    two = {name: np.concatenate([column, column]) for name, column in COLUMNS.items()}
    two["edges"] = two["edges"].copy()
    two["edges"][1] += 1  # the second graph shares no edge with the first
    judged = PathStar(2, 5, 50).judge(two, [[32, 34, 6, 16, 12], [32, 34, 6, 16, 12]])
    assert judged["valid_path"].tolist() == [True, False]
    with pytest.raises(ValueError, match="1 answers for 2 instances"):
        PathStar(2, 5, 50).judge(two, [[32, 34, 6, 16, 12]])


def test_the_only_detour_by_hand():
    """Catches: a detour off the edges, or one that ends at the goal."""
    assert PathStar(2, 5, 50).detours(COLUMNS, np.random.default_rng(0)).tolist() == [[32, 3, 19, 47, 28]]
    with pytest.raises(ValueError, match="give degree >= 2"):
        PathStar(1, 5, 50).detours(COLUMNS, np.random.default_rng(0))


def test_detours_choose_wrong_arms_uniformly():
    """Catches: a detour that is always the first wrong arm listed, or sometimes the right one."""
    task = PathStar(4, 3, 50)
    columns = task.block(0, "train", 0)
    detours = task.detours(columns, np.random.default_rng(0))
    judged = task.judge(columns, detours.tolist())
    assert judged["valid_path"].all()
    assert not judged["decision"].any()
    from_source = columns["edges"][:, :, 0] == columns["source"][:, None]
    children = columns["edges"][:, :, 1][from_source].reshape(-1, 4)
    wrong = children[children != columns["path"][:, 1:2]].reshape(-1, 3)  # as they are listed
    assert_uniform(np.argmax(wrong == detours[:, 1:2], axis=1), 3)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("32,34,6,16,12", [32, 34, 6, 16, 12]),
        (" 32 34 6\n16, 12 ", [32, 34, 6, 16, 12]),
        ("32,34,x,16,12", [32, 34, -1, 16, 12]),
        ("32,|,$,-6,1.5", [32, -1, -1, -1, -1]),
        ("32,\u0663,99999999999999999999", [32, -1, -1]),
        ("", []),
    ],
)
def test_answers_are_read_as_they_stand(text, answer):
    """Catches: symbols that are dropped, which moves later nodes onto right positions; a crash on odd text."""
    assert PathStar(2, 5, 50).read_answer(text) == answer


@bad_parameters(
    ({"degree": 0}, "degree=0", "degree >= 1"),
    ({"degree": True}, "degree=True", "degree >= 1"),
    ({"degree": "2"}, "degree='2'", "degree >= 1"),
    ({"degree": 2.0}, "degree=2.0", "degree >= 1"),
    ({"path_length": 1}, "path_length=1", "path_length >= 2"),
    ({"path_length": None}, "path_length=None", "path_length >= 2"),
    ({"num_nodes": 8}, "num_nodes=8", "num_nodes >= 9"),
    ({"num_nodes": -1}, "num_nodes=-1", "num_nodes >= 2"),
    ({"num_nodes": 2**20 + 1}, "num_nodes=1048577", "num_nodes <= 1,048,576"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a graph that does not fit its labels, found out only while sampling, or an error without a way out."""
    assert_refused(PathStar, parameters, given, repair)


@pytest.mark.parametrize("size", [(1, 2, 2), (1, 2, 3), (2, 2, 3), (2, 3, 10), (5, 5, 50), (20, 5, 100)])
def test_samples_are_path_stars(size):
    """Catches: repeated labels, arms of unequal length, a path that is not in the edges (parse checks all of it)."""
    task = PathStar(*size)
    columns = task.sample(np.random.default_rng(0), 50)
    texts = {name: text.to_list() for name, text in task.render(columns).items()}
    for prompt, completion in zip(texts["prompt"], texts["completion"], strict=True):
        row = task.parse(prompt + completion)
        assert row["path"][0] == row["source"]
        assert row["path"][-1] == row["goal"]
        assert set(itertools.pairwise(row["path"])) <= set(row["edges"])


@pytest.fixture(scope="module")
def drawn():
    return PathStar(2, 3, 10).sample(np.random.default_rng(1), 60_000)


def test_labels_are_uniform(drawn):
    """Catches: labels drawn with a biased shuffle, or tied to their place in the graph."""
    for position in range(3):
        assert_uniform(drawn["path"][:, position], 10)
    pairs = drawn["path"][:, 0] * 9 + drawn["path"][:, 1] - (drawn["path"][:, 1] > drawn["path"][:, 0])
    assert_uniform(pairs, 90)


def test_edge_order_is_uniform(drawn):
    """Catches: a biased shuffle of the edges, or arms that stay together."""
    edges, path = drawn["edges"], drawn["path"]
    child = edges[:, :, 1]
    # 0 and 1 are the edges of the goal's arm, 2 and 3 those of the other one, by depth
    on_path = (child[:, :, None] == path[:, None, 1:]).any(axis=2)
    depth = (edges[:, :, 0] != drawn["source"][:, None]).astype(int)
    kind = np.where(on_path, depth, 2 + depth)
    assert np.array_equal(np.sort(kind, axis=1), np.tile([0, 1, 2, 3], (60_000, 1)))
    orders = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    assert_uniform(np.array([orders[tuple(row)] for row in kind.tolist()]), 24)


def test_no_place_or_label_tells_the_goals_arm():
    """Catches: a leak of the goal's arm, by which a model without a plan beats 1/degree."""
    columns = PathStar(3, 3, 50).block(0, "train", 0)
    edges, right = columns["edges"], columns["path"][:, 1]
    rows = np.arange(len(right))
    from_source = edges[:, :, 0] == columns["source"][:, None]
    children = edges[:, :, 1][from_source].reshape(-1, 3)  # as they are listed
    assert_uniform(np.argmax(children == right[:, None], axis=1), 3)
    assert_uniform(np.argmax(np.sort(children, axis=1) == right[:, None], axis=1), 3)
    assert (children == right[:, None]).sum() == len(rows)


def test_hash_ignores_how_the_edges_are_written():
    """Catches: a train graph that comes back in test with its edges in another order."""
    task = PathStar()
    columns = task.block(0, "train", 0)
    shuffled = dict(columns, edges=np.random.default_rng(0).permuted(columns["edges"], axis=1))
    by_edge = dict(columns, edges=columns["edges"][:, np.random.default_rng(0).permutation(8)])
    assert np.array_equal(task.instance_hash(by_edge), task.instance_hash(columns))
    assert not np.array_equal(task.instance_hash(shuffled), task.instance_hash(columns))  # other edges, other graph


def test_hash_sees_goal_source_and_direction():
    """Catches: two different problems with one hash."""
    task = PathStar()
    base = task.instance_hash(COLUMNS)
    other_goal = dict(COLUMNS, goal=np.array([28]))
    swapped = dict(COLUMNS, source=np.array([12]), goal=np.array([32]))
    turned = dict(COLUMNS, edges=COLUMNS["edges"][:, :, ::-1])
    for columns in (other_goal, swapped, turned):
        assert task.instance_hash(columns) != base


def _instances(columns):
    return {
        (frozenset(map(tuple, edges)), source, goal)
        for edges, source, goal in zip(
            columns["edges"].tolist(), columns["source"].tolist(), columns["goal"].tolist(), strict=True
        )
    }


def test_small_spaces_share_nothing_unless_allowed():
    """Catches: a split by chance. 720 instances are drawn 4096 times, so any leak would show."""
    task = PathStar(2, 2, 10)
    splits = [_instances(task.block(seed, split, 0)) for seed, split in [(0, "train"), (1, "test"), (0, "validation")]]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 720
    assert len(splits[0]) > 450
    both = [_instances(task.block(0, split, 0, overlap="allow")) for split in ("train", "test")]
    assert len(both[0] & both[1]) > 600


def test_tiny_space_raises_instead_of_hanging():
    """Catches: an endless search for a split that none of the two instances belongs to."""
    task = PathStar(1, 2, 2)
    held = set(task.split_of(task.sample(np.random.default_rng(0), 100)))
    empty = next(split for split in ("train", "validation", "test") if split not in held)
    with pytest.raises(ValueError, match="holds none") as error:
        task.block(0, empty, 0)
    assert "overlap='allow'" in str(error.value)
    assert len(PathStar(1, 2, 2).block(0, "train", 0, overlap="allow")["goal"]) == 4096


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not a path-star line"),
        (PROMPT.replace("=", ""), "not a path-star line"),
        (PROMPT.replace("32,3|", "32,x|"), "not a path-star line"),
        (PROMPT.replace("32,3|", "32,-3|"), "not a path-star line"),
        (PROMPT.replace("32,3|", ""), "not a graph of 2 arms with 5 nodes"),
        (PROMPT.replace("47,28", "47,12"), "not a graph of 2 arms with 5 nodes"),
        (PROMPT.replace("28", "50"), "not below num_nodes=50"),
        (PROMPT.replace("/32,12", "/3,12"), "not a graph of 2 arms with 5 nodes"),
        (PROMPT.replace("/32,12", "/32,16"), "no leaf; the leaves are \\[12, 28\\]"),
        (PROMPT + "32,3,19,47,28", "not the path to the goal"),
        (PROMPT + "32,34,6,16", "not the path to the goal"),
    ],
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        PathStar(2, 5, 50).parse(line)


def test_arms_that_cross_are_no_star():
    """Catches: a tree with a stray loop, which has the right number of edges, leaves and steps."""
    with pytest.raises(ValueError, match="not a graph of 2 arms"):
        PathStar(2, 3, 10).parse("0,1|1,2|1,3|4,4/0,2=")


def test_two_nodes_leave_nothing_to_decide():
    """Catches: a chance of 1/2 at a position that is the goal, which the prompt shows: a late learner is then called
    Clever Hans."""
    assert [PathStar(4, length, 20).chance for length in (2, 3, 5)] == [1.0, 0.25, 0.25]
