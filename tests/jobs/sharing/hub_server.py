"""A stand-in of the Hugging Face Hub on this machine: as much of its HTTP API as its client needs to push and fetch.

Repositories are made, files are sorted into regular ones and large ones (LFS) by their ends and sizes, large ones
arrive whole or in parts and are compared with their SHA-256, commits list what changes. Everything lies in memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".tar", ".arrow", ".parquet", ".safetensors")
LARGE_SIZE = 10 * 2**20
TOKEN = "hf_ThisIsTheToken"
ATTRIBUTES = b"*.tar filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Repository:
    """files: by path, bytes and whether they are large ones;  commits: their messages;  private: as it was made."""

    private: bool
    files: dict[str, tuple[bytes, bool]] = field(default_factory=lambda: {".gitattributes": (ATTRIBUTES, False)})
    commits: list[str] = field(default_factory=list)


class Hub:
    """The server's state.

    repositories  by "datasets/OWNER/NAME" or "models/OWNER/NAME"
    stored        large files by SHA-256, committed or not
    puts          how often bytes of a large file arrived, by SHA-256
    regular       how often a regular file arrived in a commit, by path
    part          bytes of a part of large files; None: they arrive whole
    deny_after    uploads of large files that are answered before all others are refused; None: all are answered
    ignored       paths that the repository's .gitignore names
    """

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.puts: Counter[str] = Counter()
        self.regular: Counter[str] = Counter()
        self.part: int | None = None
        self.deny_after: int | None = None
        self.ignored: set[str] = set()
        self.parts: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.answer = Answer(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code})


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _is_large(path: str, size: int) -> bool:
    return path.endswith(LARGE) or size > LARGE_SIZE


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes, large: bool) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
    if large:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


class _Api:
    """What is answered to one request."""

    def __init__(self, hub: Hub, method: str, path: str, body: bytes, authorised: bool) -> None:
        self.hub, self.method, self.path, self.body, self.authorised = hub, method, unquote(path), body, authorised

    def answer(self) -> Answer:
        for pattern, action in (
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", lambda: _json({})),
            (r"/api/(datasets|models)/([^/]+/[^/]+)/preupload/main", self.preupload),
            (r"/api/(datasets|models)/([^/]+/[^/]+)/commit/main", self.commit),
            (r"/api/(datasets|models)/([^/]+/[^/]+)/tree/[^/]+", self.tree),
            (r"/api/(datasets|models)/([^/]+/[^/]+)(?:/revision/[^/]+)?", self.info),
            (r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/store/([0-9a-f]{64})(?:/(\d+))?", self.store),
            (r"/complete/([0-9a-f]{64})", self.complete),
            (r"/verify", lambda: _json({})),
            (r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.resolve),
        ):
            found = re.fullmatch(pattern, self.path)
            if found:
                if not self.authorised and not self.path.startswith(("/store/", "/complete/")):  # signed
                    raise RefusedError(401, "Unauthorized")
                return action(*found.groups())
        raise RefusedError(404, "EntryNotFound")

    def json(self) -> Any:
        return json.loads(self.body)

    def repository(self, kind: str | None, name: str) -> Repository:
        try:
            return self.hub.repositories[f"{kind or 'models'}/{name}"]
        except KeyError:
            raise RefusedError(404, "RepoNotFound") from None

    def create(self) -> Answer:
        wanted = self.json()
        name = f"{wanted['organization']}/{wanted['name']}"
        key, exists = f"{wanted.get('type', 'model')}s/{name}", "already created"
        url = f"{self.hub.url}/{key.removeprefix('models/')}"
        if key in self.hub.repositories:
            return Answer(409, json.dumps({"error": exists, "url": url}).encode())
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[key] = Repository(private)
        return _json({"url": url, "name": name})

    def preupload(self, kind: str, name: str) -> Answer:
        repository = self.repository(kind, name)
        files = []
        for file in self.json()["files"]:
            there = repository.files.get(file["path"])
            mode = "lfs" if _is_large(file["path"], file["size"]) else "regular"
            oid = None
            if there is not None:
                oid = hashlib.sha256(there[0]).hexdigest() if there[1] else _blob(there[0])
            ignored = file["path"] in self.hub.ignored
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
        return _json({"files": files})

    def batch(self, kind: str | None, name: str) -> Answer:
        self.repository(kind, name)
        objects: list[dict[str, Any]] = []
        for wanted in self.json()["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.stored:
                entry["actions"] = {"upload": self.upload(oid, size), "verify": {"href": f"{self.hub.url}/verify"}}
            objects.append(entry)
        return _json({"transfer": "multipart" if self.hub.part else "basic", "objects": objects})

    def upload(self, oid: str, size: int) -> dict[str, Any]:
        signed = "?X-Signature=verysecret"
        if self.hub.part is None:
            return {"href": f"{self.hub.url}/store/{oid}{signed}"}
        count = -(-size // self.hub.part)
        parts = {f"{i}": f"{self.hub.url}/store/{oid}/{i}{signed}" for i in range(1, count + 1)}
        return {"href": f"{self.hub.url}/complete/{oid}", "header": {"chunk_size": str(self.hub.part), **parts}}

    def store(self, oid: str, part: str | None) -> Answer:
        with self.hub.lock:
            if self.hub.deny_after is not None:
                self.hub.deny_after -= 1
                if self.hub.deny_after < 0:
                    raise RefusedError(403, "SignatureExpired")
            self.hub.puts[oid] += 1
            if part is None:
                self.keep(oid, self.body)
            else:
                self.hub.parts.setdefault(oid, {})[int(part)] = self.body
        return Answer(200, b"", {"ETag": hashlib.md5(self.body).hexdigest()})

    def complete(self, oid: str) -> Answer:
        parts = self.hub.parts.pop(oid)
        self.keep(oid, b"".join(parts[number] for number in sorted(parts)))
        return _json({})

    def keep(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            raise RefusedError(400, "BadDigest")
        self.hub.stored[oid] = data

    def commit(self, kind: str, name: str) -> Answer:
        repository = self.repository(kind, name)
        files, message = dict(repository.files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
                self.hub.regular[value["path"]] += 1
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.stored:
                    raise RefusedError(400, "LfsObjectMissing")
                files[value["path"]] = (self.hub.stored[value["oid"]], True)
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        repository.files = files
        repository.commits.append(message)
        oid = hashlib.sha1(f"{name}{len(repository.commits)}".encode()).hexdigest()
        return _json({"commitUrl": f"{self.hub.url}/{kind}/{name}/commit/{oid}", "commitOid": oid})

    def tree(self, kind: str, name: str) -> Answer:
        files = self.repository(kind, name).files
        return _json([_entry(path, *content) for path, content in sorted(files.items())])

    def info(self, kind: str, name: str) -> Answer:
        repository = self.repository(kind, name)
        siblings = [{"rfilename": path} for path in sorted(repository.files)]
        oid = hashlib.sha1(f"{name}{len(repository.commits)}".encode()).hexdigest()
        return _json({"id": name, "sha": oid, "siblings": siblings, "private": repository.private})

    def resolve(self, kind: str | None, name: str, path: str) -> Answer:
        repository = self.repository(kind, name)
        if path not in repository.files:
            raise RefusedError(404, "EntryNotFound")
        data, large = repository.files[path]
        etag = hashlib.sha256(data).hexdigest() if large else _blob(data)
        return Answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": "0" * 40, "Accept-Ranges": "none"})


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            try:
                answer = _Api(hub, self.command, urlsplit(self.path).path, body, known).answer()
            except RefusedError as error:
                answer = error.answer
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815  names that http.server asks for

        def log_message(self, *_: object) -> None:
            pass

    return Handler
