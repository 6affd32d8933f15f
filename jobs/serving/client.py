"""A served policy as a policy: `vlajepa serve` on another machine, or in another process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from jobs.common.policy.committed import Committed
from jobs.common.policy.contract import differences
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation, check_observation
from jobs.serving.keys import COMMITTED, DELAY, GROUP, SEED
from jobs.serving.wire import WIRE_VERSION, WireError, pack, unpack
from pipeline.errors import RunError, SettingsError
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import reason
from pipeline.storage.credentials import refuse_credentials

_OPEN_S = 10.0
_CLOSING_S = 5.0
_SILENT_S = 60.0
_BETWEEN_ATTEMPTS_S = 0.5
_MOST_ATTEMPTS = 3
"""Times that a query is sent when the connection is lost before its answer."""
_ROOM = 4096
"""Bytes of a message besides its images and texts, at most."""


class PolicyClient:
    """A policy that is served by `vlajepa serve`. Not for use from several threads.

    Args:
        host: name or address of the server; or its URL, as in ws://robot:8000.
        port: of the server, where the URL does not name it.
        api_key: what the server was started with.
        wait_s: seconds for which an unreachable server is tried again, at the start and after a lost connection.
        answer_s: seconds that an answer may take.
        expects: what the policy must take and give, as `vlajepa.open_build(…).contract` of its data, or the interface
            of a policy that is known to fit; None: only views and shapes of what is sent are compared, later.

    Raises:
        SettingsError: the address is invalid, the server needs another key, or its policy is not as expected.
        RunError: no server in time, or it is no `vlajepa serve` of this version.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        api_key: str | None = None,
        wait_s: float = 60.0,
        answer_s: float = 600.0,
        expects: RobotInterface | None = None,
    ) -> None:
        self.address = _address(host, port)
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._wait_s, self._answer_s = wait_s, answer_s
        self._closing = contextlib.ExitStack()
        self.metadata: dict[str, Any] = {}
        self._connection: ClientConnection | None = None
        self._connected()
        try:
            self.interface = from_json(RobotInterface, self.metadata.get("interface"), "interface")
            self._most, self._largest = (int(self.metadata["limits"][name]) for name in ("max_batch", "message_bytes"))
        except (ValueError, TypeError, KeyError) as error:
            self.close()
            raise RunError(f"{self.address}: the server's metadata cannot be used: {reason(error)}") from error
        if expects is not None and (found := differences(self.interface, expects)):
            self.close()
            raise SettingsError(f"{self.address} serves a policy that does not fit: {'; '.join(found)}")

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        """See `Policy.act`. After a lost connection the query is sent again: its answer is the same.

        Raises:
            ValueError: an observation does not fit the interface.
            RunError: the server refused, failed, was gone for longer than wait_s, or now serves another policy.
        """
        return self.act_continuing(observations, seeds, [None] * len(observations))

    def act_continuing(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> NDArray[np.float32]:
        """See `Policy.act_continuing`; raises as `act`."""
        for observation, one in zip(observations, committed, strict=True):
            check_observation(observation, self.interface)
            if one is not None:
                one.require_fitting(self.interface.chunk, self.interface.action)
        found = [np.empty((0, self.interface.chunk, self.interface.action), np.float32)]
        queries = [self._encoded(*asked) for asked in zip(observations, seeds, committed, strict=True)]
        found += [self._ask(group) for group in self._groups(queries)]
        return np.concatenate(found)

    def close(self) -> None:
        """End the connection."""
        self._connection = None
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encoded(self, observation: RobotObservation, seed: int, committed: Committed | None) -> dict[str, Any]:
        images = {f"images/{view}": observation.images[view] for view in self.interface.views}
        state = np.asarray(observation.state, np.float32)
        meanwhile = {} if committed is None else {COMMITTED: committed.actions, DELAY: int(committed.delay)}
        return {**images, "observation/state": state, "prompt": observation.instruction, SEED: int(seed), **meanwhile}

    def _groups(self, queries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Consecutive queries that the server takes in one message."""
        group, size = list[dict[str, Any]](), 0
        for query in queries:
            bytes_ = sum(value.nbytes for value in query.values() if isinstance(value, np.ndarray))
            bytes_ += len(query["prompt"].encode()) + _ROOM
            if group and (len(group) == self._most or size + bytes_ > self._largest):
                yield group
                group, size = [], 0
            group.append(query)
            size += bytes_
        if group:
            yield group

    def _ask(self, group: list[dict[str, Any]]) -> NDArray[np.float32]:
        """Actions float32 [B, T, A] for one message."""
        wanted = (len(group), self.interface.chunk, self.interface.action)
        answer = self._exchange(pack({GROUP: group}))
        try:
            reply = unpack(answer)
        except WireError as error:
            raise RunError(f"{self.address}: the server's reply cannot be read: {error}") from error
        actions = reply.get("actions")
        if not isinstance(actions, np.ndarray) or actions.dtype != np.float32 or actions.shape != wanted:
            raise RunError(f"{self.address}: the server's reply has no float32 actions {list(wanted)}")
        return actions

    def _exchange(self, message: bytes) -> bytes:
        """Send a message and wait for its answer, again after a lost connection."""
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                connection = self._connected()
                connection.send(message)
                reply = connection.recv(self._answer_s)
            except TimeoutError as error:
                self.close()
                raise RunError(f"{self.address}: no answer within {self._answer_s:g} s") from error
            except ConnectionClosed as error:
                self.close()
                if error.rcvd is not None and error.rcvd.code == CloseCode.MESSAGE_TOO_BIG:
                    raise RunError(f"{self.address} refused a message of {len(message):,} bytes: {error}") from error
                if attempt == _MOST_ATTEMPTS:
                    text = f"{self.address}: the connection was lost {attempt} times before an answer came: {error}"
                    raise RunError(text) from error
                continue
            if isinstance(reply, str):
                raise self._refusal(connection, reply)
            return reply
        raise AssertionError("unreachable")

    def _refusal(self, connection: ClientConnection, text: str) -> Exception:
        """The error for a text, after which the server closes the connection: its code shows whose fault it was."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            connection.recv(_OPEN_S)
        wrong = connection.close_code == CloseCode.INVALID_DATA
        self.close()
        return (ValueError if wrong else RunError)(f"{self.address}: {text}")

    def _connected(self) -> ClientConnection:
        """The connection, made again if there is none."""
        if self._connection is None:
            self._connection, metadata = self._connect()
            before, self.metadata = self.metadata, metadata
            if before and _identity(before) != _identity(metadata):
                self.close()
                raise RunError(
                    f"{self.address} now serves another policy: {_identity(metadata)} instead of {_identity(before)}"
                )
        return self._connection

    def _connect(self) -> tuple[ClientConnection, dict[str, Any]]:
        """A connection and the server's metadata; tried for wait_s."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return self._try_to_connect()
            except InvalidStatus as error:
                text = (error.response.body or b"").decode(errors="replace").strip()
                if error.response.status_code != 503:  # full, or stopping: there may soon be room
                    kind = SettingsError if error.response.status_code == 401 else RunError
                    raise kind(f"{self.address} refused the connection: {error}: {text}") from error
                problem = f"{error}: {text}"
            except (OSError, InvalidHandshake, ConnectionClosed) as error:  # TimeoutError is an OSError
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() + _BETWEEN_ATTEMPTS_S > deadline:
                raise RunError(
                    f"{self.address}: no policy server within {self._wait_s:g} s ({problem}); "
                    "is `vlajepa serve` running there, with a host= that can be reached?"
                )
            time.sleep(_BETWEEN_ATTEMPTS_S)

    def _try_to_connect(self) -> tuple[ClientConnection, dict[str, Any]]:
        opening = connect(
            self.address,
            compression=None,
            additional_headers=self._headers,
            open_timeout=_OPEN_S,
            ping_timeout=_SILENT_S,
            close_timeout=_CLOSING_S,
            proxy=None,
            max_size=None,
        )
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(opening)
            metadata = _metadata(self.address, connection.recv(_OPEN_S))
            self._closing.close()
            self._closing = stack.pop_all()
        return connection, metadata


def _address(host: str, port: int | None) -> str:
    """The URL of a server. Raises SettingsError if it is invalid."""
    address = host if "://" in host else f"ws://{f'[{host}]' if ':' in host else host}"
    address = address if port is None else f"{address.rstrip('/')}:{port}"
    refuse_credentials(address, "the server's address")
    try:
        parsed = urlsplit(address)
        valid = parsed.scheme in ("ws", "wss") and parsed.hostname and parsed.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise SettingsError(f"{address} is no address; give ws://host:port")
    return address


def _metadata(address: str, hello: str | bytes) -> dict[str, Any]:
    """A server's metadata. Raises RunError if it is no policy server of this version."""
    try:
        content = unpack(hello if isinstance(hello, bytes) else hello.encode())
    except WireError as error:
        raise RunError(f"{address} is no policy server: its first message is {hello[:80]!r}") from error
    if content.get("server") != "vlajepa" or content.get("wire") != WIRE_VERSION:
        raise RunError(
            f"{address} is no `vlajepa serve` of wire version {WIRE_VERSION} (its metadata has server="
            f"{content.get('server')!r}, wire={content.get('wire')!r}); its views cannot be known"
        )
    return content


def _identity(metadata: dict[str, Any]) -> dict[str, Any]:
    """What must stay the same when a connection is made again."""
    return {name: value for name, value in metadata.items() if name not in ("contract", "keys", "limits")}
