"""A port at which Prometheus reads the numbers of a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server

from pipeline.errors import SettingsError


class MetricsPort:
    """Open from when it is made until `close`.

    Args:
        port: 0: a free one.
        setting: the name of the setting that `port` comes from, for the message.

    Raises:
        SettingsError: the port cannot be opened.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int, setting: str) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise SettingsError(
                f"{setting}={port} cannot be opened on {host} ({error.strerror}); choose another one"
            ) from error

    @property
    def port(self) -> int:
        """The one that was opened, if the system chose it."""
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
