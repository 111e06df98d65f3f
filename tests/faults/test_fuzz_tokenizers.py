"""Odd text through tokenizers: what is written reads back, each token belongs to the symbol that the task reads
there."""

import datasets
import pytest
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st
from planted import byte_bpe

from nt_failures.data.tokenizer import encode_rows, tokenize, word_level_tokenizer
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 100)
ANSWERS = st.one_of(
    st.lists(st.integers(0, 99), min_size=1, max_size=6).flatmap(
        lambda labels: st.sampled_from([",", " ", ", ", ",,"]).map(lambda mark: mark.join(map(str, labels)))
    ),
    st.text("0123456789, ", max_size=12),
    st.text(max_size=12),
)


@pytest.fixture(scope="module")
def many():
    """Word level, and byte BPEs that split numbers into digits, into some pieces, and not at all."""
    return [word_level_tokenizer(TASK), *(byte_bpe(TASK, size) for size in (256, 290, 600))]


@fuzz(1500, which=st.integers(0, 3), text=ANSWERS)
def test_positions(which, text, many):
    """Catches: blanks or double commas that shift every position, tokens that belong to no symbol, or to two in
    silence."""
    tokenizer = many[which]
    row = accepted(lambda: encode_rows(tokenizer, [text], [text]), "tokenizer", "token")
    if row is None:
        return
    ids, positions = row["target_ids"][0], row["target_positions"][0]
    assert len(ids) == len(positions)
    symbols = text.replace(",", " ").split()
    for k, symbol in enumerate(symbols, start=1):
        mine = [i for i, position in zip(ids, positions, strict=True) if position == k]
        assert tokenizer.decode(mine).strip(" ,") == symbol or not symbol.isascii()
    assert max(positions, default=0) == len(symbols)
    if which:
        assert tokenizer.decode(ids) == text


@fuzz(150, prompts=st.lists(st.one_of(ANSWERS, ODD), max_size=3), drop=st.sampled_from(["", "prompt", "completion"]))
def test_tokenize(prompts, drop, many):
    """Catches: an empty dataset, a missing column or a row that is no text, which end in another error than a
    ValueError."""
    columns = {"prompt": [repr(p) if i else p for i, p in enumerate(prompts)], "completion": ["1,2"] * len(prompts)}
    columns.pop(drop, None)
    try:
        data = datasets.Dataset.from_dict(columns)
    except Exception:
        data = datasets.Dataset.from_dict({})
    rows = accepted(lambda: tokenize(data, many[1]), "column", "tokenizer", "token")
    assert rows is None or len(rows) == len(prompts)
