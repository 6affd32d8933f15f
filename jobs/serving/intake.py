"""Bounds what clients take: connections, whether they say something or not, the memory of their messages, and the time
that reading them takes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CTRL_OPCODES, Frame
from websockets.protocol import State

from jobs.serving.metrics.prometheus import Refusal

MOST_CONTROL_FRAMES = 100
"""Pings, pongs and such that a client may send in a second. Each takes the server's time, a ping an answer too."""

_SAY_EVERY_S = 60.0
"""Between two lines of the log about clients that are closed for want of room."""

_FRAME_BYTES = 512
"""That a frame takes in memory besides its content."""
_PIECE = 4096
"""Bytes that are read at a time: of many tiny frames no more are read, once there are too many."""


class Intake:
    """Connections, and the bytes of each one's message from its first byte to its answer.

    Args:
        limit: bytes of all connections together. Beyond it the connection that holds most is cut off.
        connections: that may be open, those included that have not said yet what they want. One more takes the place
            of the one that has said nothing for longest, of the address that has most of these; without such a one it
            is closed at once.
        log: called with a line when a client is cut off.
        refused: called with the reason, every time.
    """

    def __init__(
        self, limit: int, connections: int, log: Callable[[str], None], refused: Callable[[Refusal], None]
    ) -> None:
        self._limit, self._connections, self._log, self._refused = limit, connections, log, refused
        self._open: dict[ServerConnection, str] = {}
        self._held: dict[ServerConnection, int] = {}
        self._control: dict[ServerConnection, tuple[int, int]] = {}
        self._said = -math.inf

    def came(self, connection: ServerConnection) -> None:
        """A connection was opened."""
        self._open[connection] = address_of(connection).rpartition(":")[0]
        if len(self._open) > self._connections:
            self._close(self._longest_silent() or connection)

    def _longest_silent(self) -> ServerConnection | None:
        silent = [each for each in self._open if each.state is State.CONNECTING]  # in the order they came
        most, _ = (Counter(self._open[each] for each in silent).most_common(1) or [("", 0)])[0]
        return next((each for each in silent if self._open[each] == most), None)

    def _close(self, connection: ServerConnection) -> None:
        self._refused(Refusal.SILENT)
        now = time.monotonic()
        if now > self._said + _SAY_EVERY_S:
            self._said = now
            self._log(f"{len(self._open):,} connections are open: {address_of(connection)} and such others are closed")
        del self._open[connection]
        connection.transport.abort()

    @property
    def total(self) -> int:
        """Bytes of all messages. May be asked for from any thread."""
        return sum(list(self._held.values()))

    @property
    def open(self) -> int:
        """Connections, those included that are no clients yet."""
        return len(self._open)

    def received(self, connection: ServerConnection, size: int) -> None:
        """More bytes came."""
        self._held[connection] = self._held.get(connection, 0) + size
        while self.total > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            self._log(
                f"{address_of(largest)} cut off: clients' messages take more than {self._limit:,} bytes (held_mb), "
                f"{self._held.pop(largest):,} of them its own"
            )
            self._refused(Refusal.MEMORY)
            largest.transport.abort()

    def frame(self, connection: ServerConnection, frame: Frame) -> None:
        """A frame was read."""
        if frame.opcode not in CTRL_OPCODES:
            self.received(connection, _FRAME_BYTES)
            return
        now = int(time.monotonic())
        second, count = self._control.get(connection, (now, 0))
        count = count + 1 if second == now else 1
        self._control[connection] = now, count
        if count > MOST_CONTROL_FRAMES and not connection.transport.is_closing():
            self._log(f"{address_of(connection)} cut off: it sent more than {MOST_CONTROL_FRAMES} pings in a second")
            self._refused(Refusal.PINGS)
            connection.transport.abort()

    def complete(self, connection: ServerConnection, size: int) -> None:
        """A message of that size was read. What came with it besides (headers, pings) no longer counts."""
        if connection in self._held:
            self._held[connection] = size

    def answered(self, connection: ServerConnection, size: int) -> None:
        """The message is not needed any more."""
        if connection in self._held:
            self._held[connection] = max(0, self._held[connection] - size)

    def decoded(self, connection: ServerConnection, size: int) -> None:
        """A message takes so many bytes more, or below 0 less, than it had when it came."""
        if size > 0:
            self.received(connection, size)
        else:
            self.answered(connection, -size)

    def gone(self, connection: ServerConnection) -> None:
        """A connection was closed."""
        self._open.pop(connection, None)
        self._held.pop(connection, None)
        self._control.pop(connection, None)


def counted(intake: Intake) -> type[ServerConnection]:
    """The connection of a server whose intake is bounded."""

    class CountedConnection(ServerConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            intake.came(self)

        def data_received(self, data: bytes) -> None:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                intake.received(self, len(piece))
                if self.transport.is_closing():
                    return
                super().data_received(piece)

        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame):
                intake.frame(self, event)
            super().process_event(event)

        def send_data(self) -> None:
            # In one write: asyncio logs every write to a client that is gone
            self.protocol.writes = [b"".join(run) for _, run in groupby(self.protocol.writes, bool)]
            super().send_data()

        def connection_lost(self, exc: Exception | None) -> None:
            intake.gone(self)
            super().connection_lost(exc)

    return CountedConnection


def address_of(connection: ServerConnection) -> str:
    """Of the client, for the log."""
    address: Any = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
