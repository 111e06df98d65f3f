"""Text to ids: the word-level tokenizer, and `tokenize` with tokenizers that spend tokens as they like."""

import dataclasses

import datasets
import numpy as np
import pyarrow as pa
import pytest
import tokenizers
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from nt_failures.data.columns import to_columns
from nt_failures.data.tokenizer import add_tokens, token_id, tokenize, word_level_tokenizer
from nt_failures.data.word_table import WordTable
from nt_failures.evaluation.metrics import Scored
from nt_failures.objectives import NextToken
from nt_failures.tasks.path_star import PathStar

PROMPT = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12="
COMPLETION = "32,34,6,16,12"
# Labels are their own ids; | is 50, = is 51, / is 52.
PREFIX_IDS = [32, 3, 50, 16, 12, 50, 3, 19, 50, 32, 34, 50, 34, 6, 50, 6, 16, 50, 19, 47, 50, 47, 28, 52, 32, 12, 51]
ROW = {"prefix_ids": PREFIX_IDS, "target_ids": [32, 34, 6, 16, 12], "target_positions": [1, 2, 3, 4, 5]}
ALPHABET = [*"0123456789", ",", "|", "/", "=", "$"]
"""Ids of the hand-made BPE: the digits are their own ids, the comma is 10, `=` is 13."""


@pytest.fixture(scope="module")
def words():
    return word_level_tokenizer(PathStar(2, 5, 50))


def texts(*pairs):
    return datasets.Dataset.from_dict({"prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]})


def hand_bpe(*merges, use_regex=True, unk_token=None, alphabet=ALPHABET):
    """A byte-level BPE with these merges; the merged tokens get the ids 15, 16, ..."""
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *("".join(merge) for merge in merges)])}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=list(merges), unk_token=unk_token))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=unk_token)


def trained_bpe(task, use_regex, vocab_size):
    """A byte-level BPE as GPT-2's, trained on the task's text; and 20 rows of that text."""
    columns = {name: text.to_list() for name, text in task.render(task.sample(np.random.default_rng(0), 300)).items()}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    lines = [prompt + completion for prompt, completion in zip(columns["prompt"], columns["completion"], strict=True)]
    inner.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner), datasets.Dataset.from_dict(columns).select(range(20))


# ---------------------------------------------------------------- word-level


def test_released_line_by_hand(words):
    """Catches: commas as tokens, ids in another order than the task's symbols, special tokens added."""
    assert tokenize(texts((PROMPT, COMPLETION)), words).to_list() == [ROW]


def test_facts_of_the_word_level_tokenizer(words):
    """Catches: an unknown-token that swallows typos, a padding id that is a label, padding on the wrong side, no end
    token (TRL's trainers and lm-evaluation-harness then stop with a TypeError)."""
    assert len(words) == 55
    assert words.convert_tokens_to_ids(["0", "49", "|", "=", "/", "$", "[PAD]"]) == [0, 49, 50, 51, 52, 53, 54]
    assert (words.pad_token_id, words.padding_side, words.unk_token_id, words.eos_token_id) == (54, "left", None, 54)
    assert words(["1,2", "3"], padding=True)["input_ids"] == [[1, 2], [54, 3]]
    assert words.decode([32, 3, 50, 16, 12, 51]) == "32 3 | 16 12 ="


def test_round_trip_through_auto_tokenizer(words, tmp_path):
    """Catches: behaviour that lives in our Python and is lost in the saved file."""
    words.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenize(texts((PROMPT, COMPLETION)), loaded).to_list() == [ROW]
    assert (len(loaded), loaded.pad_token_id, loaded.padding_side) == (55, 54, "left")
    assert loaded.get_vocab() == words.get_vocab()
    with pytest.raises(ValueError, match="cannot write"):
        tokenize(texts(("32,50=", "32")), loaded)


@pytest.mark.parametrize("text", ["32,50=", "032,3=", "a,3=", "1.5="])
def test_unknown_label(text, words):
    """Catches: a label outside the task read as unknown, as its digits, or dropped."""
    with pytest.raises(ValueError, match=r"cannot write .*word_level_tokenizer\(task\)"):
        tokenize(texts((text, "3")), words)


SYMBOLS = [
    "1",
    "2",
    "12",
    "ab",
    "->",
    "<-",
    "=>",
    "[SEP]",
    "<end>",
    "-1",
    "x_1",
    "x_",
    "a-b",
    "é",
    "→",
    "😀",
    "$$",
    "$",
]
SYMBOLS += [*"-=|<>[]^_#&~{}?*+().:;!@%'\"`/\\"]


@dataclasses.dataclass(frozen=True)
class Odd(PathStar):
    """A task with the given symbols."""

    listed: tuple = tuple(SYMBOLS)
    symbols = property(lambda self: self.listed)


@pytest.mark.parametrize("saved", [False, True])
def test_symbols_of_any_kind(saved, tmp_path):
    """Catches: a symbol of several characters cut into them, or its characters cut out of numbers; a shorter symbol
    found in a longer one; behaviour that is lost in the saved file."""
    tokenizer = word_level_tokenizer(Odd())
    if saved:
        tokenizer.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(SYMBOLS) + 1
    for symbol in SYMBOLS:
        before = "," if symbol[0].isalnum() or symbol[0] == "_" else ""
        behind = " " if symbol[-1].isalnum() or symbol[-1] == "_" else ""
        for text in (symbol, f"12{before}{symbol}{behind}12", f"12 {symbol},2"):
            tokens = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
            assert symbol in tokens
            assert {*tokens} <= {symbol, "12", "2"}
            assert tokenizer.decode(tokenizer(text).input_ids) == " ".join(tokens)
            assert tokenizer(" ".join(tokens)).input_ids == tokenizer(text).input_ids
            if (table := WordTable.of(tokenizer)) and (ids := table.encode(pa.array([text]))):
                assert ids.to_pylist() == [tokenizer(text).input_ids]
    for text in ("x_12", "x_13", "1ab", "ab1"):
        with pytest.raises(Exception, match="UNK"):
            tokenizer(text)


def test_symbols_beside_the_end(words):
    """Catches: numbers cut into digits, once a symbol holds letters."""
    tokenizer = word_level_tokenizer(Odd(listed=("1", "2", "12", "<end>", "e", "$")))
    assert tokenizer("12<end>1 e<end>").input_ids == [2, 3, 0, 4, 3]
    assert word_level_tokenizer(Odd(listed=("a", "b"))).decode([1, 0]) == "b a"  # no marks at all


@pytest.mark.parametrize("symbol", ["", "a b", "a,b", "\t", "1", "[PAD]", 3])
def test_symbols_that_cannot_be(symbol):
    """Catches: ids with holes for a symbol listed twice, one that no text can hold, a number in place of its text."""
    with pytest.raises(ValueError, match=r"cannot be a symbol of Odd; list each symbol once") as error:
        word_level_tokenizer(Odd(listed=("1", symbol, "$")))
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- any tokenizer


@pytest.mark.parametrize(
    ("merges", "use_regex", "target", "positions"),
    [
        ([], True, [3, 2, 10, 3, 4, 10, 6], [1, 1, 0, 2, 2, 0, 3]),
        ([("3", "4")], True, [3, 2, 10, 15, 10, 6], [1, 1, 0, 2, 0, 3]),  # the example of the module's docstring
        ([("3", "4"), (",", "6")], False, [3, 2, 10, 15, 16], [1, 1, 0, 2, 3]),
        ([("2", ","), ("4", ",")], False, [3, 15, 3, 16, 6], [1, 1, 2, 2, 3]),
        ([("4", ","), (",", "3")], False, [3, 2, 16, 15, 6], [1, 1, 2, 2, 3]),
        ([("4", ","), (",", "3"), (",3", "4,")], False, [3, 2, 17, 6], [1, 1, 2, 3]),
        ([("4", ","), (",", "6")], True, [3, 2, 10, 3, 4, 10, 6], [1, 1, 0, 2, 2, 0, 3]),
    ],
)
def test_positions_by_hand(merges, use_regex, target, positions):
    """`32,34,6`. Catches: positions counted in tokens, commas counted as symbols, a comma inside a token missed."""
    (row,) = tokenize(texts(("1,2=", "32,34,6")), hand_bpe(*merges, use_regex=use_regex)).to_list()
    assert row == {"prefix_ids": [1, 10, 2, 13], "target_ids": target, "target_positions": positions}


def test_a_token_over_two_symbols():
    """Catches: a position guessed where one token answers two."""
    with pytest.raises(ValueError, match=r"one token covers '2,3', more than one symbol.*use_regex=True"):
        tokenize(texts(("1=", "32,34")), hand_bpe((",", "3"), ("2", ",3"), use_regex=False))
    tokenizer, dataset = trained_bpe(PathStar(2, 3, 7), use_regex=False, vocab_size=400)
    with pytest.raises(ValueError, match=r"one token covers '.*,.*', more than one symbol of the answer"):
        tokenize(dataset, tokenizer)


def test_trained_bpe_with_long_labels():
    """Catches: positions that do not spell the symbols, text lost, rows forced to one length."""
    tokenizer, dataset = trained_bpe(PathStar(2, 3, 3000), use_regex=True, vocab_size=300)
    rows = tokenize(dataset, tokenizer).to_list()
    assert len({len(row["target_ids"]) for row in rows}) > 1
    assert len({len(row["prefix_ids"]) for row in rows}) > 1
    tokens_of_a_symbol = set()
    for text, row in zip(dataset, rows, strict=True):
        assert tokenizer.decode(row["prefix_ids"]) == text["prompt"]
        assert tokenizer.decode(row["target_ids"]) == text["completion"]
        pairs = list(zip(row["target_ids"], row["target_positions"], strict=True))
        for k, symbol in enumerate(text["completion"].split(","), start=1):
            ids = [token for token, position in pairs if position == k]
            assert tokenizer.decode(ids) == symbol
            tokens_of_a_symbol.add(len(ids))
        assert tokenizer.decode([token for token, position in pairs if position == 0]) == ",,"
    assert len(tokens_of_a_symbol) > 1


def test_prompt_and_completion_are_encoded_apart():
    """Catches: a token over the seam, which hands the first symbol of the answer to the prompt."""
    tokenizer = hand_bpe(("=", "3"), use_regex=False)
    assert tokenizer("1=3")["input_ids"] == [1, 15]
    (row,) = tokenize(texts(("1=", "3")), tokenizer).to_list()
    assert (row["prefix_ids"], row["target_ids"]) == ([1, 13], [3])


def test_no_special_tokens_are_added():
    """Catches: an end token between prompt and answer, a start token before the answer."""
    tokenizer = hand_bpe()
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A /", special_tokens=[("/", 12)]
    )
    assert tokenizer("1=")["input_ids"] == [1, 13, 12]
    assert tokenize(texts(("1=", "3,4")), tokenizer).to_list() == [
        {"prefix_ids": [1, 13], "target_ids": [3, 10, 4], "target_positions": [1, 0, 2]}
    ]


def test_reversed_order_with_pieces():
    """Catches: symbols reversed but not their tokens on the way back, positions judged in the order of training."""
    rows = tokenize(texts(("1=", "32,34,6"), ("2=", "7,34")), hand_bpe(("3", "4"))).to_list()
    objective = NextToken(order="reversed")
    parts = objective.layout(rows)
    written, positions = parts["target_ids"], parts["target_positions"]
    assert written.tolist() == [[6, 10, 15, 10, 2, 3], [15, 10, 7, -100, -100, -100]]
    assert positions.tolist() == [[3, 0, 2, 0, 1, 1], [2, 0, 1, -100, -100, -100]]
    target, in_order = objective.reorder(written), objective.reorder(positions)
    assert target.tolist() == [[3, 2, 10, 15, 10, 6], [7, 10, 15, -100, -100, -100]]
    assert in_order.tolist() == [[1, 1, 0, 2, 0, 3], [1, 0, 2, -100, -100, -100]]
    predicted = target.clone()
    predicted[0, 1] = 5  # the second token of symbol 1
    predicted[1, 2] = 5  # symbol 2
    right = Scored.of_ids(predicted.numpy(), target.numpy(), in_order.numpy()).right
    assert right.tolist() == [[False, True, True], [True, False, False]]  # the second answer has no symbol 3


# ---------------------------------------------------------------- the dummy


def test_add_tokens(words, tokenizer):
    """Catches: a second `$` beside the task's own, one that is cut into pieces, a missing one read as unknown."""
    assert (add_tokens(words, ["$"]), len(words), token_id(words, "$"), token_id(tokenizer, "$")) == (0, 55, 53, 13)
    assert add_tokens(words, []) == 0
    for unk_token in (None, "?"):
        lacking = hand_bpe(alphabet=[*ALPHABET[:-1], "?"], unk_token=unk_token)
        with pytest.raises(ValueError, match=r"no single token for '\$'; call nt_failures.add_tokens.*resize_token"):
            token_id(lacking, "$")
        assert add_tokens(lacking, ["$", "="]) == 1
        assert (token_id(lacking, "$"), token_id(lacking, "=")) == (15, 13)
        assert lacking("1$2")["input_ids"] == [1, 15, 2]
        assert add_tokens(lacking, ["$"]) == 0


# ---------------------------------------------------------------- datasets


def test_every_kind_of_dataset(words):
    """Catches: text columns kept in one kind, the task's own columns lost, a stream without known columns refused, a
    dict that comes back a list."""
    dataset = texts((PROMPT, COMPLETION), ("1,2/1,2=", "1,2")).add_column("extra", [0, 1])
    short = [ROW, {"prefix_ids": [1, 2, 52, 1, 2, 51], "target_ids": [1, 2], "target_positions": [1, 2]}]
    rows = [{"extra": i, **row} for i, row in enumerate(short)]
    stream = datasets.IterableDataset.from_generator(lambda: iter(dataset.to_list()))
    assert stream.column_names is None
    assert tokenize(dataset, words).to_list() == rows
    assert list(tokenize(stream, words)) == short
    assert list(tokenize(dataset.to_iterable_dataset(), words)) == short
    both = tokenize(datasets.DatasetDict(train=dataset, test=dataset.select([1])), words)
    assert type(both) is datasets.DatasetDict
    assert (both["train"].to_list(), both["test"].to_list()) == (rows, rows[1:])
    assert tokenize({"a": dataset}, words)["a"].to_list() == rows
    streams = tokenize(datasets.IterableDatasetDict({"train": stream}), words)
    assert type(streams) is datasets.IterableDatasetDict
    assert list(streams["train"]) == short


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_the_columns_of_the_task_are_kept(kind, words):
    """Catches: rows that a task cannot judge after they were tokenised, with a word-level tokenizer, which is fast, or
    with any other; columns of another row, or of another type."""
    task = PathStar(2, 3, 10)
    columns = task.sample(np.random.default_rng(0), 5)
    rows = datasets.Dataset.from_dict(
        {**columns, **{name: text.to_list() for name, text in task.texts(columns).items()}}
    )
    tokenizer = words if kind == "words" else hand_bpe()
    found = tokenize(rows, tokenizer)
    assert found.column_names == [*columns, "prefix_ids", "target_ids", "target_positions"]
    assert {name: found.features[name] for name in columns} == {name: rows.features[name] for name in columns}
    assert all(found[name][:] == rows[name][:] for name in columns)
    assert all(np.array_equal(back, columns[name]) for name, back in to_columns(found).items())
    assert list(to_columns(found)) == list(columns)
    alone = tokenize(rows.select_columns(["prompt", "completion"]), tokenizer)
    assert found.select_columns(alone.column_names).to_list() == alone.to_list()


def test_the_end_symbol_belongs_to_no_position():
    """Catches: the end counted as a symbol of the answer, by which a model that only stops is right at a position."""
    tokenizer = hand_bpe(alphabet=[*ALPHABET, "\u0120", "."])
    (row,) = tokenize(texts(("1=", "32,4 . .")), tokenizer).to_list()
    assert row["target_ids"] == [3, 2, 10, 4, 15, 16, 15, 16]
    assert row["target_positions"] == [1, 1, 0, 2, 0, 0, 0, 0]


def test_tokenised_rows_go_into_an_objective_from_any_format(words):
    """Catches: a collator that takes lists alone, and no rows of a dataset set to tensors or arrays."""
    dataset = tokenize(texts((PROMPT, COMPLETION), ("1,2/1,2=", "1,2")), words)
    expected = NextToken().collate(dataset.to_list())
    for kind in ("torch", "numpy"):
        made = NextToken().collate(list(dataset.with_format(kind)))
        assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_missing_columns(words):
    """Catches: a KeyError out of a worker process for a dataset with other names."""
    dataset = texts((PROMPT, COMPLETION))
    with pytest.raises(ValueError, match=r"no column \['completion'\]; it has \['prompt', 'answer'\]"):
        tokenize(dataset.rename_column("completion", "answer"), words)
    with pytest.raises(ValueError, match=r"no column \['completion', 'prompt'\]; it has \['text'\]"):
        tokenize(datasets.Dataset.from_dict({"text": ["1"]}).to_iterable_dataset(), words)


def test_slow_tokenizer():
    """Catches: a NotImplementedError about offsets, deep in transformers."""
    with pytest.raises(ValueError, match=r"ByT5Tokenizer is a slow tokenizer.*AutoTokenizer"):
        tokenize(texts((PROMPT, COMPLETION)), ByT5Tokenizer())


def test_unknown_token():
    """Catches: text written with unknown tokens, which a model can neither read nor answer."""
    tokenizer = hand_bpe(alphabet=[*ALPHABET[:-1], "?"], unk_token="?")
    with pytest.raises(ValueError, match="writes '3,x' with an unknown token"):
        tokenize(texts(("1=", "3,4"), ("1=", "3,x")), tokenizer)
