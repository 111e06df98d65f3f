"""Columns of text: what goes in comes out, as Python strings and as Arrow's."""

import datasets
import numpy as np
import pytest

from nt_failures.data.columns import to_table
from nt_failures.tasks import _text
from nt_failures.tasks._text import Text
from nt_failures.tasks.path_star import PathStar

STRINGS = ["é→1", "", "plain", "😀,ü", "\n", "日本"]


@pytest.mark.parametrize("strings", [STRINGS, [], [""]])
def test_any_characters(strings):
    """Catches: an error at the first letter that is not ASCII, offsets in characters, which cut letters in two."""
    text = Text.from_list(strings)
    assert text.to_list() == strings
    assert text.offsets.tolist() == [0, *np.cumsum([len(string.encode()) for string in strings])]
    assert (text.data.dtype, text.offsets.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("kind", [list, Text.from_list])
def test_a_column_for_arrow(kind, monkeypatch):
    """Catches: a list of strings that is refused, a column of bytes."""
    monkeypatch.setattr(PathStar, "render", lambda *given: {"prompt": kind(STRINGS), "completion": kind(STRINGS[::-1])})
    task = PathStar()
    table = to_table(task, task.sample(np.random.default_rng(0), len(STRINGS)))
    assert datasets.Features.from_arrow_schema(table.schema)["prompt"] == datasets.Value("string")
    table.validate(full=True)
    assert table["prompt"].to_pylist() == table["completion"].to_pylist()[::-1] == STRINGS


def test_more_than_arrow_can_count(monkeypatch):
    """Catches: offsets that wrap around, and rows that hold the text of others."""
    monkeypatch.setattr(_text, "MAX_TEXT", 9)
    assert Text.from_list(["123", "456789"]).offsets.tolist() == [0, 3, 9]
    with pytest.raises(ValueError, match="2 strings are 10 bytes, above 9; render fewer rows"):
        Text.from_list(["123", "45678é"])


def test_numbers_in_any_layout():
    """Catches: an error for an array whose rows do not lie one behind the other in memory."""
    nodes = np.array([[7, 12], [0, 3]])
    assert _text.join_numbers(nodes.T, ",").to_list() == ["7,0", "12,3"]
    assert _text.join_numbers(np.asfortranarray(nodes), ",").to_list() == ["7,12", "0,3"]


def test_rows_of_different_lengths():
    """Catches: a row lost or written twice, separators of another row."""
    nodes = np.array([[1, 20, 300], [4, -1, -1], [-1, -1, -1], [5, 6, 7], [88, 99, -1]])
    separators = np.frombuffer(b";=.---,=;.=;,,.", dtype=np.uint8).reshape(5, 3)
    assert _text.join_numbers(nodes, separators).to_list() == ["1;20=300.", "4-", "", "5.6=7;", "88,99,"]
    assert _text.join_numbers(nodes[:0], ",,").to_list() == []
    assert _text.join_numbers(nodes[:, :0], "").to_list() == [""] * 5
    index = np.array([[0, 1], [1, 1], [2, 0]])
    assert _text.join_words(index, ["a", "bcd", "ef"]).to_list() == ["abcd", "bcdbcd", "efa"]
