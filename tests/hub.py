"""A Hugging Face Hub on loopback: as much of its protocol as ``huggingface_hub`` and ``datasets`` speak to read."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Hub:
    """Repositories by kind and name; each has commits, and branches or tags that point at them."""

    url: str = ""
    commits: dict[tuple[str, str], dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuses: tuple[str, int] | None = None  # what begins with this path, with this status

    def commit(self, repo: str, files: dict[str, bytes], *, kind: str = "dataset", ref: str = "main") -> str:
        """:return: the new commit's SHA-1; ``ref`` points at it now."""
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault((kind, repo), {})[sha] = files
        self.refs.setdefault((kind, repo), {})[ref] = sha
        return sha

    def forget(self, repo: str, sha: str, *, kind: str = "dataset") -> None:
        del self.commits[kind, repo][sha]


class _NotFound(Exception):
    """The value of ``X-Error-Code``, which the client turns into an exception of its own."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if self.hub.refuses and url.path.startswith(self.hub.refuses[0]):
            told = {401: "Invalid credentials in Authorization header"}
            status = self.hub.refuses[1]
            echoed = f"not with {self.headers.get('Authorization')}"
            self._send(b"{}", status, {"X-Error-Message": told.get(status, echoed)})
            return
        try:
            if parts[0] == "api":
                self._api(parts[1].removesuffix("s"), parts[2:], body, parse_qs(url.query))
            else:
                kind = {"datasets": "dataset"}.get(parts[0], "model")
                self._resolve(kind, parts[1:] if kind == "dataset" else parts)
        except _NotFound as missing:
            self._send(b'{"error": "not found"}', 404, {"X-Error-Code": str(missing)})

    def _api(self, kind: str, parts: list[str], body: bytes, query: dict[str, list[str]]) -> None:
        repo, verb, rest = "/".join(parts[:2]), (parts[2:3] or ["revision"])[0], parts[3:]
        sha = self._commit(kind, repo, rest[0] if rest else "main")
        files = self.hub.commits[kind, repo][sha]
        if verb == "revision":
            siblings = [{"rfilename": name} for name in sorted(files)]
            self._json({"id": repo, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": siblings})
        elif verb == "tree":
            self._json(
                _tree(files, "/".join(rest[1:]), recursive=query.get("recursive", ["false"])[0].lower() == "true")
            )
        elif verb == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            self._json([entry for entry in _tree(files, "", recursive=True) if entry["path"] in wanted])
        else:
            raise _NotFound("EntryNotFound")

    def _resolve(self, kind: str, parts: list[str]) -> None:
        repo, name = "/".join(parts[:2]), "/".join(parts[4:])
        sha = self._commit(kind, repo, parts[3])
        content = self.hub.commits[kind, repo][sha].get(name)
        if content is None:
            raise _NotFound("EntryNotFound")
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'inline; filename="{name.rpartition("/")[2]}"',
        }
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self._send(content[start : end + 1], 206, headers)
        else:
            self._send(content, 200, headers)

    def _commit(self, kind: str, repo: str, revision: str) -> str:
        if (kind, repo) not in self.hub.commits:
            raise _NotFound("RepoNotFound")
        sha = self.hub.refs[kind, repo].get(revision, revision)
        if sha not in self.hub.commits[kind, repo]:
            raise _NotFound("RevisionNotFound")
        return sha

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tree(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{folder}/" if folder else ""
    below = {name: content for name, content in files.items() if name.startswith(prefix)}
    if folder and not below:
        raise _NotFound("EntryNotFound")
    folders = {"/".join(name.split("/")[:depth]) for name in below for depth in range(1, name.count("/") + 1)}
    entries: list[dict[str, object]] = [
        {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
        for path in sorted(folders)
        if path.startswith(prefix)
    ]
    entries += [
        {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
        for name, content in sorted(below.items())
    ]
    return entries if recursive else [e for e in entries if "/" not in str(e["path"])[len(prefix) :]]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Request", (_Request,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="hub", daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
