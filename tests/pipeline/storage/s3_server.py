"""Servers on this machine that builds are read from: S3 (moto), and HTTP that can be told to fail."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.download import RemoteFile
from pipeline.storage.object_store import open_object_store

BUCKET = "builds"
S3_USER = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
"""Variables of whoever asks; moto lets everybody in, but S3's tools ask nothing without them."""


def be_impatient(patch: pytest.MonkeyPatch) -> None:
    """For a server that is made to fail: a request ends after half a second of silence, and the store tries again."""
    patch.setenv("VLAJEPA_STORE_TIMEOUT", "0.5")
    patch.setattr("pipeline.storage.clients._REQUEST_RETRIES", 0)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """An S3 of its own process with one bucket, made known by the usual variables. Yields the bucket's URL."""
    port = free_port()
    with _process(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port), pytest.MonkeyPatch.context() as env:
        env.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name, value in S3_USER.items():
            env.setenv(name, value)
        env.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3_client().create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"


@contextlib.contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """A plain `python -m http.server` of a folder. Yields its URL."""
    port = free_port()
    with _process(["-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)], port):
        yield f"http://127.0.0.1:{port}"


def upload(folder: Path, url: str) -> None:
    """Copy a build to a URL, build.json last."""
    store = open_object_store(url)
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.name == "build.json", p))
    for path in files:
        store.write(path.relative_to(folder).as_posix(), path.read_bytes())


def s3_client() -> Any:
    """AWS's own client of the server that the environment names."""
    import boto3  # comes with moto, which slow tests alone need

    logging.getLogger("botocore").setLevel(logging.WARNING)  # Hydra would print where it found its settings
    return boto3.client("s3")


def put_object(url: str, data: bytes) -> None:
    """Make an object, also one whose name ends in `/`."""
    bucket, key = url.removeprefix("s3://").split("/", 1)
    s3_client().put_object(Bucket=bucket, Key=key, Body=data)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(arguments: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/")
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no server at {url}; its process ended with {process.poll()}")
            time.sleep(0.05)


class FlakyServer:
    """An HTTP server of files held in memory.

    failures  how many requests for a file are still answered with 503
    cut       how many are still cut off in the middle
    damaged   how many still get a file with one bit flipped
    denied    files answered with 403
    gone      files answered with 410
    held      files of which half is sent and then nothing, until `release` is set
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failures: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self.denied: set[str] = set()
        self.gone: set[str] = set()
        self.held: set[str] = set()
        self.half_sent, self.release = threading.Event(), threading.Event()
        self.requests: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, data: bytes) -> RemoteFile:
        self.files[name] = data
        return RemoteFile(f"{self.url}/{name}", len(data), hashlib.sha256(data).hexdigest())

    def take(self, counter: Counter[str], name: str) -> bool:
        with self._lock:
            counter[name] -= 1
            return counter[name] >= 0

    def count(self, name: str) -> None:
        with self._lock:
            self.requests[name] += 1

    @contextlib.contextmanager
    def running(self) -> Iterator[FlakyServer]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            server.shutdown()
            thread.join()
            server.server_close()


def _handler(owner: FlakyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            owner.count(name)
            if name in owner.denied:
                self.send_error(403)
            elif name in owner.gone:
                self.send_error(410)
            elif name not in owner.files:
                self.send_error(404)
            elif owner.take(owner.failures, name):
                self.send_error(503)
            else:
                with contextlib.suppress(ConnectionError):  # the client was killed
                    self._send(name, owner.files[name])

        def _send(self, name: str, data: bytes) -> None:
            if owner.take(owner.damaged, name):
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            if owner.take(owner.cut, name):
                return
            if name in owner.held:
                owner.half_sent.set()
                owner.release.wait(60)
            self.wfile.write(data[len(data) // 2 :])

        def log_message(self, *_: object) -> None:
            pass

    return Handler
