"""A proxy before an HTTP server that spoils requests at random: drawn from a seeded generator, and counted."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("500", "503", "dropped", "lost", "cut", "silent", "slow")
"""500, 503  answered without asking the server;  dropped  hung up before;  lost  hung up after the server did it
cut  half of the answer;  silent  neither asked nor answered;  slow  answered after SLOW_SECONDS
damaged  (only when asked for) the server gets a body with one bit flipped
"""

SLOW_SECONDS = 0.1
_Headers = Sequence[tuple[str, str]]
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>injected</Message></Error>"


class FlakyProxy:
    """Passes requests on to `upstream`, and spoils a part of them.

    rates          probability of each fault
    forced         faults for the next requests of a method (None: that one passes), taken before chance is asked
    counts         faults so far, and "requests"
    unconditional  the server is not told the condition of a conditional write, as by stores that know none
    """

    def __init__(self, upstream: str, seed: int = 0, rates: dict[str, float] | None = None) -> None:
        self.host, self.port = urlsplit(upstream).hostname, urlsplit(upstream).port
        self.rates = dict(rates or {})
        self.forced: dict[str, list[str | None]] = {}
        self.unconditional = False
        self.counts: Counter[str] = Counter()
        self.end = threading.Event()
        self.conditional = threading.Lock()
        self._random, self._lock = random.Random(seed), threading.Lock()

    def draw(self, method: str) -> str | None:
        """The fault of the next request, or None."""
        with self._lock:
            self.counts["requests"] += 1
            waiting = self.forced.get(method)
            fault = waiting.pop(0) if waiting else self._by_chance()
            if fault is not None:
                self.counts[fault] += 1
            return fault

    @property
    def injected(self) -> int:
        """Requests that were spoilt, slow ones left out: those need no other attempt."""
        with self._lock:
            return sum(n for name, n in self.counts.items() if name not in ("requests", "slow"))

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Yields the proxy's URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            self.end.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def _by_chance(self) -> str | None:
        drawn = self._random.random()
        for fault, rate in self.rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None


def even_rates(total: float) -> dict[str, float]:
    """Every fault with the same probability, together `total`; silence rarely, since each costs a time-out."""
    return dict.fromkeys(FAULTS, total / len(FAULTS)) | {"silent": total / len(FAULTS) / 4}


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client. Each proxy has a subclass with itself as `owner`."""

    owner: FlakyProxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client gave up
            super().handle_one_request()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.owner.draw(self.command)
        if fault in ("500", "503"):
            code = {"500": b"InternalError", "503": b"ServiceUnavailable"}[fault]
            self._answer(int(fault), b"" if self.command == "HEAD" else _ERROR % code)
        elif fault in ("dropped", "silent"):
            if fault == "silent":
                self.owner.end.wait(60)
            self._hang_up()
        else:
            self._ask(body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def _ask(self, body: bytes, fault: str | None) -> None:
        if fault == "damaged" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        # S3 decides a conditional write atomically; moto looks and then writes.
        only_one = self.owner.conditional if "If-None-Match" in self.headers else contextlib.nullcontext()
        with (
            only_one,
            contextlib.closing(http.client.HTTPConnection(self.owner.host, self.owner.port, timeout=60)) as server,
        ):
            if self.owner.unconditional:
                del self.headers["If-None-Match"]
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content, said = answer.read(), answer.getheaders()
        if fault == "lost":
            self._hang_up()
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        self._answer(answer.status, content, said, cut=fault == "cut")

    def _answer(self, status: int, content: bytes, headers: _Headers = (), cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass
