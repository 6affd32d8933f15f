"""What a client of vla-eval is answered, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.keys import read_seed
from jobs.serving.limits import InputLimits
from jobs.serving.vla_eval.messages import EncodedImage, MessageType, pack_message, read_message
from jobs.serving.vla_eval.session import VlaEvalSession
from pipeline.errors import RunError

LONGEST_ERROR = 2000

Ask = Callable[[RobotObservation, int | None], Awaitable[NDArray[np.float32] | None]]
"""Observation and seed -> the policy's chunk float32 [T, A]; None if the client has gone. Raises RunError, with a text
for the client, if the policy fails."""


@dataclass(frozen=True)
class Reply:
    """The bytes of a message, none if there is no answer; and what was wrong, for the log."""

    data: bytes | None
    problem: str | None = None


class VlaEvalReplies:
    """Of one client.

    Args:
        ask: the policy.
        hold: called with the bytes that images take once they are decoded, and with as many below 0 afterwards.
    """

    def __init__(self, session: VlaEvalSession, limits: InputLimits, ask: Ask, hold: Callable[[int], None]) -> None:
        self._session, self._limits, self._ask, self._hold = session, limits, ask, hold

    async def reply(self, data: str | bytes) -> Reply:
        """The answer to a message; an observation that is wrong, or that the policy fails on, gets an error, and the
        connection stays. Raises WireError for what is no message of vla-eval."""
        asked = read_message(data)
        try:
            answer = await self._answer(asked.type, asked.payload)
        except (ValueError, RunError) as error:
            self._session.begin()  # the actions left were of a robot that was seen
            problem = str(error)[:LONGEST_ERROR]
            return Reply(pack_message(MessageType.ERROR, {"error": problem}, asked.seq), problem)
        return Reply(None if answer is None else pack_message(*answer, asked.seq))

    async def _answer(
        self, kind: MessageType, payload: Mapping[str, Any]
    ) -> tuple[MessageType, Mapping[str, Any]] | None:
        if kind is MessageType.HELLO:
            return MessageType.HELLO, self._session.hello(payload)
        if kind is not MessageType.OBSERVATION:
            self._session.begin()
            return None
        if not await self._observe(payload):
            return None
        return MessageType.ACTION, {"actions": self._session.action()}

    async def _observe(self, payload: Mapping[str, Any]) -> bool:
        """Check an observation, whether or not an action is left, and ask the policy where none is. False if the client
        has gone."""
        seed, chosen = read_seed(payload), self._session.chosen(payload)
        decoded = sum(value.size for value in chosen.values() if isinstance(value, EncodedImage))
        self._hold(decoded)
        try:
            observation = await asyncio.to_thread(self._session.observation, chosen)
            self._limits.check(observation)
            if not self._session.due(observation.instruction):
                return True
            chunk = await self._ask(observation, seed)
        finally:
            self._hold(-decoded)
        if chunk is None:
            return False
        self._session.add(chunk, observation.instruction)
        return True
