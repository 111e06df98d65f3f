"""A stand-in for an OpenAI-compatible server on the loopback interface, in vLLM's or llama.cpp's dialect.

It answers by a function from text to text: of a prompt to continue, or of a question in a chat. One character is one
token. What goes wrong is planned: each of `faults` is met once, by the next request, before any is answered.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-stand-in-0123456789"
PAST = {"object": "?", "created": 1, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
EXTRA = {
    "vllm": ({"prompt_logprobs": None, "kv_transfer_params": None}, {"stop_reason": None}, {"reasoning_content": None}),
    "llama.cpp": ({"system_fingerprint": "b1", "timings": {"predicted_n": 1}}, {}, {}),
}
"""What each dialect adds to the answer, to its choice and to a message."""


class ApiStandIn:
    """`with ApiStandIn(answer) as server`: it listens at `server.url`; `server.requests` is what it was asked.

    Args:
        answer: text to text, or to None, which is sent as null.
        dialect: `"vllm"` or `"llama.cpp"`.
        key: refuses a request without it.
        cut: end an answer at `max_tokens` characters.
    """

    def __init__(self, answer, dialect="vllm", key=None, cut=True):
        self.answer, self.dialect, self.key, self.cut = answer, dialect, key, cut
        self.requests: list[tuple[str, dict]] = []
        self.faults: list = []
        """a status, `"drop"` (the connection ends), `"page"` (HTML), `"half"` (a torn answer), `"none"` (no choices),
        an Event or a Barrier: the answer waits for it, or an address to which the request is sent on"""
        self.keys: list[str | None] = []
        """what each request had as its Authorization"""
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stand_in": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def written(self, path, body):
        """The JSON of an answer."""
        chat = path.endswith("/chat/completions")
        text = self.answer(body["messages"][-1]["content"] if chat else body["prompt"])
        for stop in body.get("stop", []):
            text = text and text.partition(stop)[0]
        ended = not self.cut or len(text or "") <= body["max_tokens"]
        text = text if ended else text[: body["max_tokens"]]
        whole, choice, message = EXTRA[self.dialect]
        said = {"message": {"role": "assistant", "content": text, **message}} if chat else {"text": text}
        choices = [{"index": 0, **said, "logprobs": None, "finish_reason": "stop" if ended else "length", **choice}]
        return {"id": "1", **PAST, "model": body["model"], "choices": choices, **whole}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # who asked has been killed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    stand_in: ApiStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        it = self.stand_in
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with it.lock:
            it.requests.append((self.path, body))
            it.keys.append(self.headers["Authorization"])
            fault = it.faults.pop(0) if it.faults else None
        if it.key is not None and self.headers["Authorization"] != f"Bearer {it.key}":
            self.send(401, {"error": {"message": f"Incorrect key: {self.headers['Authorization']}", "code": 401}})
        elif self.path not in ("/v1/completions", "/v1/chat/completions"):
            self.send(404, {"error": {"message": "Not Found", "code": 404}})
        elif isinstance(fault, int):
            self.send(fault, {"error": {"message": f"status {fault}", "type": "unavailable_error", "code": fault}})
        elif str(fault).startswith("http"):
            self.send(307, {}, location=f"{fault}{self.path.removeprefix('/v1')}")
        elif fault == "drop":
            self.close_connection = True
        elif fault == "page":
            self.send(200, "<html>welcome</html>", "text/html")
        elif fault == "half":
            self.send(200, '{"choices": [{"te', "application/json")
        elif fault == "none":
            self.send(200, {**PAST, "choices": None, "error": {"message": "no such model"}})
        else:
            if fault is not None:
                fault.wait(60)
            self.send(200, it.written(self.path, body))

    def send(self, status, value, kind="application/json", location=None):
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")  # no test waits for the backoff of a client
            if location is not None:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:  # who asked has given up
            self.close_connection = True


def walker(decide, length):
    """Continues a path-star prompt, behind some of its answer or none: look-ups, and `decide(children, prompt)`.

    `length`: nodes of a whole answer; behind it a line ends, and another prompt begins.
    """

    def answer(text):
        prompt, _, shown = text.rpartition("=")
        graph, _, query = prompt.rpartition("/")
        edges = [edge.split(",") for edge in graph.split("|")]
        nodes = shown.rstrip(",").split(",") if shown else []
        written = []
        while len(nodes) + len(written) < length:
            way = [*nodes, *written]
            children = [b for a, b in edges if way and a == way[-1]]
            if not way:
                written.append(query.split(",")[0])
            elif len(children) > 1:
                written.append(decide(children, prompt))
            else:
                written.append(children[0] if children else "x")
        return ",".join(written) + "\n1,2|"

    return answer


def guess(children, prompt):
    """A child by the prompt's characters alone: no plan."""
    return sorted(children)[sum(prompt.encode()) % len(children)]


def plan(children, prompt):
    """The child on the way to the goal."""
    graph, _, query = prompt.rpartition("/")
    parent = {b: a for a, b in (edge.split(",") for edge in graph.split("|"))}
    node = query.split(",")[1]
    while node not in children:
        node = parent[node]
    return node
