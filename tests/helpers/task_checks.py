"""What tasks are asked alike: rows from text, an answer judged by hand, and text and parameters that are refused."""

import numpy as np
import pytest


def columns_of(task, *lines):
    """Instances from lines of text, each a prompt and its answer."""
    rows = [task.parse(line) for line in lines]
    return {name: np.array([row[name] for row in rows], dtype=np.int32) for name in rows[0]}


def assert_judged(task, columns, answer, exact, first_error, decision, valid_path):
    """What a graph's judge says of one answer."""
    judged = task.judge(columns, [answer])
    found = {name: judged[name].tolist() for name in ("exact", "first_error", "decision", "valid_path")}
    assert found == {
        "exact": [exact],
        "first_error": [first_error],
        "decision": [decision],
        "valid_path": [valid_path],
    }


def assert_scored(task, columns, answer, correct, exact, first_error):
    """What is right of one answer, symbol by symbol."""
    judged = task.judge(columns, [answer])
    assert judged["correct"].tolist() == [[bool(c) for c in correct]]
    assert (judged["exact"].tolist(), judged["first_error"].tolist()) == ([exact], [first_error])


def bad_lines(*cases):
    """A test of lines, each with the reason for which it is refused."""
    return pytest.mark.parametrize(("line", "reason"), cases)


def bad_parameters(*cases):
    """A test of parameters, each with what the error says was given, and what to give."""
    return pytest.mark.parametrize(("parameters", "given", "repair"), cases)


def assert_refused(kind, parameters, given, repair):
    """That a task is not made, and the error says both."""
    with pytest.raises(ValueError) as error:
        kind(**parameters)
    assert given in str(error.value)
    assert repair in str(error.value)


def read_or_none(task, text):
    """The row of a text; None where it is refused, as it should be, by a ValueError."""
    try:
        return task.parse(text)
    except ValueError:
        return None
