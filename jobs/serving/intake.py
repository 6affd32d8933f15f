"""Bounds the memory that clients' messages take: those that are being received, and those that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection


class Intake:
    """Bytes of each connection's message, from its first byte to its answer.

    Args:
        limit: bytes of all connections together. Beyond it the connection that holds most is cut off.
        log: called with a line when that happens.
    """

    def __init__(self, limit: int, log: Callable[[str], None]) -> None:
        self._limit, self._log = limit, log
        self._held: dict[ServerConnection, int] = {}

    @property
    def total(self) -> int:
        return sum(self._held.values())

    def received(self, connection: ServerConnection, size: int) -> None:
        """More bytes came."""
        self._held[connection] = self._held.get(connection, 0) + size
        while self.total > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            self._log(
                f"{_name(largest)} cut off: clients' messages take more than {self._limit:,} bytes (held_mb), "
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

    def gone(self, connection: ServerConnection) -> None:
        self._held.pop(connection, None)


def counted(intake: Intake) -> type[ServerConnection]:
    """The connection of a server whose intake is bounded."""

    class CountedConnection(ServerConnection):
        def data_received(self, data: bytes) -> None:
            intake.received(self, len(data))
            if not self.transport.is_closing():
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            intake.gone(self)
            super().connection_lost(exc)

    return CountedConnection


def _name(connection: ServerConnection) -> str:
    address: Any = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
