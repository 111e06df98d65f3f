"""From predicted ids, or texts, to the symbols of a task's answers."""

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE
from nt_failures.tasks.base import END, Task


def texts_of(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray | torch.Tensor) -> list[str]:
    """Decoded ids (n, T), -100 behind a row's end, as text."""
    return tokenizer.batch_decode([[i for i in row if i != IGNORE] for row in ids.tolist()])


def read_symbols(task: Task, texts: list[str], order: str = "forward", ended: bool = False) -> np.ndarray:
    """Answers as texts in the form that `Predictor` gives, (n, L) or (n, L + 1).

    Symbols count from where generation began: in reversed order from the end of the text. What follows a whole answer
    does not count, unless answers differ in length, or the model ended them itself (`ended`).
    """
    ended = ended or END in task.symbols
    answers = np.full((len(texts), task.answer_length + ended), -1, dtype=np.int64)
    step = -1 if order == "reversed" and not ended else 1
    for row, text in zip(answers[:, ::step], texts, strict=True):
        symbols = np.array(task.read_answer(text)[::step][: len(row)], dtype=np.int64)
        row[: len(symbols)] = np.where(symbols == -1, -2, symbols) if ended else symbols
    return answers


def as_answers(answers: np.ndarray) -> list[list[int]]:
    """A predictor's answers (n, L) as `Task.judge` takes them: without the -1 behind a row's end."""
    ends = answers.shape[1] - np.argmax(answers[:, ::-1] != -1, axis=1)
    return [row[:end] for row, end in zip(answers.tolist(), ends.tolist(), strict=True)]


def forced_symbols(
    task: Task, tokenizer: PreTrainedTokenizerBase, ids: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """Forced predictions (n, T) as symbols (n, L), -1 for what is none; `positions` (n, T) says which symbol is where.

    A symbol that a row does not have is -1, too.
    """
    known: dict[tuple[int, ...], int] = {}
    found = np.full((len(ids), task.answer_length), -1, dtype=np.int64)
    for row, (tokens, places) in enumerate(zip(ids, positions, strict=True)):
        for k in range(1, int(places.max(initial=0)) + 1):
            of_symbol = tuple(tokens[places == k].tolist())
            if of_symbol not in known:
                read = task.read_answer(tokenizer.decode([i for i in of_symbol if i != IGNORE]))
                known[of_symbol] = read[0] if len(read) == 1 else -1
            found[row, k - 1] = known[of_symbol]
    return found
