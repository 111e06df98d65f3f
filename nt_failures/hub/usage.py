"""How to ask a published model: a prompt of its task, how answers are printed, and the name it is loaded by."""

import re
from collections.abc import Mapping

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase

from nt_failures.data.tokenizer import encode_rows
from nt_failures.tasks.base import Task

_NAME = re.compile(r'^name = "[^"\n]*"(?:  # this folder)?(?=\n(?:tokenizer = |run = nt_failures\.load))', re.MULTILINE)
"""The line of a card's snippet that says where the model is, also in a card that came from a repository."""


def named(card: str, repo_id: str) -> str:
    """A card whose snippet loads the model from this repository; every other word of it stays."""
    return _NAME.sub(lambda _: f'name = "{repo_id}"', card)


def instance(task: Task, known: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Prompt and completion of the first held-out instance, as it is known or drawn."""
    if known is not None:
        return known["prompt"], known["completion"]
    text = task.render(task.block(0, "test", 0, rows=1))
    return text["prompt"].to_list()[0], text["completion"].to_list()[0]


def notes(task: Task, tokenizer: PreTrainedTokenizerBase, answer: str) -> list[str]:
    """Markdown sentences: which labels a prompt may have, and how the printed answer differs from the right one."""
    labels = [symbol for symbol in task.symbols if symbol.isalnum()]
    numbered = len(labels) > 2 and labels == [str(i) for i in range(len(labels))]
    shown = f"{code(labels[0])} to {code(labels[-1])}" if numbered else ", ".join(map(code, labels))
    text = [f"Labels of a prompt are {shown}; the model was trained on no others."]
    if isinstance(tokenizer.backend_tokenizer.model, WordLevel):
        text.append("With any other the tokenizer raises `Missing [UNK] token`.")
    printed = tokenizer.decode(encode_rows(tokenizer, [answer], [answer])["target_ids"][0])
    if printed != answer:
        text.append(f"Printed answers look a little different: {code(printed)} is the same answer as {code(answer)}.")
    return text


def code(text: str) -> str:
    """A code span of Markdown that nothing in the text can close."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{text}{ticks}" if "`" not in text else f"{ticks} {text} {ticks}"
