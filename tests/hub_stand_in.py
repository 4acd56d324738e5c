"""A stand-in for the Hugging Face Hub: the part of its HTTP protocol that `huggingface_hub` speaks to download and upload.

Commits are dictionaries of files in memory; a commit's hash is that of its contents. It can cut connections, refuse access
and be down, which the real Hub does only when nobody is looking.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 10_000
"""Files from here on are uploaded as LFS objects, as the real Hub asks for."""


@dataclass
class Repository:
    """commits: {hash: {path: content}}; refs: {branch or tag: hash}. access: "open", "gated" or "forbidden".
    lost: files that the server fails to send."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    access: str = "open"
    lost: set[str] = field(default_factory=set)

    def commit(self, files: Mapping[str, bytes], ref: str = "main") -> str:
        text = json.dumps(
            [[name, hashlib.sha1(content).hexdigest()] for name, content in sorted(files.items())]
        )
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class StandIn:
    """repositories: by ("model" or "dataset", name). cuts: {file: [bytes after which each next answer is cut off]}.

    status: of every answer, where the server is to be down. delay_s: before the content of a file.
    requests: "METHOD path" of all requests, in order.
    """

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int | None = None
    delay_s: float = 0.0
    objects: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def add(self, kind: str, name: str, files: Mapping[str, bytes] | Path, ref: str = "main") -> str:
        """Commit files, or all files of a folder, to a repository; returns the commit's hash."""
        if isinstance(files, Path):
            folder = files
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.repositories.setdefault((kind, name), Repository()).commit(files, ref)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Environment of a process that takes this server for the Hub, with its cache in `home`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return kept | own | more


@contextmanager
def hub_stand_in() -> Iterator[StandIn]:
    """A running server on a free port of this machine."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit)/([^/]+))?(?:/.*)?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LFS = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self._down(path):
            return
        if match := _FILE.fullmatch(path):
            self._file("dataset" if match[1] else "model", match[2], unquote(match[3]), unquote(match[4]))
        elif match := _API.fullmatch(path):
            self._api(match[1].removesuffix("s"), match[2], match[3], unquote(match[4] or "main"))
        else:
            self._json({"error": "no such page"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._down(path):
            return
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.repositories.setdefault((asked.get("type", "model"), name), Repository())
            self._json({"url": f"{self.hub.url}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := _LFS.fullmatch(path):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.url}/upload/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif (match := _API.fullmatch(path)) and match[3] == "preupload":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            self._json({"files": modes})
        elif match and match[3] == "commit":
            self._commit(match[1].removesuffix("s"), match[2], unquote(match[4]), body, query)
        else:
            self._json({"error": "no such page"}, 404)

    def do_PUT(self) -> None:
        self.hub.requests.append(f"PUT {self.path}")
        self.hub.objects[self.path.rsplit("/", 1)[1]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._json({})

    def _down(self, path: str) -> bool:
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.status is not None:
            self._json({"error": "the stand-in is down"}, self.hub.status)
        return self.hub.status is not None

    def _repository(self, kind: str, name: str) -> Repository | None:
        """The repository, or None after an answer that refuses it."""
        found = self.hub.repositories.get((kind, name))
        if found is None:  # the real Hub does not tell strangers what does not exist from what is private
            self._json(
                {"error": "Invalid username or password."},
                401,
                {"X-Error-Message": "Invalid username or password."},
            )
        elif found.access == "gated":
            self._json({"error": "gated"}, 403, {"X-Error-Code": "GatedRepo"})
        elif found.access == "forbidden":
            self._json({"error": "forbidden"}, 403)
        else:
            return found
        return None

    def _api(self, kind: str, name: str, what: str | None, revision: str) -> None:
        if (repository := self._repository(kind, name)) is None:
            return
        commit = repository.resolve(revision)
        if commit is None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = repository.commits[commit]
        if what == "tree":
            self._json([_entry(path, content) for path, content in sorted(files.items())])
        else:
            siblings = [{"rfilename": path} for path in sorted(files)]
            self._json({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def _file(self, kind: str, name: str, revision: str, path: str) -> None:
        if (repository := self._repository(kind, name)) is None:
            return
        commit = repository.resolve(revision)
        if commit is None or path not in repository.commits[commit]:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            self._json({"error": code}, 404, {"X-Error-Code": code})
            return
        if path in repository.lost and self.command == "GET":
            self._json({"error": "lost"}, 500)
            return
        content = repository.commits[commit][path]
        start, status = 0, 200
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, status = int(match[1]), 206
        self.send_response(status)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            time.sleep(self.hub.delay_s)
            cuts = self.hub.cuts.get(path, [])
            end = start + cuts.pop(0) if cuts else len(content)
            self.wfile.write(content[start:end])
            if end < len(content):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    def _commit(self, kind: str, name: str, ref: str, body: bytes, query: Mapping[str, list[str]]) -> None:
        repository = self.hub.repositories[(kind, name)]
        files = dict(repository.commits.get(repository.refs.get(ref, ""), {}))
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = repository.commit(files, ref)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _json(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if len(content) >= LARGE else hashlib.sha1(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _etag(content)}
    if len(content) >= LARGE:
        entry["lfs"] = {"oid": _etag(content), "size": len(content), "pointerSize": 130}
    return entry
