"""Channels of state and action by the names that the dataset's manifest gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CHANNEL = re.compile(r"(?<![\w.])(state|action) channel (\d+)\b")


@dataclass(frozen=True)
class ChannelNames:
    """One name for each channel; none where no manifest tells."""

    state: tuple[str, ...] = ()
    action: tuple[str, ...] = ()

    def named(self, text: str) -> str:
        """The text with "state joint_3" in place of "state channel 3"."""
        return _CHANNEL.sub(self._name, text)

    def _name(self, found: re.Match[str]) -> str:
        names = self.state if found[1] == "state" else self.action
        return f"{found[1]} {names[int(found[2])]}" if int(found[2]) < len(names) else found[0]
