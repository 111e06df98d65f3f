"""Fast encoding of whole columns of text for word-level tokenizers, by Arrow and without Python code for each row.

A table gives the ids that the tokenizer gives. Where it cannot, for another tokenizer or text out of the ordinary, it
is None: then the tokenizer itself has to encode, or to say what is wrong.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SEPARATORS = ", \t\n\v\f\r"
_PLAIN = [{"Sequence": {"id": "A", "type_id": 0}}]


def word_splitter(symbols: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    """Splits at commas and blanks, which vanish, and before and behind each symbol that is not only letters and digits.

    The longest symbol that fits is taken. One that begins or ends with a letter or digit is no part of a longer word:
    `x_1` is not found in `x_12`.
    """
    marks = [symbol for symbol in symbols if not symbol.isalnum()]
    longer = sorted((mark for mark in marks if len(mark) > 1), key=len, reverse=True)
    choices = [
        r"(?<!\w)" * bool(re.match(r"\w", mark)) + re.escape(mark) + r"(?!\w)" * bool(re.match(r"\w", mark[-1]))
        for mark in longer
    ]
    if single := "".join(f"\\{mark}" for mark in marks if len(mark) == 1):
        choices.append(f"[{single}]")
    isolated = [pre_tokenizers.Split(Regex("|".join(choices)), "isolated")] if choices else []
    return pre_tokenizers.Sequence([pre_tokenizers.Split(",", "removed"), *isolated, pre_tokenizers.WhitespaceSplit()])


@dataclasses.dataclass(frozen=True)
class WordTable:
    """The words of a tokenizer, which are looked up for all texts of a column at once."""

    marks: str
    words: pa.StringArray
    ids: pa.Int32Array
    """the id of each word"""

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> "WordTable | None":
        """The table of a word-level tokenizer; None where the tokenizer may do more than look up words."""
        if type(tokenizer) is not PreTrainedTokenizerFast or tokenizer.unk_token is not None:
            return None
        return _table(tokenizer.backend_tokenizer.to_str())

    def encode(self, texts: pa.StringArray) -> pa.ListArray | None:
        """Ids of each text, a list array of int32; None if the tokenizer itself has to encode them."""
        if texts.null_count:
            return None
        spaced = pc.replace_substring(texts, ",", " ")
        for mark in self.marks:
            spaced = pc.replace_substring(spaced, mark, f" {mark} ")
        words = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(spaced))
        places = pc.index_in(words.values, value_set=self.words)
        return None if places.null_count else pa.ListArray.from_arrays(words.offsets, self.ids.take(places))

    def positions(self, texts: pa.StringArray, encoded: pa.ListArray) -> pa.ListArray | None:
        """Place of each token in its text, from 1; None for text with marks, of which several may make one symbol."""
        if any(pc.any(pc.match_substring(texts, mark)).as_py() for mark in self.marks):
            return None
        firsts = encoded.offsets.to_numpy()
        counts = np.diff(firsts)
        places = np.arange(1, firsts[-1] + 1) - np.repeat(firsts[:-1], counts)
        return pa.ListArray.from_arrays(encoded.offsets, pa.array(places.astype(np.int32)))


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
    words = [word for word in vocabulary if word.isalnum() or word in {*marks}]
    # An added token is found anywhere in a text, before it is split: only one with an odd character cannot be in ours.
    if any(set(token) <= {*"".join(words), *_SEPARATORS} for token in added):
        return None
    return WordTable(marks, pa.array(words), pa.array([vocabulary[word] for word in words], pa.int32()))
