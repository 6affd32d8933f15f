"""A store that ignores the condition of a read, and says the truth in its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import BuildError
from pipeline.storage.object_store import open_object_store
from pipeline.storage.raw.bucket_object import BucketObject
from pipeline.storage.retry import Retry

SIZE = 1000


class Store(BaseHTTPRequestHandler):
    """Answers each request with `letter`."""

    protocol_version = "HTTP/1.1"
    letter = b"a"

    def do_GET(self) -> None:
        first, last = 0, SIZE - 1
        if wanted := self.headers.get("Range"):
            first, last = (int(end) for end in wanted.removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{self.letter.decode()}"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(self.letter * (last - first + 1))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Store]]:
    class Own(Store):
        pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}"),
    ):
        monkeypatch.setenv(name, value)
    yield Own
    made.shutdown()
    made.server_close()


def test_another_version_is_never_taken_for_the_listed_one(server: type[Store]) -> None:
    found = BucketObject(open_object_store("s3://bucket/raw", Retry(2, 0.0)), "x", SIZE, '"a"')
    assert found.read(0, 10) == b"a" * 10
    server.letter = b"b"
    for read in (lambda: found.read(0, 10), found.sha256):
        with pytest.raises(BuildError, match="x was replaced while it was read"):
            read()
