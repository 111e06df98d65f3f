"""One star that no prompt shows: by hand, its two kinds of lines, its splits, and what planted models are called."""

import numpy as np
import pytest
from chi_square import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Stepwise
from task_checks import assert_refused, assert_scored, bad_lines, bad_parameters, columns_of, read_or_none

from nt_failures.data.splits import load_splits
from nt_failures.diagnosis import figures
from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.tasks.in_weights_star import InWeightsStar

HANS = "clever-hans + indecipherable token"


class ByHand(InWeightsStar):
    """Eight arms of three nodes: 0, 1, 9 and 0, 2, 10 and so on. By their number, 1 to 6 are train's."""

    arms = property(lambda self: np.array([[0, k, 8 + k] for k in range(1, 9)], dtype=np.int32))


TASK = ByHand(8, 3)


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("prompt", "completion", "row"),
    [
        ("15=", "0,7,15 .", {"node": 15, "edge": 0, "answer": [0, 7, 15]}),
        ("7-", "15 . . .", {"node": 7, "edge": 1, "answer": [15, -1, -1]}),
        ("7-", "0 . . .", {"node": 7, "edge": 1, "answer": [0, -1, -1]}),
        ("15-", "7 . . .", {"node": 15, "edge": 1, "answer": [7, -1, -1]}),
        ("0-", "3 . . .", {"node": 0, "edge": 1, "answer": [3, -1, -1]}),
    ],
)
def test_line_by_hand(prompt, completion, row):
    """Catches: an edge that is read as a path, an edge in one direction only, an answer that is not filled up."""
    assert TASK.parse(prompt + completion) == row
    assert TASK.parse(prompt) == {**row, "answer": None}
    columns = {name: np.array([value], dtype=np.int32) for name, value in row.items()}
    texts = {name: text.to_list() for name, text in TASK.texts(columns).items()}
    assert texts == {"prompt": [prompt], "completion": [completion]}
    assert TASK.lengths(columns).tolist() == [1 if row["edge"] else 3]
    assert TASK.symbols == [*map(str, range(17)), "-", "=", ".", "$"]


def test_names_and_counts():
    """Catches: two stars with one name; a size that is not the source's; labels that are too few or too many."""
    named = [InWeightsStar(**values) for values in InWeightsStar.CONFIGS.values()]
    assert [task.config_name for task in named] == [*InWeightsStar.CONFIGS]
    assert [task.config_name for task in named] == ["deg100-path5", "deg5000-path5", "deg10000-path6"]
    assert [len(task.symbols) - 4 for task in named] == [401, 20_001, 50_001]
    assert InWeightsStar(100, 5, 3).config_name == "deg100-path5-graph3"
    assert InWeightsStar().num_problems == 100
    assert InWeightsStar().factors == {"degree": 100, "path_length": 5}


JUDGED = {  # of the leaf 15, 7 behind the source
    "right": ([0, 7, 15], [1, 1, 1], True, 0),
    "a wrong arm, to its end": ([0, 6, 14], [1, 0, 0], False, 2),
    "a wrong arm, and the leaf at its end": ([0, 6, 15], [1, 0, 1], False, 2),
    "another leaf": ([0, 7, 14], [1, 1, 0], False, 3),
    "backwards": ([15, 7, 0], [0, 1, 0], False, 1),
    "without the source": ([7, 15], [0, 0, 0], False, 1),
    "the neighbour, as of an edge": ([7], [0, 0, 0], False, 1),
    "cut": ([0, 7], [1, 1, 0], False, 3),
    "goes on": ([0, 7, 15, 15], [1, 1, 1], False, 4),
    "no label": ([0, -1, 15], [1, 0, 1], False, 2),
    "a label that no star has": ([0, 99, 15], [1, 0, 1], False, 2),
    "empty": ([], [0, 0, 0], False, 1),
}


@pytest.mark.parametrize("case", JUDGED)
def test_judge_by_hand(case):
    """Catches: for each way of being wrong, a judge that misses it."""
    assert_scored(TASK, columns_of(TASK, "15=0,7,15 ."), *JUDGED[case])


def test_an_answer_is_read_up_to_its_end():
    """Catches: what stands behind the end counted, labels looked up in a table that is built for each answer."""
    assert TASK.read_answer("0,7,15 . 3") == TASK.read_answer("0 7 15 .") == [0, 7, 15]
    assert TASK.read_answer("0,07,= 99") == [0, -1, -1, 99]


@bad_lines(
    ("", "not a line of an in-weights star"),
    ("15", "not a line of an in-weights star"),
    ("15=0,7,15 .x", "not a line of an in-weights star"),
    ("015=", "not a line of an in-weights star"),
    ("7=", "node 7 .* begins or ends no path of the star of ByHand"),
    ("0=", "node 0 .* begins or ends no path"),
    ("17-", "node 17 .* begins or ends no edge of the star"),
    ("15=0,6,14 .", r"the answer \[0, 6, 14\] .* is no path"),
    ("15=0,7 .", "is no path"),
    ("15=7", "is no path"),
    ("7-6", r"the answer \[6\] .* is no edge"),
    ("0-9", "is no edge"),
    ("7-0,7,15 .", "is no edge"),
)
def test_bad_lines(line, reason):
    """Catches: a damaged or foreign line that is read as data."""
    with pytest.raises(ValueError, match=reason):
        TASK.parse(line)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,-=. "))
def test_any_text_parses_or_raises_value_error(text):
    """Catches: a crash of another kind on text that a model made up."""
    row = read_or_none(TASK, text)
    assert row is None or 0 <= row["node"] < 17


@bad_parameters(
    ({"degree": 7}, "degree=7", "degree >= 8"),
    ({"path_length": 2}, "path_length=2", "path_length >= 3"),
    ({"graph_seed": -1}, "graph_seed=-1", "graph_seed >= 0"),
    ({"degree": 10**6}, "makes 4,000,001 nodes, above 1,048,576", "fewer or shorter arms"),
    ({"degree": 8, "path_length": 10**5}, "path_length=100000", "give path_length <= 74,897"),
)
def test_bad_parameters(parameters, given, repair):
    """Catches: a split without a leaf, or a star that is found to be too large only while rows are drawn."""
    assert_refused(InWeightsStar, parameters, given, repair)


# ---------------------------------------------------------------- the star and its rows


def test_the_star_is_a_constant_of_the_task():
    """Catches: a star that depends on the seed of the rows, or one that all `graph_seed` share; a label on two arms."""
    task = InWeightsStar(20, 4)
    assert np.array_equal(task.arms, InWeightsStar(20, 4).arms)
    assert not np.array_equal(task.arms, InWeightsStar(20, 4, 1).arms)
    assert {*task.arms[:, 0].tolist()} == {task.arms[0, 0]}
    assert sorted([task.arms[0, 0], *task.arms[:, 1:].ravel()]) == [*range(61)]
    with pytest.raises(ValueError, match="read-only"):
        task.arms[0, 0] = 1
    for seed, split in ((0, "train"), (5, "train"), (5, "test")):
        rows = task.block(seed, split, 0, rows=500)
        paths = rows["answer"][rows["edge"] == 0]
        assert {tuple(path) for path in paths.tolist()} <= {tuple(arm) for arm in task.arms.tolist()}


def test_every_label_may_be_the_source():
    """Catches: labels that are not shuffled, such as a source that is always 0."""
    sources = [InWeightsStar(8, 3, seed).arms[0, 0] for seed in range(3000)]
    assert_uniform(np.array(sources), 17)


def test_training_lines_are_equally_likely():
    """Catches: edges in one direction, paths as frequent as edges, a line that is never drawn."""
    rows = TASK.train_sample(np.random.default_rng(0), 40_000)
    lines, which = np.unique(np.column_stack([rows["node"], rows["edge"], rows["answer"]]), axis=0, return_inverse=True)
    paths = {(8 + k, 0, 0, k, 8 + k) for k in range(1, 9)}
    out = {(a, 1, b, -1, -1) for k in range(1, 9) for a, b in ((0, k), (k, 8 + k))}
    back = {(b, 1, a, -1, -1) for a, _, b, _, _ in out}
    assert {*map(tuple, lines.tolist())} == paths | out | back
    assert len(lines) == 40
    assert_uniform(which, 40)


def test_leaves_are_equally_likely():
    """Catches: edges that are asked for, a leaf that is asked more often."""
    rows = TASK.sample(np.random.default_rng(1), 16_000)
    assert not rows["edge"].any()
    assert_uniform(rows["node"] - 9, 8)


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize(
    "task", [TASK, InWeightsStar(9, 3), InWeightsStar(), InWeightsStar(5000, 5)], ids=["8", "9", "100", "5000"]
)
def test_three_quarters_of_the_leaves_are_trains(task):
    """Catches: shares by chance, as of a hash; a validation or test split without a leaf; a chance of a quarter rounded
    down."""
    leaves = {"node": task.arms[:, -1], "edge": np.zeros(task.degree, dtype=int)}
    counts = [int((task.split_of(leaves) == split).sum()) for split in ("train", "validation", "test")]
    assert counts == {8: [6, 1, 1], 9: [6, 1, 2], 100: [75, 12, 13], 5000: [3750, 625, 625]}[task.degree]
    assert task.chance == pytest.approx(1 / (counts[1] + counts[2]))
    assert task.split_of({name: column[::-1] for name, column in leaves.items()})[0] == "test"


def test_train_has_all_edges_and_no_held_out_path():
    """Catches: edges of held-out arms that nobody trains on, so that the look-ups could not be known; a path in two
    splits; a split that changes with the seed of the rows."""
    task = InWeightsStar(12, 4)
    found = {}
    for seed in (0, 1):
        for split in ("train", "validation", "test"):
            rows = task.block(seed, split, 0)
            path = rows["edge"] == 0
            found.setdefault(split, set()).update(rows["node"][path].tolist())
            edges = {*zip(rows["node"][~path].tolist(), rows["answer"][~path, 0].tolist(), strict=True)}
            assert len(edges) == (2 * 12 * 3 if split == "train" else 0)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [9, 1, 2]
    assert len(set.union(*found.values())) == 12


def test_a_split_repeats_its_leaves_and_says_so(tmp_path, monkeypatch, caplog):
    """Catches: an n that counts rows, and rows that repeat without a word; edges of train counted as leaves."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    task = InWeightsStar()
    rows = load_splits(task, num_train=900, num_validation=10, num_test=300)
    assert len({*rows["test"]["node"]}) == len({*task.instance_hash(task.block(0, "test", 0, rows=300)).tolist()}) == 13
    assert "test: 300 rows of only about 12 different goals, so each comes about 24 times" in caplog.text
    assert "train:" not in caplog.text
    load_splits(InWeightsStar(degree=8), num_train=9, num_validation=0, num_test=8)
    assert "test: 8 rows of only about 1 different goal, so each comes about 8 times" in caplog.text


# ---------------------------------------------------------------- the decision


def test_decisions_and_detours_by_hand():
    """Catches: a decision of an edge, or where the path is looked up from its end; a detour that is the right path."""
    columns = columns_of(TASK, "15=0,7,15 .", "7-15")
    assert TASK.decisions(columns, "forward").tolist() == [2, 0]
    assert TASK.decisions(columns, "reversed").tolist() == [0, 0]
    assert TASK.guess(columns, "forward").tolist() == [1 / 2, 1]
    many = {name: np.repeat(column, 7000, axis=0) for name, column in columns.items()}
    detours = TASK.detours(many, np.random.default_rng(0))
    assert np.array_equal(detours[7000:], many["answer"][7000:])
    assert (detours[:7000, 1] + 8 == detours[:7000, 2]).all()
    assert_uniform(np.delete(np.arange(8), 6).searchsorted(detours[:7000, 1] - 1), 7)


def test_chance_is_that_of_who_knows_train_by_heart():
    """Catches: a chance of 1 / degree, which whoever sees that an arm is taken beats without a plan."""
    task = InWeightsStar()
    train = task.block(0, "train", 0)
    taken = {*train["answer"][train["edge"] == 0][:, 1].tolist()}
    left = [first for first in task.arms[:, 1].tolist() if first not in taken]
    held_out = {*task.block(0, "test", 0)["answer"][:, 1].tolist(), *task.block(0, "validation", 0)["answer"][:, 1]}
    assert {*left} == held_out
    assert len(left) == 25
    assert task.chance == 1 / 25


def planted(task, decide, knows_edges=True):
    """A model that writes the source, `decide(columns)`, the next node of the arm it is on, and the leaf at the end."""
    arms, child = task.arms, np.full(len(task.symbols), -1)
    child[arms[:, 1:-1]] = arms[:, 2:]

    def step(columns, shown, k):
        if k in (1, task.path_length):
            return np.full(len(columns["node"]), arms[0, 0]) if k == 1 else columns["node"]
        if k == 2:
            return decide(columns)
        return child[shown[:, k - 2]] if knows_edges else columns["node"]

    return Stepwise(task, step)


def firsts(task):
    """Of every leaf, by label: the right first node, and a guess of who knows train by heart."""
    right, guess = np.zeros((2, len(task.symbols)), dtype=int)
    right[task.arms[:, -1]] = task.arms[:, 1]
    left = task.arms[3 * task.degree // 4 :, 1]
    guess[task.arms[:, -1]] = np.random.default_rng(0).choice(left, task.degree)
    return right, guess


def by_heart(task):
    """Right on the leaves of train, and a guess elsewhere."""
    right, guess = firsts(task)
    known = np.isin(np.arange(len(right)), task.arms[: 3 * task.degree // 4, -1])
    return lambda columns: np.where(known, right, guess)[columns["node"]]


PLANTED = {
    "solved": lambda task: planted(task, lambda columns: firsts(task)[0][columns["node"]]),
    "cheat": lambda task: planted(task, lambda columns: firsts(task)[1][columns["node"]]),
    "memorised": lambda task: planted(task, by_heart(task)),
    "rote": lambda task: planted(task, by_heart(task), knows_edges=False),
    "guess": lambda task: planted(task, lambda columns: firsts(task)[1][columns["node"]], knows_edges=False),
}


VERDICTS = {"solved": "solved", "cheat": HANS, "memorised": "memorised", "rote": "memorised", "guess": "undertrained"}


@pytest.mark.parametrize("name", PLANTED)
def test_verdicts(name):
    """Catches: no verdict at all where chance is 0.08 %, half of which no number of leaves can tell from chance."""
    task = InWeightsStar(5000, 5)
    train, held_out = (task.block(0, split, 0) for split in ("train", "test"))
    found = diagnose(PLANTED[name](task), task, held_out, train)
    assert found["verdict"]["name"] == VERDICTS[name]
    assert found["decision_token"]["n"] == found["forced_vs_free"]["n"] == 625
    assert (found["decision_token"]["position"], found["decision_token"]["chance"]) == (2, 1 / 1250)
    assert found["clever_hans"]["follow_rate"] == float(name in ("solved", "cheat", "memorised"))


@pytest.mark.parametrize("name", PLANTED)
def test_thirteen_leaves_tell_who_has_solved_it_and_not_who_guesses(name):
    """Catches: thirteen leaves taken for 500 rows; a guess told from chance with so few; a solved one called unsolved
    because they are few."""
    task = InWeightsStar()
    found = diagnose(PLANTED[name](task), task, *(task.block(0, split, 0, rows=500) for split in ("test", "train")))
    assert found["verdict"]["name"] == ("solved" if name == "solved" else "undertrained")
    assert found["forced_vs_free"]["n"] == 13
    assert ("too few different goals" in found["verdict"]["text"]) == (name in ("cheat", "memorised"))


def test_picture_has_the_right_arm_and_the_answers():
    """Catches: a drawing of ten thousand arms, or one without the arm that the answer takes; a node of none;
    eight arms that look like all."""
    task = InWeightsStar()
    (row,) = ({name: column[0].tolist() for name, column in task.block(0, "test", 0, rows=1).items()},)
    wrong = task.arms[50].tolist()
    star = task.picture(row, [*wrong[:3], -1, 999])
    shown = {node for edge in star.edges for node in edge}
    assert {*row["answer"], *wrong} <= shown
    assert len(star.edges) == 8 * 4
    assert (star.source, star.goal, star.path) == (wrong[0], row["node"], row["answer"])
    (axes,) = figures.path_star(**vars(star)).axes
    assert axes.get_title(loc="left").endswith("(wrong)\n8 of 100 arms are shown")
    small = InWeightsStar(degree=8)
    assert small.picture({"node": int(small.arms[0, -1]), "edge": 0, "answer": small.arms[0].tolist()}, []).note == ""
    assert task.picture({**row, "edge": 1}, [3]) is None
