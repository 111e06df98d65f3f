"""ApiPredictor: a model behind an OpenAI-compatible server, as the diagnosis sees it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nt_failures.data.columns import PROMPT_STYLES
from nt_failures.data.tokenizer import symbol_spans
from nt_failures.evaluation.api_server import Answer, ApiServer
from nt_failures.evaluation.predictor import Columns, NotMeasured
from nt_failures.evaluation.reading import read_symbols
from nt_failures.registry import check_choice
from nt_failures.tasks import chat
from nt_failures.tasks.base import Task

ROOM = 4
"""Tokens above the characters of an answer that a model may write: a blank, a comma, the end."""


class ApiPredictor:
    """A `Predictor` around a model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's.

    With prompts as text, the server continues any text (`/v1/completions`). So all is measured: the prediction with the
    true earlier symbols revealed is the first symbol that the model writes behind them. It is greedy (temperature 0).
    With prompts for a chat, it answers a question in words (`/v1/chat/completions`), and what stands between `<answer>`
    and `</answer>` is read. What it would write behind given symbols is not to be had: `forced` and `continued` raise
    `NotMeasured`, and so they do at another temperature.

    Args:
        model: as the server calls it.
        task: writes prompts and reads answers.
        url: of the server, up to the version, such as `http://localhost:8000/v1`.
        prompt_style: `"text"` or `"chat"`.
        max_tokens: of an answer in a chat, thinking included; one that is cut off before its closing tag is wrong. Of
            text, a model may write as many tokens as the longest answer has characters.
        options: further fields of each request, such as `{"seed": 0, "top_k": 1}`; None takes one away, such as
            `{"temperature": None}` for a model that refuses it.
        connection: arguments of `ApiServer`, such as `cache`, `timeout` and `max_retries`.

    Raises:
        ValueError: a choice or number that is not allowed, or a task that cannot be asked in a chat. ImportError:
            `openai` is not installed. The methods: `ApiError` (an OSError) where the server gives no answer; those
            before it are in the cache.

    Example:
        ```python
        task = ntf.PathStar(degree=2, path_length=5, num_nodes=50)
        predictor = ntf.ApiPredictor("my-model", task, "http://localhost:8000/v1", cache="answers.jsonl")
        ntf.diagnose(predictor, task, task.block(seed=0, split="test", index=0, rows=200))["verdict"]["text"]
        ```

        >>> from nt_failures.tasks import PathStar
        >>> ApiPredictor("my-model", PathStar(), "http://localhost:8000/v1", prompt_style="talk")
        Traceback (most recent call last):
        ValueError: prompt_style='talk' is not a choice; give one of 'text', 'chat'.
    """

    autoregressive = True
    order = "forward"
    trained_positions = None

    def __init__(
        self,
        model: str,
        task: Task,
        url: str,
        prompt_style: str = "text",
        max_tokens: int = 2048,
        options: Mapping[str, Any] | None = None,
        **connection: Any,
    ):
        check_choice("prompt_style", prompt_style, PROMPT_STYLES)
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens} leaves no answer; give at least 1.")
        if taken := sorted({"model", "prompt", "messages"} & set(options or {})):
            raise ValueError(f"options={{{taken[0]!r}: ...}} would ask another question than the one that is judged.")
        if task.num_answers is not None and (options or {}).get("temperature"):
            raise ValueError(
                f"equal prompts are asked once, and {type(task).__name__} counts each answer to them; leave out "
                "options={'temperature': ...}."
            )
        self.model, self.task, self.prompt_style, self.max_tokens = model, task, prompt_style, max_tokens
        self.question = chat.question(task) if prompt_style == "chat" else ""
        """what stands above each prompt"""
        self.options = {"temperature": 0, **(options or {})}
        self.server = ApiServer(url, **connection)
        self.answered = self.cut_off = self.null = self.untagged = 0
        """whole answers so far; of these, those of a chat that ended at `max_tokens`, those of null, and those of a
        chat that ended by themselves without `</answer>`; the last two are wrong"""

    def free(self, columns: Columns) -> np.ndarray:
        texts = {name: text.to_list() for name, text in self.task.texts(columns).items()}
        if self.prompt_style == "text":
            room = max(map(len, texts["completion"])) + ROOM
            answers = self._continue(texts["prompt"], room)
        else:
            messages = [[{"role": "user", "content": self.question + prompt}] for prompt in texts["prompt"]]
            answers = self._ask([{"max_tokens": self.max_tokens, "messages": each} for each in messages])
            self.cut_off += sum(answer.cut_off for answer in answers)
            ended = [answer.text for answer in answers if answer.text is not None and not answer.cut_off]
            self.untagged += sum(chat.CLOSE not in text for text in ended)
        self.answered += len(answers)
        self.null += sum(answer.text is None for answer in answers)
        read = chat.read_tagged if self.prompt_style == "chat" else str
        found = [read(answer.text or "") for answer in answers]
        return read_symbols(self.task, found, ended=self.prompt_style == "chat")

    def forced(self, columns: Columns, answers: np.ndarray) -> np.ndarray:
        rows, places = np.nonzero(np.asarray(answers) != -1)
        room = max(map(len, self.task.symbols)) + ROOM
        texts = self._behind(columns, answers, rows, places, room)
        found = np.full(np.shape(answers), -1, dtype=np.int64)
        for row, place, text in zip(rows, places, texts, strict=True):
            symbols = self.task.read_answer(text)
            found[row, place] = symbols[place] if place < len(symbols) else -1
        return found

    def continued(self, columns: Columns, answers: np.ndarray, symbols: int | np.ndarray) -> np.ndarray:
        rows = np.arange(len(answers))
        return read_symbols(self.task, self._behind(columns, answers, rows, np.broadcast_to(symbols, rows.shape)))

    def _behind(
        self, columns: Columns, answers: np.ndarray, rows: np.ndarray, given: np.ndarray, room: int | None = None
    ) -> list[str]:
        """The answers of some rows (m,) of which the first symbols, `given` (m,), are revealed: these and what follows.

        A comma behind the last symbol given is revealed with it, a blank is not: many tokens begin with one.
        """
        if self.prompt_style == "chat":
            raise NotMeasured(
                "a chat gives whole answers alone, not what the model would write behind given symbols; a server with "
                "/v1/completions does (prompt_style='text')."
            )
        if self.options["temperature"] != 0:
            drawn = f"answers are drawn at temperature {self.options['temperature'] or 'the server chooses'}"
            raise NotMeasured(f"{drawn}; with temperature 0 they are greedy.")
        texts = self.task.texts(self.task.with_answers(columns, answers))
        prompts, completions = (texts[name].to_list() for name in ("prompt", "completion"))
        room = max(map(len, completions)) + ROOM if room is None else room
        shown = []
        for row, count in zip(rows.tolist(), given.tolist(), strict=True):
            starts = [start for start, _ in symbol_spans(completions[row])]
            shown.append(completions[row][: starts[count]].rstrip() if count < len(starts) else completions[row])
        behind = self._continue([prompts[row] + text for row, text in zip(rows.tolist(), shown, strict=True)], room)
        return [text + (answer.text or "") for text, answer in zip(shown, behind, strict=True)]

    def _continue(self, texts: list[str], max_tokens: int) -> list[Answer]:
        """What the model writes behind each text, up to the end of the line."""
        return self._ask([{"max_tokens": max_tokens, "stop": ["\n"], "prompt": text} for text in texts])

    def _ask(self, requests: list[dict[str, Any]]) -> list[Answer]:
        whole = [{"model": self.model, **request, **self.options} for request in requests]
        return self.server.ask([{name: x for name, x in request.items() if x is not None} for request in whole])

    def about(self) -> dict[str, Any]:
        """How it was asked, JSON-ready and without the key: what a report of the measurement has to say."""
        path = self.server.cache.path
        return {
            "model": self.model,
            "url": self.server.url,
            "prompt_style": self.prompt_style,
            "options": self.options if self.prompt_style == "text" else {"max_tokens": self.max_tokens, **self.options},
            "answers": self.answered,
            "cut_off": self.cut_off,
            "null": self.null,
            "untagged": self.untagged,
            "cache": path and path.name,
        }
