"""Bounds what clients take: connections, whether they say something or not, and the memory of their messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CTRL_OPCODES, Frame

FRAME_BYTES = 256
"""What a frame of a message takes beside its bytes, as an object: a message may come in any number of empty ones."""

CONTROL_FRAMES, CONTROL_PER_S = 100.0, 10.0
"""Pings and pongs that a client may send at once, and for good. Each ping has to be answered."""

_AT_ONCE = 4 * 1024
"""Bytes that are parsed before the next look at how much a client has sent: a few hundred of the smallest frames."""


class Intake:
    """Connections, and the bytes of each one's message from its first byte to its answer.

    Args:
        limit: bytes of all connections together. Beyond it the connection that holds most is cut off.
        connections: that may be open, those included that have not said yet what they want. More are closed at once.
        log: called with a line when a client is cut off.
    """

    def __init__(self, limit: int, connections: int, log: Callable[[str], None]) -> None:
        self._limit, self._connections, self._log = limit, connections, log
        self._open = 0
        self._held: dict[ServerConnection, int] = {}

    def came(self, connection: ServerConnection) -> None:
        """A connection was opened."""
        self._open += 1
        if self._open > self._connections:
            connection.transport.abort()

    @property
    def total(self) -> int:
        return sum(self._held.values())

    def received(self, connection: ServerConnection, size: int) -> None:
        """More bytes came, or a frame that takes as many."""
        self._held[connection] = self._held.get(connection, 0) + size
        while self.total > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            self._log(
                f"{address_of(largest)} cut off: clients' messages take more than {self._limit:,} bytes (held_mb), "
                f"{self._held.pop(largest):,} of them its own"
            )
            largest.transport.abort()

    def complete(self, connection: ServerConnection, size: int) -> None:
        """A message of that size was read. What came with it besides (headers, pings) no longer counts."""
        if connection in self._held:
            self._held[connection] = size

    def answered(self, connection: ServerConnection, size: int) -> None:
        """The message is not needed any more."""
        if connection in self._held:
            self._held[connection] = max(0, self._held[connection] - size)

    def flooded(self, connection: ServerConnection) -> None:
        """A client has sent more control frames than anybody needs."""
        self._log(f"{address_of(connection)} cut off: more than {CONTROL_PER_S:g} pings or pongs a second")
        connection.transport.abort()

    def gone(self, connection: ServerConnection) -> None:
        """A connection was closed."""
        self._open -= 1
        self._held.pop(connection, None)


class ControlFrames:
    """How many a client may still send: `CONTROL_FRAMES`, and so many a second more."""

    def __init__(self) -> None:
        self._left, self._since = CONTROL_FRAMES, time.monotonic()

    def allowed(self) -> bool:
        """Whether one more is."""
        now = time.monotonic()
        self._left = min(CONTROL_FRAMES, self._left + (now - self._since) * CONTROL_PER_S) - 1
        self._since = now
        return self._left >= 0


def counted(intake: Intake) -> type[ServerConnection]:
    """The connection of a server whose intake is bounded."""

    class CountedConnection(ServerConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.control = ControlFrames()
            intake.came(self)

        def data_received(self, data: bytes) -> None:
            for start in range(0, len(data), _AT_ONCE):
                part = data[start : start + _AT_ONCE]
                intake.received(self, len(part))
                if self.transport.is_closing():
                    return
                super().data_received(part)

        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame):
                if event.opcode not in CTRL_OPCODES:
                    intake.received(self, FRAME_BYTES)
                elif not self.control.allowed() and not self.transport.is_closing():
                    intake.flooded(self)
            super().process_event(event)

        def connection_lost(self, exc: Exception | None) -> None:
            intake.gone(self)
            super().connection_lost(exc)

    return CountedConnection


def address_of(connection: ServerConnection) -> str:
    """Of the client, for the log."""
    address: Any = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
