"""A model behind an OpenAI-compatible server: requests in, texts out, each asked once and kept in a file."""

import dataclasses
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from nt_failures.registry import first_line

Request = Mapping[str, Any]
"""The JSON of a request; `messages` go to /chat/completions, a `prompt` goes to /completions."""


class ApiError(OSError):
    """The server gave no answer, or none that can be read. What was answered before is kept."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server wrote."""

    text: str | None
    """None where the server sent null, as of a refusal, a tool call, or a text that is all thinking"""
    cut_off: bool
    """whether it was stopped at `max_tokens`"""


class AnswerCache:
    """Answers in a file of JSON Lines to which each is appended as it comes: `{"url", "request", "text", "cut_off"}`.

    A line that a killed process left half written is taken away. ValueError for any other line that is none of these.
    """

    def __init__(self, path: Path | None):
        self.path, self._known, self._lock = path, {}, threading.Lock()
        if path is None or not path.exists():
            return
        data = path.read_bytes()
        if torn := len(data) - (data.rfind(b"\n") + 1):
            os.truncate(path, len(data) - torn)
        for number, line in enumerate(data[: len(data) - torn].splitlines(), start=1):
            try:
                entry = json.loads(line)
                answer = Answer(_text(entry["text"]), bool(entry["cut_off"]))
                self._known[_key(entry["url"], entry["request"])] = answer
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}, line {number} is no answer that was kept; remove that line.") from error

    def find(self, url: str, request: Request) -> Answer | None:
        """What was answered to this very request, at this address."""
        return self._known.get(_key(url, request))

    def keep(self, url: str, request: Request, answer: Answer) -> None:
        """Remember an answer, on disk before this returns."""
        line = json.dumps({"url": url, "request": request, **dataclasses.asdict(answer)}, ensure_ascii=False)
        with self._lock:
            self._known[_key(url, request)] = answer
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _key(url: str, request: Request) -> str:
    return json.dumps([url, request], sort_keys=True)


class ApiServer:
    """Asks an OpenAI-compatible server, several requests at a time, and keeps every answer.

    The `openai` package (extra `[api]`) sends, waits and tries again: where the connection fails or takes too long, and
    where the server is busy (429) or broken (5xx). The key comes from the environment and is written nowhere.

    Args:
        url: up to the version, such as `http://localhost:8000/v1`.
        cache: a file of answers (`AnswerCache`); who asks again with the same file asks only what is missing.
        key_variable: the environment variable with the key; where it is not set, none is needed.
        timeout: seconds for one try.
        max_retries: further tries.
        concurrency: requests at a time.

    Raises:
        ValueError: an address that is none, or that holds a name, a password or a query; a number out of range; or a
            cache that is damaged.
        ImportError: `openai` is not installed.
    """

    def __init__(
        self,
        url: str,
        cache: str | Path | None = None,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
        max_retries: int = 5,
        concurrency: int = 8,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError(  # and the address is not repeated here: it may hold a password
                "the address of a server is http://HOST:PORT/v1 or the like, without a name, password or query; its "
                f"key belongs into the environment variable {key_variable}."
            )
        if not timeout > 0 or max_retries < 0 or concurrency < 1:
            raise ValueError(
                f"timeout={timeout}, max_retries={max_retries}, concurrency={concurrency}: give more than 0 seconds, "
                "at least 0 further tries and at least 1 request at a time."
            )
        try:
            import openai
        except ImportError as error:
            raise ImportError("a model behind an API needs openai: pip install 'nt_failures[api]'") from error
        self.url, self.timeout, self.max_retries, self.concurrency = url.rstrip("/"), timeout, max_retries, concurrency
        self.cache = AnswerCache(None if cache is None else Path(cache))
        self._errors, self._key = openai.OpenAIError, os.environ.get(key_variable, "").strip() or "EMPTY"
        if not self._key.isascii() or not self._key.isprintable():
            raise ValueError(f"the key in {key_variable} has characters that no header can hold; copy it again.")
        self._client = openai.OpenAI(base_url=self.url, api_key=self._key, timeout=timeout, max_retries=max_retries)

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """The answer to each request, in their order; equal ones are asked once. ApiError for the first that fails."""
        missing = {_key(self.url, r): r for r in requests if self.cache.find(self.url, r) is None}
        stopped = threading.Event()

        def work(request: Request) -> None:
            if not stopped.is_set():
                try:
                    self._ask(request)
                except BaseException:
                    stopped.set()
                    raise

        with ThreadPoolExecutor(self.concurrency) as pool:
            asked = [pool.submit(work, request) for request in missing.values()]
            try:
                for future in tqdm(as_completed(asked), "asking", len(asked), disable=None if asked else True):
                    future.result()
            finally:  # also Ctrl-C: those that are on their way are waited for, and kept
                stopped.set()
        return [self.cache.find(self.url, request) for request in requests]

    def _ask(self, request: Request) -> None:
        endpoint = self._client.chat.completions if "messages" in request else self._client.completions
        shown = "messages" if "messages" in request else "prompt"
        rest = {name: value for name, value in request.items() if name not in ("model", shown)}
        try:
            response = endpoint.create(model=request["model"], extra_body=rest, **{shown: request[shown]})
        except (self._errors, ValueError) as error:  # of what is no JSON, a ValueError
            raise ApiError(self._said(error)) from None  # whose cause may repeat the key
        try:
            choice = response.choices[0]
            text = choice.message.content if "messages" in request else choice.text
            answer = Answer(_text(text), choice.finish_reason == "length")
        except (AttributeError, IndexError, TypeError):
            hint = "" if self.url.endswith("/v1") else "; does the address end in /v1?"
            raise ApiError(
                f"{self.url} answered {self._hidden(repr(response))[:500]}, which holds no answer{hint}."
            ) from None
        self.cache.keep(self.url, request, answer)

    def _said(self, error: Exception) -> str:
        """What went wrong, without the key, and what to do."""
        reason = first_line(error)
        if error.__cause__ is not None:
            reason += f" ({first_line(error.__cause__)})"
        path, status = self.cache.path, getattr(error, "status_code", 500)
        kept = f" What was answered is in {path}: ask again for the rest." if path and path.exists() else ""
        again = status >= 500 or status in (408, 409, 429)  # as openai does
        tries = f" (timeout {self.timeout:g} s, up to {self.max_retries} further tries)" * again
        hint = "; does the address end in /v1?" if status == 404 and not self.url.endswith("/v1") else ""
        return f"{self.url} gave no answer: {self._hidden(reason)[:500]}{hint}{tries}.{kept}"

    def _hidden(self, text: str) -> str:
        return text if self._key == "EMPTY" else text.replace(self._key, "***")
