"""The requests that the stand-in Hub of hub_server.py answers, and how: paths, statuses and headers are the Hub's."""

import base64
import hashlib
import json
import re
import socket
import struct
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_files import card_errors, describe, front_matter, is_lfs, key_of, tree


class Handler(BaseHTTPRequestHandler):
    """One request. `routes` maps methods and paths to the methods below."""

    hub: Any
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: 40 ms a request otherwise

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        parts = urlsplit(self.path)
        self.query, path = parse_qs(parts.query), parts.path
        self.hub.requests.append((self.command, unquote(path)))
        failure = self.hub.failure(self.command, path)
        if failure == "drop":
            return self.drop()
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if failure is not None:
            return self.error(int(failure), "failure asked for by the test")
        reads = "GET" if self.command == "HEAD" else self.command
        for method, pattern, handle in self.routes:
            if method == reads and (match := re.fullmatch(pattern, path)):
                with self.hub.lock:
                    return handle(self, **{name: unquote(value) for name, value in match.groupdict(default="").items()})
        return self.error(404, f"no such route: {path}")

    def drop(self) -> None:
        """Break off in the middle of the body, with a reset and without an answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def send(self, status: int, data: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), "application/json")

    def error(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        headers |= {"X_Error_Message": message} | ({"X_Error_Code": code} if code else {})
        self.send(status, json.dumps({"error": message}).encode(), "application/json", **headers)

    def authorised(self) -> bool:
        """Whether the token may write; answers with the Hub's 401 if not."""
        given = self.headers.get("Authorization")
        if given == f"Bearer {self.hub.token}":
            return True
        # A token that is wrong has its own message; without any the Hub does not even say that the repo exists.
        self.error(401, "Invalid credentials in Authorization header" if given else "Invalid username or password.")
        return False

    def repo(self, kind: str, id: str) -> Any:
        """The repo, or None after a 404; a private one exists only for who may read it."""
        repo = self.hub.repos.get(key_of(kind, id))
        if self.headers.get("Authorization") and not self.authorised():  # a wrong token may not even read
            return None
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {self.hub.token}"):
            return self.error(404, "Repository not found", "RepoNotFound")
        return repo

    def version(self, kind: str, id: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit id and files, or None after a 404."""
        if (repo := self.repo(kind, id)) is None:
            return None
        if (found := repo.at(revision)) is None:
            return self.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def whoami(self) -> None:
        if self.authorised():
            orgs = [{"name": name, "type": "org"} for name in sorted(self.hub.namespaces - {"tester"})]
            access = {"accessToken": {"displayName": "tests", "role": "write"}}
            self.json({"type": "user", "name": "tester", "fullname": "Tester", "orgs": orgs, "auth": access})

    def create(self) -> None:
        if not self.authorised():
            return
        asked = json.loads(self.body)
        owner = asked["organization"] or "tester"
        if owner not in self.hub.namespaces:
            return self.error(403, f'You don\'t have the rights to create a repo under the namespace "{owner}"')
        id, kind = f"{owner}/{asked['name']}", f"{asked.get('type') or 'model'}s"
        key = key_of(kind, id)
        answer = {"url": f"{self.hub.url}/{key}", "name": id, "id": hashlib.sha1(key.encode()).hexdigest()[:24]}
        if key in self.hub.repos:
            content = {"error": "You already created this repo", **answer}
            return self.send(409, json.dumps(content).encode(), "application/json")
        self.hub.create(key, private=asked.get("visibility") == "private")
        self.json(answer)

    def validate_yaml(self) -> None:
        errors = card_errors(json.loads(self.body)["content"])
        content = {"errors": [{"message": message} for message in errors], "warnings": []}
        self.send(400 if errors else 200, json.dumps(content).encode(), "application/json")

    def preupload(self, kind: str, id: str, revision: str) -> None:
        if self.authorised() and (found := self.version(kind, id, revision)):
            self.json({"files": [self.mode(file, found[1]) for file in json.loads(self.body)["files"]]})

    @staticmethod
    def mode(file: dict, files: dict[str, bytes]) -> dict:
        """How a file is to be uploaded, and what the repo has under its name (sha256 of LFS files, else git's)."""
        path = file["path"]
        answer = {"path": path, "uploadMode": "lfs" if is_lfs(path, file["size"]) else "regular", "shouldIgnore": False}
        if path in files:
            info = describe(path, files[path])
            answer["oid"] = info.get("lfs", info)["oid"]
        return answer

    def lfs_batch(self, kind: str, id: str) -> None:
        if not self.authorised():
            return
        objects = []
        for file in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{file['oid']}", "header": {}}}
            objects.append(file | ({} if file["oid"] in self.hub.blobs else {"actions": upload}))
        self.send(200, json.dumps({"transfer": "basic", "objects": objects}).encode(), "application/vnd.git-lfs+json")

    def put_blob(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.error(400, "the content is not what its name says")
        self.hub.blobs[oid] = self.body
        self.send(200, b"", "text/plain")

    def commit(self, kind: str, id: str, revision: str) -> None:
        """All lines or none."""
        if not self.authorised() or (repo := self.repo(kind, id)) is None:
            return
        if revision not in repo.heads:
            return self.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files, message = dict(repo.at(revision)[1]), ""
        for line in map(json.loads, self.body.splitlines()):
            value, key = line["value"], line["key"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile" and value["oid"] in self.hub.blobs:
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif key in ("deletedFile", "deletedFolder"):
                path, inside = value["path"].rstrip("/"), value["path"].rstrip("/") + "/"
                files = {name: data for name, data in files.items() if name != path and not name.startswith(inside)}
            else:
                return self.error(400, f"cannot commit {key} {value.get('path')}: unknown, or its content is missing")
        commit_id = repo.commit(files, message, revision)
        url = f"{self.hub.url}/{key_of(kind, id)}/commit/{commit_id}"
        self.json({"success": True, "commitOid": commit_id, "commitUrl": url, "hookOutput": ""})

    def branch(self, kind: str, id: str, branch: str) -> None:
        if not self.authorised() or (repo := self.repo(kind, id)) is None:
            return
        if branch in repo.heads:
            return self.error(409, f"Reference already exists: refs/heads/{branch}")
        repo.heads[branch] = repo.heads["main"]
        self.json({})

    def info(self, kind: str, id: str, revision: str = "main") -> None:
        if not (found := self.version(kind, id, revision)):
            return
        commit_id, files = found
        metadata = front_matter(files.get("README.md", b"").decode())
        common = {"id": id, "author": id.split("/")[0], "sha": commit_id, "lastModified": "2026-01-01T00:00:00.000Z"}
        siblings = [{"rfilename": name} for name in sorted(files)]
        state = {"private": self.hub.repos[key_of(kind, id)].private, "gated": False, "disabled": False}
        extra = {"tags": [], "downloads": 0, "likes": 0, "cardData": metadata}
        self.json({**common, **state, **extra, "siblings": siblings})

    def tree_of(self, kind: str, id: str, revision: str, path: str) -> None:
        if found := self.version(kind, id, revision):
            entries = tree(found[1], path, recursive=self.query.get("recursive", [""])[0].lower() in ("1", "true"))
            if path and not entries:
                return self.error(404, f"{path} does not exist on {revision}", "EntryNotFound")
            self.json(entries)

    def paths_info(self, kind: str, id: str, revision: str) -> None:
        if found := self.version(kind, id, revision):
            wanted = parse_qs(self.body.decode())["paths"]
            everything = {entry["path"]: entry for entry in tree(found[1], "", recursive=True)}
            self.json([everything[path] for path in wanted if path in everything])

    def refs(self, kind: str, id: str) -> None:
        if found := self.version(kind, id, "main"):
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found[0]}
            self.json({"branches": [main], "tags": [], "converts": []})

    def resolve(self, kind: str, id: str, revision: str, path: str) -> None:
        if not (found := self.version(kind or "models", id, revision)):
            return
        commit_id, files = found
        if path not in files:
            return self.error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit_id)
        data, info = files[path], describe(path, files[path])
        etag = f'"{info.get("lfs", info)["oid"]}"'
        headers = {"ETag": etag, "X_Repo_Commit": commit_id, "Accept_Ranges": "bytes"}
        if "lfs" in info:
            headers |= {"X_Linked_Size": str(len(data)), "X_Linked_Etag": etag}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
            return self.send(206, data[first : last + 1], "application/octet-stream", **headers)
        self.send(200, data, "application/octet-stream", **headers)

    REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
    FILES = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"
    routes = [
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/repos/create", create),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("POST", REPO + r"/preupload/(?P<revision>[^/]+)", preupload),
        ("POST", FILES + r"\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", put_blob),
        ("POST", REPO + r"/commit/(?P<revision>[^/]+)", commit),
        ("POST", REPO + r"/branch/(?P<branch>[^/]+)", branch),
        ("GET", REPO, info),
        ("GET", REPO + r"/revision/(?P<revision>[^/]+)", info),
        ("GET", REPO + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", tree_of),
        ("POST", REPO + r"/paths-info/(?P<revision>[^/]+)", paths_info),
        ("GET", REPO + r"/refs", refs),
        ("GET", FILES + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ]
