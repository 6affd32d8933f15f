"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One thing that is not as it should be.

    check      what was looked for, as in "frozen-camera": the reason in a filter of episodes
    detail     what was found, with the bound
    score      how many times the bound; the worst come first
    where      the camera, the channel as in "state 3", or ""
    episode    its id; "" when the whole set is meant
    frame      where in the episode to look; None where no frame is worth more than others
    leave_out  the episode is proposed for the filter
    note       worth knowing, but nothing that must be wrong
    """

    check: str
    detail: str
    score: float
    where: str = ""
    episode: str = ""
    frame: int | None = None
    leave_out: bool = False
    note: bool = False
