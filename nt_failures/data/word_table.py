"""Fast encoding of whole columns of text for word-level tokenizers: NumPy on the bytes, no Python per row.

A table gives the ids that the tokenizer gives. Where it cannot, for another tokenizer or text out of the ordinary, it is
None: then the tokenizer itself has to encode, or to say what is wrong.
"""

import dataclasses
import functools
import json

import numpy as np
import pyarrow as pa
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SEPARATOR, _LETTER, _MARK, _OTHER = range(4)
_SEPARATORS = b", \t\n\v\f\r"
_PLAIN = [{"Sequence": {"id": "A", "type_id": 0}}]
_WIDEST = 8
"""Bytes of the longest word; so many fit into one number."""


def word_splitter(marks: str) -> pre_tokenizers.PreTokenizer:
    """Splits at commas and blanks, which vanish, and makes each of `marks` a word of its own."""
    isolated = Regex("[" + "".join(f"\\{mark}" for mark in marks) + "]")
    comma, mark = pre_tokenizers.Split(",", "removed"), pre_tokenizers.Split(isolated, "isolated")
    return pre_tokenizers.Sequence([comma, mark, pre_tokenizers.WhitespaceSplit()])


@dataclasses.dataclass(frozen=True)
class WordTable:
    """The words of a tokenizer, as numbers that can be looked up for all words of a column at once."""

    kinds: np.ndarray
    """(256,) what a byte is: separator, letter of a word, mark, anything else"""
    codes: np.ndarray
    """(V,) uint64, ascending: the bytes of each word, the first one lowest"""
    ids: np.ndarray
    """(V,) int32: the id of each word"""

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> "WordTable | None":
        """The table of a word-level tokenizer; None where the tokenizer may do more than look up words."""
        if type(tokenizer) is not PreTrainedTokenizerFast or tokenizer.unk_token is not None:
            return None
        return _table(tokenizer.backend_tokenizer.to_str())

    def encode(self, texts: pa.StringArray) -> pa.ListArray | None:
        """Ids of each text, a list array of int32; None if the tokenizer itself has to encode them."""
        data, offsets = _bytes(texts)
        if texts.null_count or (self.kinds[data] == _OTHER).any():
            return None
        starts, lengths, firsts = self._words(data, offsets)
        longest = int(lengths.max(initial=0))
        if longest > _WIDEST:
            return None
        codes = np.zeros(len(starts), dtype=np.uint64)
        padded = np.concatenate([data, np.zeros(_WIDEST, dtype=np.uint8)])
        for i in range(longest):
            letter = padded[starts + i].astype(np.uint64) << np.uint64(8 * i)
            codes |= letter if i == 0 else np.where(lengths > i, letter, np.uint64(0))
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        if not np.array_equal(self.codes[places], codes):
            return None  # a word that is not in the vocabulary
        return pa.ListArray.from_arrays(pa.array(firsts), pa.array(self.ids[places]))

    def positions(self, texts: pa.StringArray, encoded: pa.ListArray) -> pa.ListArray | None:
        """Place of each token in its text, from 1; None for text with marks, of which several may make one symbol."""
        if (self.kinds[_bytes(texts)[0]] == _MARK).any():
            return None
        firsts = encoded.offsets.to_numpy()
        counts = np.diff(firsts)
        places = np.arange(1, firsts[-1] + 1) - np.repeat(firsts[:-1], counts)
        return pa.ListArray.from_arrays(encoded.offsets, pa.array(places.astype(np.int32)))

    def _words(self, data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where words start, how long they are, and the number of words before each text."""
        kinds = self.kinds[data]
        goes_on = np.zeros(len(data) + 1, dtype=bool)  # byte i belongs to the word of byte i - 1
        goes_on[1:-1] = (kinds[1:] == _LETTER) & (kinds[:-1] == _LETTER)
        goes_on[offsets] = False
        inside = kinds != _SEPARATOR
        begins = inside & ~goes_on[:-1]
        starts = np.flatnonzero(begins)
        ends = np.flatnonzero(inside & ~goes_on[1:])
        firsts = np.zeros(len(data) + 1, dtype=np.int32)
        np.cumsum(begins, out=firsts[1:])
        return starts, ends + 1 - starts, firsts[offsets]


@functools.lru_cache(maxsize=8)
def _table(description: str) -> WordTable | None:
    """The table of a `tokenizers.Tokenizer`, from its JSON: there is no other way to compare the parts of two."""
    parts = json.loads(description)
    vocabulary, added = parts["model"].get("vocab", {}), [token["content"] for token in parts["added_tokens"]]
    marks = "".join(word for word in vocabulary if len(word) == 1 and word.isascii() and not word.isalnum())
    if parts["model"]["type"] != "WordLevel" or not marks:
        return None
    ours = Tokenizer(models.WordLevel({}))
    ours.pre_tokenizer = word_splitter(marks)
    template = parts["post_processor"] or {"type": "TemplateProcessing", "single": _PLAIN}
    if (
        parts["pre_tokenizer"] != json.loads(ours.to_str())["pre_tokenizer"]
        or (template["type"], template["single"]) != ("TemplateProcessing", _PLAIN)
        or any(parts[name] is not None for name in ("normalizer", "truncation", "padding"))
    ):
        return None
    kinds = np.full(256, _OTHER, dtype=np.uint8)
    kinds[list(_SEPARATORS)] = _SEPARATOR
    words = {word.encode(): i for word, i in vocabulary.items() if word.isascii() and len(word) <= _WIDEST}
    for word in words:
        if word.isalnum():
            kinds[list(word)] = _LETTER
    kinds[list(marks.encode())] = _MARK
    # An added token is found anywhere in a text, before it is split: only one with odd bytes cannot be in ours.
    if any((kinds[list(token.encode())] != _OTHER).all() for token in added):
        return None
    codes = {int.from_bytes(word, "little"): i for word, i in words.items() if (kinds[list(word)] != _OTHER).all()}
    ordered = sorted(codes)
    return WordTable(kinds, np.array(ordered, dtype=np.uint64), np.array([codes[c] for c in ordered], dtype=np.int32))


def _bytes(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, one after the other, and where each text starts and the last one ends."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, last = (int(offsets[0]), int(offsets[-1])) if len(texts) else (0, 0)
    data = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)[first:last]
    return data, offsets - first
