"""Whether a policy answers: asked with a question of the server's own, so that no client decides it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
from jobs.serving.batcher import Batcher, Query
from jobs.serving.limits import InputLimits

_FRESH_S = 5.0
"""An answer counts for so long: whoever asks for the health often does not keep the policy busy."""

FAILED = "the policy fails; its log has the reason"


def own_question(interface: RobotInterface, limits: InputLimits) -> RobotObservation:
    """Black images and a state from the middle of what is allowed."""
    image = np.zeros((interface.image_size, interface.image_size, 3), np.uint8)
    return RobotObservation(dict.fromkeys(interface.views, image), "wait", limits.middle(interface.state))


class HealthCheck:
    """Asks the policy ahead of the clients' queries, one question at a time.

    Args:
        timeout_s: an answer that takes longer counts as none.
        log: called with the reason for people.
    """

    def __init__(
        self, batcher: Batcher, question: RobotObservation, timeout_s: float, log: Callable[[str], None]
    ) -> None:
        self._batcher, self._query = batcher, Query(question, 0)
        self._timeout_s, self._log = timeout_s, log
        self._asking: asyncio.Task[str | None] | None = None
        self._answered = 0.0

    async def problem(self) -> str | None:
        """Why the policy is not healthy, for anybody to read; None if it is."""
        old = self._asking is not None and self._asking.done() and time.monotonic() - self._answered > _FRESH_S
        if self._asking is None or old:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> str | None:
        try:
            (answer,) = self._batcher.submit([self._query], first=True)
            await asyncio.wait_for(asyncio.wrap_future(answer), self._timeout_s)
        except TimeoutError:
            return f"the policy has not answered within {self._timeout_s:g} s"
        except Exception as error:  # whatever the policy raises
            self._log(f"health check: {type(error).__name__}: {error}")
            return FAILED
        finally:
            self._answered = time.monotonic()
        return None
