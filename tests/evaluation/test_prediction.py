"""The metrics of an evaluation, by hand, for tasks that say themselves what is right and where the decision is."""

import numpy as np
import pytest
from own_tasks import Countdown, Fork, Pair, counted
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import EvalPrediction, PreTrainedTokenizerFast

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.evaluation.prediction import objective_metrics
from nt_failures.evaluation.reading import as_answers, forced_symbols, read_symbols, texts_of
from nt_failures.objectives import NextToken, Teacherless
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.siblings import Siblings

X = -100


def output(target, positions=None, **predictions):
    target = np.array(target)
    positions = np.where(target == X, X, np.arange(1, target.shape[1] + 1)) if positions is None else positions
    labels = {"target_ids": target, "target_positions": np.array(positions)}
    return EvalPrediction({name: np.array(ids) for name, ids in predictions.items()}, labels)


PAIRS = [[2, 5], [3, 4], [2, 5], [1, 7]]
PAIR_COLUMNS = {"answer": np.array(PAIRS), "shown": np.array(PAIRS)}


def test_the_task_judges():
    """Catches: a right answer called wrong because it is not the one that the row shows; forced predictions judged as
    if they were answers; rows counted for problems."""
    task = Pair()
    free, forced = [[5, 2], [3, 4], [2, 5], [1, 8]], [[2, 5], [9, 4], [2, 5], [1, 7]]
    tokenizer = word_level_tokenizer(task)
    found = objective_metrics(output(PAIRS, free=free, forced=forced), NextToken(), task, PAIR_COLUMNS, tokenizer)
    assert found == {
        "forced/exact": 0.75,
        "forced/position_1": 0.75,
        "forced/position_2": 1.0,
        "free/exact": 0.75,
        "free/position_1": 1.0,
        "free/position_2": 0.75,
        "problems": 3,
    }


def test_columns_of_more_rows_than_were_predicted():
    """Catches: problems of rows that were not asked, or a comparison with other rows."""
    free = [[5, 2], [4, 3]]
    found = objective_metrics(
        output(PAIRS[:2], free=free, forced=PAIRS[:2]), NextToken(), Pair(), PAIR_COLUMNS, word_level_tokenizer(Pair())
    )
    assert (found["free/exact"], found["problems"]) == (1.0, 2)


FORKS = {
    "answer": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]]),
    "fork": np.array([1, 2, 0, 3]),
    "ways": np.array([2, 4, 3, 2]),
    "key": np.arange(4),
}


def test_the_decision_of_each_row():
    """Catches: one position for all rows; a row without decision counted as one, or its chance."""
    target = FORKS["answer"].tolist()
    forced = [[1, 0, 0], [4, 0, 6], [0, 0, 0], [0, 0, 1]]  # right at the forks 1 and 3, wrong at 2
    found = objective_metrics(output(target, forced=forced, free=target), NextToken(), Fork(), FORKS)
    assert found["decision"] == pytest.approx(2 / 3)
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)
    assert found["problems"] == 4
    parallel = Teacherless(dummy_token_id=11)
    found = objective_metrics(output(target, forced=forced, free=target), parallel, Fork(), FORKS)
    assert found["decision"] == 1.0  # its own decoding is what is judged
    none = {**FORKS, "fork": np.zeros(4, dtype=int)}
    assert not {"decision", "chance"} & set(objective_metrics(output(target, forced=forced), NextToken(), Fork(), none))


@pytest.mark.parametrize(("task", "own"), [(Pair(), "judge"), (Fork(), "decisions, guess")])
def test_rows_that_the_task_must_see(task, own):
    """Catches: answers judged, or decisions looked for, by the defaults that the task has replaced, because the data
    set has lost its columns."""
    length = task.answer_length
    rows = [[1] * length] * 2
    with pytest.raises(ValueError, match=rf"{type(task).__name__} has its own {own}, which needs the columns of each"):
        objective_metrics(output(rows, forced=rows, free=rows), NextToken(), task, None, word_level_tokenizer(task))


def test_text_that_nobody_can_read():
    """Catches: an AttributeError of None for a Trainer that was given no tokenizer."""
    rows = [[1] * Pair().answer_length] * 2
    shown = {"answer": np.array([[2, 5], [3, 4]]), "shown": np.array([[2, 5], [3, 4]])}
    with pytest.raises(ValueError, match="Pair judges text; give the Trainer processing_class=tokenizer"):
        objective_metrics(output(rows, forced=rows, free=rows), NextToken(), Pair(), shown)


def test_rows_that_the_task_need_not_see():
    """Catches: PathStar refused on rows without its columns, though its one answer is in their ids; problems counted
    that nobody can tell apart."""
    rows = [[3, 1, 2], [4, 5, 6]]
    found = objective_metrics(output(rows, forced=[[3, 1, 2], [4, 0, 6]]), NextToken(), PathStar(2, 3, 10))
    assert found == {
        "forced/exact": 0.5,
        "forced/position_1": 1.0,
        "forced/position_2": 0.5,
        "forced/position_3": 1.0,
        "free/exact": 0.5,
        "decision": 0.5,
        "chance": 0.5,
    }
    reversed_ = objective_metrics(
        output(rows, forced=[[3, 1, 2], [4, 0, 6]]), NextToken(order="reversed"), PathStar(2, 4, 10)
    )
    assert reversed_["decision"] == 1.0  # position 3
    assert not {"decision", "problems"} & set(objective_metrics(output(rows, forced=rows), NextToken(), Countdown(3)))


def test_answers_that_differ_in_length():
    """Catches: a position counted for rows that lack it, or of more problems than have it; the end that is missing or
    comes too early passed over."""
    task = Countdown()
    columns = counted(3, 1, 2, 2)
    end = task.symbols.index(task.END)
    target = [[3, 2, 1, end], [1, end, end, end], [2, 1, end, end], [2, 1, end, end]]
    positions = [[1, 2, 3, 0], [1, 0, 0, 0], [1, 2, 0, 0], [1, 2, 0, 0]]
    free = [[3, 2, end, end], [1, 1, end, end], [2, 1, end, end], [2, 1, 1, end]]
    found = objective_metrics(output(target, positions, forced=free, free=free), NextToken(), task, columns)
    assert found["free/exact"] == 0.25
    assert [found[f"free/position_{k}"] for k in (1, 2, 3)] == [1.0, 1.0, 0.0]
    assert [found.get(f"n/position_{k}") for k in (1, 2, 3)] == [None, 2, 1]
    assert found["problems"] == 3


def test_answers_that_differ_in_length_from_their_end():
    """Catches: a reversed answer that ends too soon or too late counted from its front, where it was written last."""
    task = Countdown()
    end = task.symbols.index(task.END)
    objective = NextToken(order="reversed", end_token_id=end)
    target, positions = [[3, 2, 1, end], [2, 1, end, end]], [[1, 2, 3, 0], [1, 2, 0, 0]]
    free = [[2, 1, end, end], [3, 2, 1, end]]  # written 1, 2 and 1, 2, 3
    found = objective_metrics(output(target, positions, forced=target, free=free), objective, task, counted(3, 2))
    assert found["free/exact"] == 0
    assert [found[f"free/position_{k}"] for k in (1, 2, 3)] == [0.5, 1.0, 1.0]


def test_ids_are_read_as_answers():
    """Catches: the filling behind a row read as a token, text behind the end judged."""
    task = Countdown()
    ids = np.array([[3, 2, 6, 1], [4, X, X, X], [5, 7, 6, X]])
    texts = texts_of(word_level_tokenizer(task), ids)
    assert as_answers(read_symbols(task, texts)) == [[3, 2], [4], [5, -2]]


@pytest.mark.parametrize(("order", "written"), [("forward", "7,1,p1,7"), ("reversed", "7,7,1,p1")])
def test_tokens_that_hold_more_symbols_than_the_answer(order, written):
    """Catches: one answer judged in two ways, by the Trainer with what follows it and by `ModelPredictor` without; what
    follows it looked for at the wrong end in reversed order."""
    task = Siblings(num_parents=2, num_children=10, prefix_length=1)
    columns = {name: column[2:3] for name, column in task.block(0, "test", 0, rows=3).items()}
    of_characters = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate("0123456789,p?")}, unk_token="?"))
    of_characters.pre_tokenizer, of_characters.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_characters)
    target, free = (np.array(tokenizer([text])["input_ids"]) for text in ("10,19,p0", written))
    predicted = output(target, target * 0, forced=free, free=free)
    found = objective_metrics(predicted, NextToken(order=order), task, columns, tokenizer)
    assert found["free/exact"] == 1.0


def test_forced_tokens_that_make_no_symbol():
    """Catches: a tokenizer that is asked to write -100, a symbol read from half of its tokens, the first of two symbols
    that stand where one should."""
    task = PathStar(degree=2, path_length=3, num_nodes=10)
    ids, positions = np.array([[7, X, 9], [7, 8, X], [7, 8, 9]]), np.array([[1, 2, 3], [1, 2, X], [1, 1, 2]])
    found = forced_symbols(task, word_level_tokenizer(task), ids, positions)
    assert found.tolist() == [[7, -1, 9], [7, 8, -1], [-1, 9, -1]]
