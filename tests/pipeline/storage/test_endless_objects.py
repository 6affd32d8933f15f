"""Objects without an end."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import BuildError
from pipeline.storage import object_store
from pipeline.storage.object_store import open_object_store
from pipeline.storage.retry import Retry


@pytest.mark.parametrize("claimed", [2**40, None])
def test_what_a_server_claims_or_sends_is_bounded(monkeypatch: pytest.MonkeyPatch, claimed: int | None) -> None:
    """A web server that claims a size, or sends without an end."""

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 20:00:00 GMT")
            self.send_header("Content-Length", str(claimed or 2**22))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(bytes(2**22 if claimed is None else 10))

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setattr(object_store, "LARGEST", 2**20)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        store = open_object_store(f"http://127.0.0.1:{server.server_port}/build", Retry(1, 0.0))
        with pytest.raises(BuildError, match=r"build\.json has [\d,]+ bytes, at most 1,048,576 are read"):
            store.read("build.json")
    finally:
        server.shutdown()
        server.server_close()
