"""Encoding whole columns gives what the tokenizer gives, text by text, or leaves it to the tokenizer."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from nt_failures.data.tokenizer import add_tokens, encode_rows, word_level_tokenizer
from nt_failures.data.word_table import WordTable
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 5, 50)


@pytest.fixture(scope="module")
def words():
    return word_level_tokenizer(TASK)


def by_tokenizer(tokenizer, texts):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.mark.parametrize("size", [(2, 5, 50), (5, 3, 3000), (1, 2, 2)], ids=str)
def test_rows_of_a_task(size, tmp_path):
    """Catches: ids in the wrong text or order, words of several bytes read from the wrong end; a table that is lost on
    the way through AutoTokenizer."""
    task = PathStar(*size)
    text = task.render(task.sample(np.random.default_rng(0), 200))
    word_level_tokenizer(task).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for column in text.values():
        strings = column.to_list()
        encoded = WordTable.of(tokenizer).encode(pa.array(strings))
        assert encoded.to_pylist() == by_tokenizer(tokenizer, strings)
        assert encoded.type == pa.list_(pa.int32())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.text(alphabet="0123459 ,|/=$\t\nx[]PAD€\x1c", max_size=12), min_size=1, max_size=6))
def test_any_text(texts):
    """Catches: text that the table reads otherwise than the tokenizer: leading zeros, unknown labels, `[PAD]`, blanks
    of every kind, empty texts, words over the border between two texts."""
    tokenizer = word_level_tokenizer(TASK)
    encoded = WordTable.of(tokenizer).encode(pa.array(texts, pa.string()))
    if encoded is not None:
        assert encoded.to_pylist() == by_tokenizer(tokenizer, texts)


def test_plain_text_is_not_left_to_the_tokenizer(words):
    """Catches: a table that always declines, which is right and slow."""
    texts = ["0", "3,4|5,6/3,6=", "49 0\t7,,", "$"]
    table = WordTable.of(words)
    assert table.encode(pa.array(texts)).to_pylist() == [[0], [3, 4, 50, 5, 6, 52, 3, 6, 51], [49, 0, 7], [53]]
    assert table.encode(pa.array(["9", *texts, "8"]).slice(1, 4)).to_pylist() == by_tokenizer(words, texts)


@pytest.mark.parametrize("text", ["", "50", "03", "a", "[PAD]", "1\x1c2", "1\u00a02", "123456789", None])
def test_odd_text_is_left_to_the_tokenizer(words, text):
    """Catches: an unknown label dropped or guessed, a missing text read as an empty one."""
    assert WordTable.of(words).encode(pa.array(["1", text], pa.string())) is None


def test_positions(words):
    """Catches: places that go on from one text to the next; marks, of which several make one symbol, counted singly."""
    table = WordTable.of(words)
    texts = pa.array(["3,4,5", "6,1", "7"])
    assert table.positions(texts, table.encode(texts)).to_pylist() == [[1, 2, 3], [1, 2], [1]]
    marked = pa.array(["3|4"])
    assert table.positions(marked, table.encode(marked)) is None
    assert encode_rows(words, ["1="], ["3|4,5"])["target_positions"] == [[1, 1, 1, 2]]


def test_other_tokenizers_have_no_table(words, tokenizer):
    """Catches: a table for a tokenizer that may do something else with the same text."""
    changed = word_level_tokenizer(TASK)
    assert add_tokens(changed, ["1,2"]) == 1  # found in a text before it is split
    assert WordTable.of(changed) is None
    named = word_level_tokenizer(TASK)
    add_tokens(named, ["[MASK]"])  # its brackets are in no plain text
    assert WordTable.of(named).encode(pa.array(["1,2"])).to_pylist() == [[1, 2]]
    lower = word_level_tokenizer(TASK)
    lower.backend_tokenizer.enable_truncation(3)
    assert WordTable.of(lower) is None
    unknown = word_level_tokenizer(TASK)
    unknown.add_special_tokens({"unk_token": "[UNK]"})
    assert WordTable.of(unknown) is None
    assert WordTable.of(tokenizer) is not None
