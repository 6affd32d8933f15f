"""A policy for evaluators and robots on other machines, in the protocol of openpi's policy server.

A client connects by WebSocket and gets the metadata. Each of its messages is one observation (see `keys.py`), packed
as in `wire.py`; the reply is packed, too:

    actions        float32 [T, A] in the build's units
    server_timing  infer_ms, wait_ms (for the policy), batch (observations in its call), prev_total_ms (last reply's)

A message whose "observations" is a list of such observations is answered with actions float32 [B, T, A]; openpi has no
such messages. At the path /vla-eval it speaks to clients of vla-eval, see `vla_eval/`. What cannot be answered gets a
text, and the connection is closed: with code 1007 and the reason if the message was wrong, with 1011 if the policy
failed, whose reason is in the log alone. `GET /healthz` asks the policy a question and gives 200, or 503 if it has no
answer. There is no encryption, and without api_key no authentication.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import itertools
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from jobs.common.policy.committed import Committed
from jobs.common.policy.contract import described_contract
from jobs.common.policy.robot_interface import Policy, RobotObservation
from jobs.serving.batcher import Answer, Batcher, Query
from jobs.serving.health import HealthCheck, own_question
from jobs.serving.intake import Intake, address_of, counted
from jobs.serving.keys import GROUP, MessageKeys, noise_seed, read_committed, read_observation, read_seed
from jobs.serving.limits import Ends, InputLimits
from jobs.serving.log_lines import bounded, websockets_logger
from jobs.serving.metrics.meter import Meter
from jobs.serving.metrics.prometheus import Refusal, ServingMetrics
from jobs.serving.settings import ServerSettings
from jobs.serving.vla_eval.replies import LONGEST_ERROR, VlaEvalReplies
from jobs.serving.vla_eval.session import PATH, VlaEvalSession
from jobs.serving.wire import WIRE_VERSION, WireError, pack, unpack
from pipeline.errors import RunError
from pipeline.format.text.printable import printable

FAILED = "the policy failed on this query; the server's log has the reason"

_CLOSING_S = 5.0
_OPENING_S = 10.0
_STRANGERS = 64
"""Connections beyond twice the clients' places, for health checks and those that are being opened or refused."""
_QUEUED_FRAMES = 0
"""Frames of a client that are read ahead of their turn, besides one; each may be as long as the longest message."""


@dataclass
class _Client:
    """A client.

    busy     one of its queries is being answered
    leaving  another one gets its place
    since    its last answer, or its beginning; seconds of the monotonic clock
    numbers  of its observations
    last_ms  that its last reply took, from the message's arrival
    """

    connection: ServerConnection
    name: str
    busy: bool = False
    leaving: bool = False
    since: float = field(default_factory=time.monotonic)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    last_ms: float | None = None


class PolicyServer:
    """Serves a policy until it is stopped.

    Args:
        policy: called from one thread, for several clients at a time.
        identity: what the metadata has about the policy besides its interface, such as checkpoint and step.
        log: called with lines for people.
        states, actions: smallest and largest ones of training, float32 [S] and [A] each; None: unknown.

    Raises:
        SettingsError: `keys` does not fit the policy.
    """

    def __init__(
        self,
        policy: Policy,
        settings: ServerSettings,
        identity: Mapping[str, Any],
        log: Callable[[str], None] = print,
        states: Ends | None = None,
        actions: Ends | None = None,
    ) -> None:
        self._policy, self._settings, self._log = policy, settings, bounded(log)
        self._keys = MessageKeys.of(policy.interface, settings.keys or {})
        self.limits = InputLimits.around(settings.instruction_characters, settings.state_margin, states, actions)
        self.metadata = self._describe(identity)
        self._hello = pack(self.metadata)
        self._metrics = ServingMetrics()
        self._meter = Meter(self._metrics)
        self.metrics_port: int | None = None
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batcher: Batcher
        self._health: HealthCheck
        room = settings.held_mb * 2**20, 2 * settings.connections + _STRANGERS
        self._intake = Intake(*room, self._log, self._meter.refused)
        self._stopping = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        """Connections that are being closed; the loop itself keeps no task alive."""

    async def run(self, started: Callable[[int], None] | None = None) -> None:
        """Serve until `stop`, then answer the running queries and close the connections; `started` is called with the
        port as soon as clients may connect. Raises OSError if the address cannot be listened on, SettingsError if
        `metrics_port` cannot."""
        self._loop, settings = asyncio.get_running_loop(), self._settings
        self._batcher = Batcher(self._policy, settings.max_batch, self._metrics.called)
        question = own_question(self._policy.interface, self.limits)
        self._health = HealthCheck(self._batcher, question, settings.health_s, self._log)
        gauges = {
            "clients": lambda: len(self._clients),
            "connections": lambda: self._intake.open,
            "waiting": lambda: self._batcher.waiting,
            "held_bytes": lambda: self._intake.total,
        }
        try:
            with self._metrics.offered(settings.metrics_host, settings.metrics_port, gauges) as self.metrics_port:
                await self._listen(started)
        finally:
            self._batcher.close(0.0)

    async def _listen(self, started: Callable[[int], None] | None) -> None:
        settings = self._settings
        async with serve(
            self._handle,
            settings.host,
            settings.port,
            origins=[None],  # only web pages in a browser have one
            compression=None,  # compressing images takes longer than it saves
            max_size=settings.message_mb * 2**20,
            max_queue=_QUEUED_FRAMES,
            ping_interval=settings.ping_s,
            ping_timeout=settings.silent_s,
            open_timeout=_OPENING_S + settings.health_s,
            close_timeout=_CLOSING_S,
            process_request=self._admit,
            create_connection=counted(self._intake),
            logger=websockets_logger(self._log),
        ) as server:
            if started is not None:
                started(next(iter(server.sockets)).getsockname()[1])
            report = asyncio.create_task(self._report())
            await self._stopping.wait()
            report.cancel()
            server.close(close_connections=False)
            await self._drain()

    def stop(self) -> None:
        """Make `run` end. May be called from any thread."""
        if self._loop is None:
            self._stopping.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _describe(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        interface = json.loads(json.dumps(asdict(self._policy.interface)))
        return {
            "server": "vlajepa",
            "wire": WIRE_VERSION,
            **identity,
            "interface": interface,
            "contract": described_contract(self._policy.interface),
            "keys": self._keys.describe(),
            "limits": {
                "max_batch": self._settings.max_batch,
                "message_bytes": self._settings.message_mb * 2**20,
                **self.limits.describe(),
            },
        }

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before a connection becomes a WebSocket: health, key and room."""
        if request.path == "/healthz":
            problem = await self._health.problem()
            status = http.HTTPStatus.OK if problem is None else http.HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, f"{problem or 'OK'}\n")
        key = self._settings.api_key
        given = ",".join(request.headers.get_all("Authorization"))
        if key is not None and not hmac.compare_digest(
            given.encode(errors="surrogateescape"), f"Api-Key {key}".encode()
        ):
            self._meter.refused(Refusal.KEY)
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "send the header Authorization: Api-Key …\n")
        if not self._has_room():
            self._meter.refused(Refusal.FULL)
            text = f"{self._settings.connections} clients are connected, which is the limit (connections=)\n"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    def _has_room(self) -> bool:
        """Whether one more client may come. If there are too many, the one that was idle longest has to leave."""
        staying = [client for client in self._clients.values() if not client.leaving]
        if len(staying) < self._settings.connections:
            return True
        idle = [client for client in staying if not client.busy]
        oldest = min(idle, key=lambda client: client.since, default=None)
        if oldest is None or time.monotonic() - oldest.since < self._settings.idle_s:
            return False
        oldest.leaving = True
        self._meter.refused(Refusal.IDLE)
        self._log(f"{oldest.name} was idle for {time.monotonic() - oldest.since:.0f} s and gives its place to another")
        closing = asyncio.create_task(oldest.connection.close(CloseCode.TRY_AGAIN_LATER, "idle; the place was needed"))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return True

    async def _handle(self, connection: ServerConnection) -> None:
        """One client, from its connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        client = _Client(connection, address_of(connection))
        self._clients[task] = client
        self._log(f"{client.name} connected, {len(self._clients)} clients")
        of_vla_eval = connection.request is not None and connection.request.path == PATH
        answer = partial(self._reply, client)
        if of_vla_eval:
            answer = partial(self._reply_to_vla_eval, client, self._vla_eval_replies(client))
        try:
            if not of_vla_eval:
                await connection.send(self._hello)
            while not self._stopping.is_set():
                message = await connection.recv()
                self._intake.complete(connection, len(message))
                client.busy = True
                if not await answer(message):
                    return
                client.busy, client.since = False, time.monotonic()
                self._intake.answered(connection, len(message))
            await connection.close(CloseCode.GOING_AWAY, "the server stops")
        except ConnectionClosed:
            pass  # the client has gone
        finally:
            del self._clients[task]
            code = connection.close_code
            self._log(f"{client.name} gone (code {code}), {len(self._clients)} clients")

    async def _reply(self, client: _Client, message: str | bytes) -> bool:
        """Answer a message. Returns whether the connection stays open."""
        arrived = time.monotonic()
        try:
            grouped, queries = self._read(client, message)
        except ValueError as error:
            await self._refuse(client, CloseCode.INVALID_DATA, str(error))
            return False
        try:
            answers = await self._computed(client, queries)
        except Exception as error:  # whatever the policy raises: it must not end the server
            self._log("".join(traceback.format_exception(error)))
            await self._refuse(client, CloseCode.INTERNAL_ERROR, FAILED)
            return False
        if answers is None:
            return False
        await client.connection.send(pack(_reply_of(answers, grouped, client.last_ms)))
        seconds = time.monotonic() - arrived
        client.last_ms = 1e3 * seconds
        self._meter.answered(seconds, [answer.batch for answer in answers])
        return True

    def _vla_eval_replies(self, client: _Client) -> VlaEvalReplies:
        execute = self._settings.execute or self._policy.interface.chunk
        session = VlaEvalSession(self._policy.interface, self._keys, execute, self._settings.turned)

        async def ask(observation: RobotObservation, seed: int | None) -> NDArray[np.float32] | None:
            arrived = time.monotonic()
            try:
                answers = await self._computed(client, [self._seeded(client, observation, seed)])
            except Exception as error:  # as in `_reply`
                self._log("".join(traceback.format_exception(error)))
                raise RunError(FAILED) from error
            if answers is None:
                return None
            self._meter.answered(time.monotonic() - arrived, [answer.batch for answer in answers])
            return answers[0].actions

        return VlaEvalReplies(session, self.limits, ask, partial(self._intake.decoded, client.connection))

    async def _reply_to_vla_eval(self, client: _Client, replies: VlaEvalReplies, message: str | bytes) -> bool:
        try:
            reply = await replies.reply(message)
        except WireError as error:
            await self._refuse(client, CloseCode.INVALID_DATA, str(error))
            return False
        if reply.problem is not None:
            self._meter.refused(Refusal.POLICY if reply.problem == FAILED else Refusal.MESSAGE)
            self._log(f"{client.name} refused: {printable(reply.problem)}")
        if reply.data is not None:
            await client.connection.send(reply.data)
        return True

    def _read(self, client: _Client, message: str | bytes) -> tuple[bool, list[Query]]:
        """Whether a message is a group, and its queries, checked."""
        if isinstance(message, str):
            raise WireError("a message must be binary msgpack, got a text frame")
        content = unpack(message)
        group = content.get(GROUP)
        if not isinstance(group, list):
            return False, [self._query(client, content)]
        if not 1 <= len(group) <= self._settings.max_batch:
            raise WireError(
                f"{GROUP} may hold 1 to {self._settings.max_batch} observations (max_batch), got {len(group)}"
            )
        queries = []
        for index, entry in enumerate(group):
            try:
                if not isinstance(entry, dict):
                    raise WireError(f"an observation is a map, got a {type(entry).__name__}")
                queries.append(self._query(client, entry))
            except ValueError as error:
                raise WireError(f"{GROUP}[{index}]: {error}") from error
        return True, queries

    def _query(self, client: _Client, content: Mapping[str, Any]) -> Query:
        seed = read_seed(content)
        observation = read_observation(content, self._keys, self._policy.interface)
        self.limits.check(observation)
        committed = read_committed(content, self._policy.interface)
        self.limits.check_committed(committed)
        return self._seeded(client, observation, seed, committed)

    def _seeded(
        self, client: _Client, observation: RobotObservation, seed: int | None, committed: Committed | None = None
    ) -> Query:
        number = next(client.numbers)
        return Query(observation, noise_seed(self._settings.seed, number) if seed is None else seed, committed)

    async def _computed(self, client: _Client, queries: Sequence[Query]) -> list[Answer] | None:
        """The policy's answers; None if the client has gone, whose waiting queries are then dropped."""
        futures = self._batcher.submit(queries)
        answers = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        gone = asyncio.ensure_future(client.connection.wait_closed())
        try:
            await asyncio.wait((answers, gone), return_when=asyncio.FIRST_COMPLETED)
            return [future.result() for future in futures] if answers.done() else None
        finally:
            gone.cancel()
            for future in futures:  # not `answers`: asyncio would cancel later, when the batcher may have begun
                future.cancel()

    async def _refuse(self, client: _Client, code: CloseCode, text: str) -> None:
        """Send a client the reason and disconnect it."""
        self._meter.refused(Refusal.MESSAGE if code is CloseCode.INVALID_DATA else Refusal.POLICY)
        text = text[:LONGEST_ERROR]
        self._log(f"{client.name} refused: {printable(text)}")  # names of keys are the client's own
        await client.connection.send(text.encode(errors="replace"), text=True)
        await client.connection.close(code, "see the text before")

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._settings.report_s)
            line = self._meter.line(len(self._clients))
            if line is not None:
                self._log(line)

    async def _drain(self) -> None:
        """Disconnect idle clients at once, the others when they have their answer or grace_s is over."""
        tasks = dict(self._clients)
        idle = [client.connection for client in tasks.values() if not client.busy]
        for closing in asyncio.as_completed([c.close(CloseCode.GOING_AWAY, "the server stops") for c in idle]):
            await closing
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.grace_s)
        for task in self._clients:
            task.cancel()
        if self._clients:
            self._log(f"{len(self._clients)} queries were not answered within grace_s={self._settings.grace_s:g}")


def _reply_of(answers: Sequence[Answer], grouped: bool, last_ms: float | None) -> dict[str, Any]:
    timing: dict[str, float] = {
        "infer_ms": max(answer.infer_ms for answer in answers),
        "wait_ms": max(answer.wait_ms for answer in answers),
        "batch": max(answer.batch for answer in answers),
    }
    if last_ms is not None:
        timing["prev_total_ms"] = last_ms
    actions = np.stack([answer.actions for answer in answers])
    return {"actions": actions if grouped else actions[0], "server_timing": timing}
