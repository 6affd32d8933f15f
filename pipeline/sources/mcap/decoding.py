"""Messages of ROS 2 (CDR, described by ros2msg schemas) as objects, and their times."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.errors import EpisodeError
from pipeline.sources.mcap.container import StoredMessage
from pipeline.sources.mcap.matching import SECOND
from pipeline.sources.metadata import undecodable

LARGEST_SCHEMA = 2**20
"""Bytes of the definition of a message."""

_NOTHING = re.compile(r"^\s*[\w/]+\[[\s+_-]*0[\s0_]*\]", re.MULTILINE)
"""An array of no entries: a list of such could claim any length without a byte."""

_PLAIN_CDR = (b"\x00\x00", b"\x00\x01")
"""How messages begin: CDR, big or little endian."""


class Decoder:
    """Decodes the messages of one file."""

    def __init__(self, where: str) -> None:
        from mcap_ros2.decoder import DecoderFactory

        self._where, self._factory = where, DecoderFactory()
        self._made: dict[int, Callable[[bytes], Any]] = {}

    def decode(self, message: StoredMessage) -> Any:
        """The message as an object with its fields. Raises as `decode_bytes`."""
        return self.decode_bytes(message.channel, message.schema, message.data)

    def decode_bytes(self, channel: Any, schema: Any, data: bytes) -> Any:
        """Raises EpisodeError("undecodable"): in another encoding, or not as its schema says."""
        where = f"{self._where}, {channel.topic}"
        if data[:2] not in _PLAIN_CDR:
            raise undecodable(where, "a message that is not in plain CDR")
        try:
            return self._decoder(channel, schema, where)(data)
        except EpisodeError:
            raise
        except Exception as error:  # the parser of definitions has errors of its own kinds
            raise undecodable(where, f"a message does not fit its schema: {error}") from error

    def _decoder(self, channel: Any, schema: Any, where: str) -> Callable[[bytes], Any]:
        if channel.id not in self._made:
            if schema is None or (channel.message_encoding, schema.encoding) != ("cdr", "ros2msg"):
                found = f"{channel.message_encoding!r:.40} with {schema and schema.encoding!r:.40}"
                raise undecodable(where, f"messages are in {found}, read is 'cdr' with a schema in 'ros2msg'")
            if len(schema.data) > LARGEST_SCHEMA or _NOTHING.search(schema.data.decode()):
                raise undecodable(where, f"its schema has more than {LARGEST_SCHEMA:,} bytes, or arrays of no entries")
            made = self._factory.decoder_for(channel.message_encoding, schema)
            assert made is not None
            self._made[channel.id] = made
        return self._made[channel.id]


def header_time(message: Any, topic: str, where: str) -> int | None:
    """Nanoseconds of `header.stamp`; None for a message without a header.

    Raises:
        EpisodeError: "bad-clock": the stamp is zero, as one that nobody set, or no time.
    """
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None:
        return None
    seconds, rest = (getattr(stamp, name, None) for name in ("sec", "nanosec"))
    whole = isinstance(seconds, int) and isinstance(rest, int)
    if seconds is None or rest is None or not whole or seconds < 0 or not 0 <= rest < SECOND or seconds == rest == 0:
        detail = f"header.stamp is {seconds}.{rest}, no time; set source.times=log, or repair the file"
        raise EpisodeError("bad-clock", f"{where}, {topic}: {detail}")
    return int(seconds * SECOND + rest)
