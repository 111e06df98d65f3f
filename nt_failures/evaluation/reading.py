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

    What follows a whole answer does not count, unless answers differ in length, or the model ended them itself
    (`ended`). Else symbols count from where generation began: in reversed order from the end of the text.
    """
    ended = ended or END in task.symbols
    answers = np.full((len(texts), task.answer_length + ended), -1, dtype=np.int64)
    step = -1 if order == "reversed" and not ended else 1
    for row, text in zip(answers[:, ::step], texts, strict=True):
        symbols = np.array(task.read_answer(text)[::step][: len(row)], dtype=np.int64)
        row[: len(symbols)] = np.where(symbols == -1, -2, symbols) if ended else symbols
    return answers


def in_place(answers: np.ndarray, lengths: np.ndarray, length: int, order: str) -> np.ndarray:
    """A predictor's answers with each symbol at the position for which it was generated, (n, `length`).

    An answer that differs in length is found whole; but reversed it was written from its last symbol, which belongs at
    the end (n,) of the right answer.

    Example:
        >>> in_place(np.array([[7, 8, 9, -1, -1]]), np.array([4]), 4, "reversed")  # written 9, 8, 7, and ended too soon
        array([[-1,  7,  8,  9]])
    """
    if order == "forward" or answers.shape[1] == length:
        return answers[:, :length]
    sizes = answers.shape[1] - np.argmax(answers[:, ::-1] != -1, axis=1)
    source, inside = np.arange(length) + (sizes - lengths)[:, None], np.arange(length) < lengths[:, None]
    return np.where(inside & (source >= 0), np.take_along_axis(answers, source.clip(0, answers.shape[1] - 1), 1), -1)


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
