"""A task that contradicts itself is refused before anything is drawn, in one line."""

import dataclasses

import numpy as np
import pytest
from own_tasks import AnyOrder, Copy, Few, OffCentre

from nt_failures.data.splits import load_splits
from nt_failures.tasks._check import check_task
from nt_failures.tasks.path_star import PathStar


@pytest.mark.parametrize("task", [PathStar(), PathStar(1, 2, 3), OffCentre(), AnyOrder(), Few(), Copy()], ids=str)
def test_whole_tasks_pass(task):
    """Catches: a rule that a sensible task does not keep."""
    check_task(task)


def slip(**methods):
    """`AnyOrder` with some methods or facts of it changed."""
    return dataclasses.dataclass(frozen=True)(type("Slip", (AnyOrder,), {"__module__": __name__, **methods}))()


def but(**columns):
    """`sample` with other columns."""
    return lambda self, rng, n: {**AnyOrder.sample(self, rng, n), **{k: of(n) for k, of in columns.items()}}


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ({"sample": lambda self, rng, n: AnyOrder.sample(self, rng, 3)}, "rows; give 8 in every column"),
        ({"sample": but(words=lambda n: np.array(["1,2"] * n))}, "column 'words' of Slip holds no whole numbers"),
        ({"train_sample": but(more=np.zeros)}, "train_sample of Slip gives"),
        ({"symbols": [*"0123456789", "="]}, "do not end with DUMMY"),
        ({"answer_length": 5}, r"have the shape \(8, 3\); give \(n, answer_length\), \(n, 5\)"),
        ({"sample": but(answer=lambda n: np.full((n, 3), [1, -1, 2]))}, "is empty, or has -1 before its end"),
        ({"sample": but(answer=lambda n: np.full((n, 3), -1))}, "is empty, or has -1 before its end"),
        (
            {"symbols": [*"0123456789=.$"], "sample": but(answer=lambda n: np.full((n, 3), [1, 2, 11]))},
            "an answer of Slip holds END, '.'; leave END out of 'answer', it is written for you",
        ),
        ({"decision_position": lambda self, order: 7}, r"is at \[7\] of answers of \[3\] symbols"),
        (
            {"decision_position": lambda self, order: 1, "choices": lambda self, columns, order: np.full((8, 2), -1)},
            "the choices of Slip lack the right symbol of a decision",
        ),
        ({"chance": 50}, "the chance of Slip is 50.0; give a share"),
        (
            {"guess": lambda self, columns, order: np.array([1, 0.5, 0, 0.5, 1, 1, 1, 1])},
            "the chance of Slip is 0.0; give a share",
        ),
        ({"render": lambda self, columns: {"prompt": ["1="]}}, r"gives \{'prompt': 1, 'completion': 8\} texts"),
        ({"render": lambda self, columns: {"prompt": "1="}}, "gives '1=' for 'prompt'; give a list of strings"),
        ({"render": lambda self, columns: ["1="] * 8}, r"gives \[\]; give `prompt` and `completion`"),
        (
            {"render": lambda self, columns: {"prompt": [f"{row[0]}=" for row in columns["answer"].tolist()]}},
            "render of Slip makes the prompt of 'answer', the right answers; make it of other columns",
        ),
        (
            {"render": lambda self, columns: {"prompt": ["1="] * 8, "completion": ["1,2,3"] * 8}},
            r"the completion '1,2,3' of Slip reads as \[1, 2, 3\], which its judge calls wrong",
        ),
    ],
)
def test_slips_are_one_line(methods, reason, tmp_path):
    """Catches: a training on data that contradict themselves, called solved; an error at its first evaluation."""
    task = slip(**methods)
    with pytest.raises(ValueError, match=reason) as error:
        check_task(task)
    assert "\n" not in str(error.value)


def test_a_builder_asks(tmp_path, monkeypatch):
    """Catches: a check that nothing calls."""
    with pytest.raises(ValueError, match="the chance of Slip is 50"):
        load_splits(slip(chance=50), num_train=10, num_test=10)


@dataclasses.dataclass(frozen=True)
class WithoutSource(PathStar):
    """The path without its source, so that the decision is its first symbol."""

    @property
    def answer_length(self):
        return self.path_length - 1

    def sample(self, rng, n):
        rows = super().sample(rng, n)
        return {**rows, "path": rows["path"][:, 1:]}

    def decision_position(self, order):
        return 1 if order == "forward" else 0


def test_a_star_whose_answer_begins_elsewhere_keeps_its_choices():
    """Catches: choices behind the symbol before the decision, where there is none: a task of the user's own refused."""
    check_task(task := WithoutSource(3, 4, 20))
    columns = task.sample(np.random.default_rng(0), 50)
    for row, edges, source in zip(task.choices(columns, "forward"), columns["edges"], columns["source"], strict=True):
        assert sorted({*row.tolist()} - {-1}) == sorted(child for parent, child in edges.tolist() if parent == source)
