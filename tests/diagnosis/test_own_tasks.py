"""The diagnosis of tasks that are unlike path-star graphs: decisions that move, several right answers, few problems."""

import json

import numpy as np
import pytest
from own_tasks import AnyOrder, Few, OffCentre
from stepwise import Stepwise

from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.diagnosis.report import counted, diagnosis_text, findings
from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations


def cheat(columns, shown, k):
    """Guesses at the centre, and goes on along whatever arm it is on; on the stem, it looks up."""
    path, other = columns["path"], columns["other"]
    centre = OffCentre().decisions(columns, "forward")
    guess = np.where(path.sum(axis=1) % 2 == 0, path[:, k - 1], other[:, k - 1])
    rows = np.arange(len(path))
    on_other = (k > centre) & (shown[rows, centre - 1] == other[rows, centre - 1])
    return np.where(k == centre, guess, np.where(on_other, other[:, k - 1], path[:, k - 1]))


def held_out(task, rows=2000):
    return task.block(0, "test", 0, rows=rows)


def test_a_cheat_whose_decision_moves_is_found():
    """Catches: one position for all rows, which called this model undertrained and saw 67 % follow in place of 100 %;
    a cheat that is tested with symbols behind, or without those up to, the row's own decision."""
    task = OffCentre()
    columns = held_out(task)
    found = diagnose(Stepwise(task, cheat), task, columns)
    right = (columns["path"].sum(axis=1) % 2 == 0).mean()  # by hand: the guess is right for even sums alone
    assert found["verdict"]["name"] == "clever-hans + indecipherable token"
    assert found["clever_hans"]["follow_rate"] == 1.0
    assert found["decision_token"]["accuracy"] == pytest.approx(right)
    assert found["decision_token"]["position"] is None
    assert found["forced_vs_free"]["exact"] == pytest.approx(right)
    assert set(found["forced_vs_free"]["forced_others"].values()) == {1.0}
    assert found["forced_vs_free"]["first_error_at_decision"] == 1.0
    assert found["forced_vs_free"]["snowball_without_decision"] == 1.0
    assert found["forced_vs_free"]["snowball_prediction"] == pytest.approx(right)
    assert "wrong branch" in found["verdict"]["text"]
    assert "arm" not in diagnosis_text(found, task).replace("learning_order", "")
    said = findings(json.loads(json.dumps(found, allow_nan=False)), task.words)
    assert said[1].endswith("100.0% go wrong first at the decision")
    assert said[2].startswith("decision, at a position of its own in each row: ")


def test_positions_count_the_rows_that_have_them():
    """Catches: a symbol that a row does not have, which counts as right (100 % of an untrained model), or as wrong."""
    task = OffCentre()
    columns = held_out(task)
    lengths = task.lengths(columns)
    nothing = Stepwise(task, lambda columns, shown, k: np.full(len(columns["path"]), -1))
    found = diagnose(nothing, task, columns)["forced_vs_free"]
    assert set(found["forced"].values()) == set(found["free"].values()) == {0.0}
    perfect = Stepwise(task, lambda columns, shown, k: columns["path"][:, k - 1])
    found = diagnose(perfect, task, columns)
    assert set(found["forced_vs_free"]["free"].values()) == {1.0}
    assert found["verdict"]["name"] == "solved"
    for k in (5, 6):  # stems of one node have four symbols, so all rows have the first four
        some = {name: column[lengths >= k] for name, column in columns.items()}
        assert found["forced_vs_free"]["n_positions"][k] == len(np.unique(task.instance_hash(some)))
    assert set(found["forced_vs_free"]["n_positions"]) == {5, 6}


@pytest.mark.parametrize("extra", [1, -1], ids=["goes on", "stops early"])
def test_stopping_is_judged(extra):
    """Catches: an answer that is cut where the right one ends, so that whoever never stops is right."""
    task = OffCentre()
    columns = held_out(task)
    path = np.column_stack([columns["path"], np.full(len(columns["path"]), -1)])
    ends = task.lengths(columns) - (extra == -1)
    path[np.arange(len(path)), ends] = -2 if extra == 1 else -1
    found = Observations(Fixed(path), task, columns)
    assert not found.free.exact.any()
    wanted = ends + 1
    assert np.array_equal(found.free.first_errors("forward"), wanted)


class Fixed:
    """The same answers whatever is asked."""

    autoregressive, order, trained_positions = True, "forward", None

    def __init__(self, answers):
        self.answers = answers

    def free(self, columns):
        return self.answers

    def forced(self, columns, answers):
        return self.answers[:, : answers.shape[1]]


def test_a_right_answer_that_is_not_the_written_one_is_right():
    """Catches: exact as equality with the one answer of the data ("exact 0.1 %, undertrained" for a perfect model)."""
    task = AnyOrder()
    columns = held_out(task, 500)
    found = Observations(Fixed(columns["digits"][:, ::-1]), task, columns)
    assert found.free.exact.all()
    assert found.free.right.all()
    wrong = columns["digits"].copy()
    wrong[:, 2] = wrong[:, 0]  # a digit twice
    found = Observations(Fixed(wrong), task, columns)
    assert not found.free.exact.any()
    assert set(found.free.first_errors("forward").tolist()) == {3}


def test_intervals_are_of_problems():
    """Catches: n that counts rows: 2,000 rows of a handful of problems are no 2,000 observations."""
    task = Few()
    columns = held_out(task)
    problems = {(a, b) for a, b in zip(columns["a"].tolist(), columns["b"].tolist(), strict=True)}
    right = np.where(columns["a"] == sorted(problems)[0][0], columns["answer"][:, 0], 0)[:, None]
    found = diagnose(Fixed(right), task, columns)["forced_vs_free"]
    assert (found["n"], found["rows"]) == (len(problems), 2000)
    share = found["exact"]
    assert found["exact_interval"] == list(wilson(share * len(problems), len(problems)))
    assert (
        counted(found["n"], found["rows"], task.words) == f"{len(problems)} different held-out problems in 2,000 rows"
    )
    assert [round(100 * end, 1) for end in wilson(1, 23)] == [0.8, 21.0]
