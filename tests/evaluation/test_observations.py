"""Observations: what a task says of each row joined with what a model answers, by hand."""

import datasets
import numpy as np
import pytest
from own_tasks import Countdown, Fork, Pair, counted
from planted import Table

from nt_failures.data.columns import to_table
from nt_failures.diagnosis import figures
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.reading import as_answers
from nt_failures.tasks.addition import Addition
from nt_failures.tasks.countdown import Countdown as Equations
from nt_failures.tasks.hops import Hops
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.siblings import Siblings


class Written(Table):
    """Answers written out by hand."""

    def __init__(self, answers, **tables):
        super().__init__(free=answers, **tables)

    def forced(self, columns, answers):
        return np.array(self.tables["forced"])


def test_answers_end_where_nothing_follows():
    """Catches: the filling behind an answer judged as a symbol; an answer cut at the first thing that is no symbol."""
    table = np.array([[3, 2, 1, -1, -1], [3, -2, 1, 4, -1], [-1, 2, 3, -1, -1], [1, 2, 3, 4, 5]])
    assert as_answers(table) == [[3, 2, 1], [3, -2, 1, 4], [-1, 2, 3], [1, 2, 3, 4, 5]]


def test_shorter_answers_are_judged_by_the_task():
    """Catches: an answer that goes on behind its end called exact; a position that a row lacks called right; a right
    answer shown as the first wrong one because it is shorter than the longest."""
    columns = counted(3, 1, 2)
    model = Written([[3, 2, 1, -1, -1], [1, 1, -1, -1, -1], [2, -2, -1, -1, -1]])
    observed = Observations(model, Countdown(), columns)
    assert observed.free.exact.tolist() == [True, False, False]
    assert observed.free.right.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] + [False] * 3]
    assert observed.free.has.sum(axis=1).tolist() == [3, 1, 2]
    assert observed.free.first_errors("forward").tolist() == [0, 2, 2]
    assert (observed.decision, observed.chance, observed.deciding.tolist()) == (None, None, [False] * 3)
    assert observed.example()["prediction"] == [1, 1]


def test_rows_of_a_data_set():
    """Catches: the rows of `load_dataset` refused, or a column of one's own that makes of each row another problem."""
    task = PathStar(2, 3, 10)
    columns = task.block(0, "test", 0, rows=4)
    rows = datasets.Dataset(to_table(task, columns))
    twice = datasets.concatenate_datasets([rows, rows]).add_column("mine", list(range(8)))
    observed = Observations(Written(np.tile(columns["path"], (2, 1))), task, twice)
    assert observed.free.exact.all()
    assert (observed.n(), len(observed.answers)) == (4, 8)
    with pytest.raises(ValueError, match=r"rows with \['prompt', .* lack columns of PathStar; keep them all"):
        Observations(Written(columns["path"]), task, rows.select_columns(["prompt", "path"]))


def test_several_right_answers():
    """Catches: a perfect model of a task with two right answers called undertrained, or shown with a right answer as
    its error."""
    columns = {"answer": np.array([[2, 5], [3, 4]]), "shown": np.array([[2, 5], [3, 4]])}
    observed = Observations(Written([[5, 2], [3, 9]]), Pair(), columns)
    assert observed.free.exact.tolist() == [True, False]
    example = observed.example()
    assert example.pop("text") == {"prompt": "3,4=", "completion": "3,4", "prediction": "3,9"}
    assert example == {"answer": [3, 4], "shown": [3, 4], "prediction": [3, 9]}


EXAMPLES = {
    "path_star": (PathStar(2, 3, 10), "2,8|5,2|5,9|9,3/5,8=5,2,8", [5, 9, -2], "5,9,?"),
    "siblings": (Siblings(2, 4, 4, 3), "Q,C,C,X=6,2,p0", [6, 7, 9], "6,7,p1"),
    "hops": (Hops(5, 2, way=True), "3,0|4,2|0,4|1,3|2,1/3,k2=0,4 .", [0, 5], "0,k1"),
    "addition": (Addition(2), "9,4+5,5=1,4,9", [0, 10, 9], "0,+,9"),
    "countdown": (Equations(3), "20,14,20|14:1 = 20 / 20, 14 = 14 / 1 .", [1, 105, 20, 104, -2], "1,=,20,/,?"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_shown_as_text(name):
    """Catches: `9` for the parent p1, in a results.json that people read; the text of another row."""
    task, line, predicted, said = EXAMPLES[name]
    columns = {key: np.array([value]) for key, value in task.parse(line).items()}
    answer = np.full((1, task.answer_length), -1)
    answer[0, : len(predicted)] = predicted
    example = Observations(Written(answer), task, columns).example()
    assert example["prediction"] == predicted
    assert example["text"]["prompt"] + example["text"]["completion"] == line
    assert example["text"]["prediction"] == said


@pytest.mark.parametrize(
    ("written", "said"), [([7, 2, 4, -1, -1], "7, 2, 4  (right)"), ([7, -2, 4, 5, -1], "7, ?, 4, 5  (wrong)")]
)
def test_the_picture_of_a_shorter_answer(written, said):
    """Catches: every right path of a range titled wrong, with a question mark for each symbol it does not have."""
    task = PathStar(2, (3, 4), 10)
    row = task.parse("7,2|2,4|7,3|3,5/7,4=7,2,4 . .")
    columns = {name: np.array([value]) for name, value in row.items()}
    example = Observations(Written([written]), task, columns).example()
    title = figures.path_star(**vars(task.picture(example, example["prediction"]))).axes[0].get_title(loc="left")
    assert title == f"model's answer: {said}"


FORKS = {
    "answer": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]]),
    "fork": np.array([1, 2, 0, 1]),
    "ways": np.array([2, 4, 3, 2]),
    "key": np.array([7, 8, 9, 7]),
}


def test_the_decision_of_each_row():
    """Catches: position 0 - the last one - taken for the decision of a row that has none; one decision for all."""
    forced = [[1, 0, 0], [0, 5, 0], [7, 8, 9], [0, 2, 3]]
    observed = Observations(Written(FORKS["answer"], forced=forced), Fork(), FORKS)
    assert observed.decision is None
    assert observed.deciding.tolist() == [True, True, False, True]
    assert observed.at_decision(observed.forced).tolist() == [True, True, False]
    assert observed.chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)
    assert (observed.n(), observed.n(observed.deciding), observed.accuracies.rows) == (3, 2, 4)


def test_one_decision_for_all_rows():
    """Catches: None where all rows decide at the same position; a chance with the rounding of a mean."""
    task = PathStar(3, 4, 30)
    columns = task.block(0, "test", 0, rows=7)
    observed = Observations(Written(columns["path"]), task, columns)
    assert (observed.decision, observed.chance) == (2, 1 / 3)
    some = {**FORKS, "fork": np.array([2, 2, 0, 2])}
    assert Observations(Written(FORKS["answer"]), Fork(), some).decision is None
