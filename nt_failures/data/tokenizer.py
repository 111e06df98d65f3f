"""A task's own word-level tokenizer, and `tokenize` for any Hugging Face tokenizer.

Prompt and completion are encoded apart and joined later, so that no token ever spans the two, and no special token is
added. `target_positions` say which symbol of the answer each target token belongs to: with a word-level tokenizer that
is 1, 2, 3, ...; a byte-level BPE may spend several tokens on a symbol and some on the commas (position 0):

    completion        32,34,6
    BPE tokens        3  2  ,  34 ,  6
    target_positions  1  1  0  2  0  3
"""

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import datasets
import pyarrow as pa
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nt_failures.data.token_dataset import COLUMNS
from nt_failures.data.word_table import WordTable, word_splitter
from nt_failures.registry import shorten
from nt_failures.tasks._sources import source_hash
from nt_failures.tasks.base import END, Task

AnyDataset = TypeVar("AnyDataset")
"""A Dataset, an IterableDataset or a dict of them."""
PAD = "[PAD]"
_FEATURES = datasets.Features({name: datasets.List(datasets.Value("int32")) for name in COLUMNS})

_BATCH_ROWS = 10_000
"""Rows tokenised at a time: few enough for the processor's cache, and so many that the cost of a call vanishes."""


def word_level_tokenizer(task: Task) -> PreTrainedTokenizerFast:
    """Word-level fast tokenizer of a task: ids in the order of `task.symbols`, then `[PAD]`; commas carry no token.

    `[PAD]` is the end token, too, for tools that ask for one; the library's own targets carry none, as in the paper. A
    symbol outside the task raises instead of becoming an unknown token. Save it with `save_pretrained`; it loads with
    `AutoTokenizer`, without this package.

    Raises:
        ValueError: a symbol that is empty, holds a comma or a blank, stands there twice, or is `[PAD]`.

    Example:
        >>> from nt_failures import PathStar, word_level_tokenizer
        >>> tokenizer = word_level_tokenizer(PathStar(degree=2, path_length=3, num_nodes=10))
        >>> tokenizer("8,3|8,5|3,1|5,4/8,4=").input_ids
        [8, 3, 10, 8, 5, 10, 3, 1, 10, 5, 4, 12, 8, 4, 11]
    """
    vocabulary: dict[str, int] = {}
    for symbol in [*task.symbols, PAD]:
        if not isinstance(symbol, str) or symbol.replace(",", " ").split() != [symbol] or symbol in vocabulary:
            raise ValueError(
                f"{symbol!r} cannot be a symbol of {type(task).__name__}; list each symbol once, as a string without "
                f"commas and blanks, and leave {PAD!r} out."
            )
        vocabulary[symbol] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = word_splitter(task.symbols)
    return _fast(tokenizer)


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Fast tokenizer of any text, a token a byte, but for ` .`, the end of an answer, which is one.

    Example:
        >>> tokenizer = byte_level_tokenizer()
        >>> tokenizer.tokenize("1 2 .")
        ['1', 'Ġ', '2', 'Ġ.']
    """
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120.", PAD]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [("\u0120", ".")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer)


def task_tokenizer(task: Task) -> PreTrainedTokenizerFast:
    """The tokenizer of a model that is trained on a task from nothing: of its words, or of bytes where it has any."""
    return byte_level_tokenizer() if task.free_text else word_level_tokenizer(task)


def _fast(tokenizer: tokenizers.Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=PAD,  # no answer of ours ends with it, but TRL and lm-evaluation-harness stop without an end token
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def add_tokens(tokenizer: PreTrainedTokenizerBase, extra_tokens: Iterable[str]) -> int:
    """Give the tokenizer each token it cannot write as one token; returns how many were new (then resize the model).

    Example:
        >>> from nt_failures import PathStar, add_tokens, word_level_tokenizer
        >>> add_tokens(word_level_tokenizer(PathStar()), ["$", "[MASK]"])  # it has `$` already
        1
    """
    known = tokenizer.get_vocab()
    return tokenizer.add_tokens([token for token in extra_tokens if token not in known])


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Id of a token such as `$`. ValueError if the tokenizer cannot write it as one token."""
    index = tokenizer.get_vocab().get(token)
    if index is None:
        raise ValueError(
            f"the tokenizer has no single token for {token!r}; call nt_failures.add_tokens(tokenizer, [{token!r}]) and "
            "model.resize_token_embeddings(len(tokenizer)) first."
        )
    return index


def tokenize(dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, num_proc: int | None = None) -> AnyDataset:
    """Replace the text columns by ids, for any fast tokenizer.

    Args:
        dataset: with `prompt` and `completion`; a Dataset, an IterableDataset or a dict of them.
        tokenizer: any fast Hugging Face tokenizer.
        num_proc: processes, for a Dataset.

    Returns:
        The dataset with the columns `prefix_ids` (P ids), `target_ids` (T ids) and `target_positions` (T numbers: the
        symbol of the answer, from 1, that a token belongs to; 0 for separators and the end symbol ` .`) in place of
        `prompt` and `completion`; a stream loses its other columns. P and T may differ between rows.

    Raises:
        ValueError: a slow tokenizer, text that it cannot write, or one token that covers two symbols of the answer.

    Example:
        >>> import datasets
        >>> from nt_failures import PathStar, tokenize, word_level_tokenizer
        >>> rows = datasets.Dataset.from_dict({"prompt": ["0,1|1,2/0,2="], "completion": ["0,1,2"]})
        >>> tokenize(rows, word_level_tokenizer(PathStar(degree=1, path_length=3, num_nodes=10)))[0]
        {'prefix_ids': [0, 1, 10, 1, 2, 12, 0, 2, 11], 'target_ids': [0, 1, 2], 'target_positions': [1, 2, 3]}
    """
    if isinstance(dataset, Mapping):
        splits = {name: tokenize(split, tokenizer, num_proc) for name, split in dataset.items()}
        return type(dataset)(splits)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer and tells no offsets; load its fast form with "
            "AutoTokenizer.from_pretrained(...)."
        )
    columns = list(dataset.column_names or next(iter(dataset), ()))
    if missing := {"prompt", "completion"} - set(columns):
        raise ValueError(f"the dataset has no column {sorted(missing)}; it has {columns}. Rename yours to match.")
    if isinstance((dataset.features or {}).get("prompt"), datasets.List):
        raise ValueError(
            "the column 'prompt' holds lists, as of messages for chat models; draw the rows with prompt_style='text'."
        )
    options = {"batched": True, "remove_columns": ["prompt", "completion"]}
    # The functions never read `code`: the cache of `map` sees arguments, and not changed code.
    options["fn_kwargs"] = {"tokenizer": tokenizer, "code": source_hash([__name__])}
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.map(_tokenize_batch, **(options | {"remove_columns": columns}))
    kept = {name: feature for name, feature in dataset.features.items() if name not in ("prompt", "completion")}
    features = datasets.Features({**kept, **_FEATURES})
    options |= {"features": features, "num_proc": num_proc, "desc": "Tokenizing"}
    if dataset.format["type"] is None and WordTable.of(tokenizer) is not None:
        return dataset.with_format("arrow").map(_tokenize_table, batch_size=_BATCH_ROWS, **options).with_format(None)
    return dataset.map(_tokenize_batch, **options)


def encode_rows(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], completions: list[str]
) -> dict[str, list[list[int]]]:
    """The columns of `tokenize` for lists of texts."""
    with contextlib.suppress(pa.ArrowException, UnicodeError):  # a row that is no text: the tokenizer says which
        columns = _encode_words(tokenizer, pa.array(prompts, pa.string()), pa.array(completions, pa.string()))
        if columns is not None:
            return {name: column.to_pylist() for name, column in columns.items()}
    prefix = _encode(tokenizer, prompts)
    target = _encode(tokenizer, completions, return_offsets_mapping=True)
    positions = [_positions(text, offsets) for text, offsets in zip(completions, target["offset_mapping"], strict=True)]
    return {"prefix_ids": prefix["input_ids"], "target_ids": target["input_ids"], "target_positions": positions}


def _encode_words(
    tokenizer: PreTrainedTokenizerBase, prompts: pa.StringArray, completions: pa.StringArray
) -> dict[str, pa.ListArray] | None:
    """The columns of `tokenize` as arrays of int32; None where the tokenizer itself has to do it."""
    table = WordTable.of(tokenizer)
    if table is None or (prefix := table.encode(prompts)) is None or (target := table.encode(completions)) is None:
        return None
    positions = table.positions(completions, target)
    return None if positions is None else dict(zip(COLUMNS, (prefix, target, positions), strict=True))


def _tokenize_table(table: pa.Table, tokenizer: PreTrainedTokenizerBase, code: str) -> pa.Table:
    texts = [table[name].combine_chunks() for name in ("prompt", "completion")]
    columns = _encode_words(tokenizer, *texts) if all(text.type == pa.string() for text in texts) else None
    columns = columns or encode_rows(tokenizer, *(text.to_pylist() for text in texts))
    found, kept = pa.table(columns, schema=_FEATURES.arrow_schema), table.drop_columns(["prompt", "completion"])
    for name in COLUMNS:
        kept = kept.append_column(name, found[name])
    return kept


def _tokenize_batch(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, code: str) -> dict[str, list]:
    return encode_rows(tokenizer, batch["prompt"], batch["completion"])


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options) -> dict[str, list]:
    try:
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, **options)
    except Exception as error:  # the Rust tokenizers raise a bare Exception
        raise ValueError(
            f"the tokenizer cannot write {shorten(texts[0])} or a row after it ({error}); a word-level tokenizer knows "
            "only the labels of its task: make it with word_level_tokenizer(task) for this dataset's task."
        ) from error
    for text, ids in zip(texts, encoded["input_ids"], strict=True):
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            raise ValueError(f"the tokenizer writes {text!r} with an unknown token; use one that knows its characters.")
    return encoded


def symbol_spans(text: str) -> list[tuple[int, int]]:
    """Where each symbol of an answer begins and ends in its text, `END` left out."""
    return [symbol.span() for symbol in re.finditer(r"[^,\s]+", text) if symbol[0] != END]


def _positions(text: str, offsets: list[tuple[int, int]]) -> list[int]:
    """Symbol of the answer, from 1, that each token covers; 0 for tokens of separators, commas and blanks, alone."""
    positions, symbol_at = [], [0] * len(text)  # of each character
    for number, (start, end) in enumerate(symbol_spans(text), start=1):
        symbol_at[start:end] = [number] * (end - start)
    for start, end in offsets:
        covered = {*symbol_at[start:end]} - {0}
        if len(covered) > 1:
            raise ValueError(
                f"one token covers {text[start:end]!r}, more than one symbol of the answer {text!r}; use a tokenizer "
                "that splits numbers from punctuation (pre-tokenizer ByteLevel(use_regex=True), Digits or Punctuation)."
            )
        positions.append(covered.pop() if covered else 0)
    return positions
