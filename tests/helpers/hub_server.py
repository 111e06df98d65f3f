"""A stand-in for the Hub on 127.0.0.1: what `huggingface_hub` needs to push and pull, in memory, with failures on
demand.

    with Hub() as hub:
        hub.fail_next("PUT", "/lfs/", "drop")                        # the connection breaks in the middle of a blob
        run_python(["script.py", "--flag"], hub, home)               # a process whose Hub is this one
        hub.files("datasets/nt_failures/pathstar"), hub.commits("datasets/nt_failures/pathstar"), hub.requests

A repo's key is its id, with `datasets/` or `spaces/` in front where it is no model. Uploads show only once a commit
names them. Left out: pull requests, tags, multi-part uploads, xet.
"""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

from hub_files import git_oid
from hub_handler import Handler

TOKEN = "hf_" + "standin" * 5
"""The only token that may write. Tests look for it in outputs, where it must never be."""


@dataclasses.dataclass
class Repo:
    """One repo: its files on `main` now, every commit with the files as they were, and the commit of each branch."""

    private: bool
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    history: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)

    heads: dict[str, str] = dataclasses.field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str, branch: str = "main") -> str:
        """Make `files` the branch's files; the id is a hash of them, the message and the parent, as in git."""
        parent = self.heads.get(branch, "")
        content = json.dumps([parent, message, {name: git_oid(data) for name, data in sorted(files.items())}])
        commit_id = hashlib.sha1(content.encode()).hexdigest()
        self.heads[branch], self.history[commit_id] = commit_id, files
        if branch == "main":
            self.files = files
            self.messages.append(message)
        return commit_id

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit id and files of a revision: a branch, a commit id or the start of one."""
        branch = "main" if revision == "HEAD" else revision.removeprefix("refs/heads/")
        if branch in self.heads:
            return self.heads[branch], self.history[self.heads[branch]]
        found = [commit_id for commit_id in self.history if len(revision) >= 7 and commit_id.startswith(revision)]
        return (found[0], self.history[found[0]]) if found else None


@dataclasses.dataclass
class Failure:
    """The next `times` requests of this method, whose path matches, fail with `status`, or break off ("drop")."""

    method: str
    path: str
    status: int | str
    times: int


class Hub:
    """The server and its repos. `url` is the endpoint; `requests` logs (method, path) in order of arrival."""

    token = TOKEN

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures: list[Failure] = []
        self.namespaces = {"tester", "nt_failures"}
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        # The poll decides how long shutdown waits.
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, key: str) -> dict[str, bytes]:
        """The files of a repo, as they are on `main`."""
        return dict(self.repos[key].files)

    def commits(self, key: str) -> list[str]:
        """The messages of a repo's commits, oldest first; the first is the Hub's own."""
        return list(self.repos[key].messages)

    def create(self, key: str, private: bool = False) -> Repo:
        """A repo with the commit that the Hub makes."""
        self.repos[key] = repo = Repo(private)
        repo.commit({".gitattributes": b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit")
        return repo

    def fail_next(self, method: str, path: str, status: int | str, times: int = 1) -> None:
        """Let requests fail: `path` is a regular expression, `status` an HTTP status or "drop"."""
        self.failures.append(Failure(method, path, status, times))

    def failure(self, method: str, path: str) -> int | str | None:
        """The status with which this request is to fail."""
        with self.lock:
            for failure in self.failures:
                if failure.times and failure.method == method and re.search(failure.path, path):
                    failure.times -= 1
                    return failure.status
        return None

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The variables of a process whose Hub is this one; `home` holds its caches. They are read at import."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        return kept | own | ({"HF_TOKEN": token} if token else {})


def run_python(
    arguments: str | Sequence[object], hub: Hub, home: Path, token: str | None = TOKEN, **options: object
) -> subprocess.CompletedProcess:
    """Run code (a string) or a script with its arguments (a list) in a process whose Hub is `hub`; both streams as
    text."""
    command = ["-c", arguments] if isinstance(arguments, str) else [str(argument) for argument in arguments]
    environment = hub.environment(home, token)
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, **options)
