"""Pictures that go with a verdict: what a person wants to look at. The report shows them; the verdict does without."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Still:
    """A frame of the raw data as a small JPEG."""

    frame: int
    jpeg: bytes


@dataclass(frozen=True)
class Sheet:
    """One view of one sample: the stored input between the frames that came before and after it.

    stored   the JPEG of the inputs shard; b"" when it is missing
    past, current, future  from the raw data, by rising frame; empty below level "source"
    """

    sample: str
    view: str
    now: int
    stored: bytes
    past: tuple[Still, ...] = ()
    current: Still | None = None
    future: tuple[Still, ...] = ()


@dataclass(frozen=True)
class DuplicatePair:
    """Two episodes of different splits that show the same. `pairs` holds frames of `episode` beside those of `other`.

    share     of the shorter episode's frames that have a counterpart
    relation  "copy", "time-reversed", "mirrored" or "mirrored and time-reversed"
    """

    episode: str
    split: str
    other: str
    other_split: str
    view: str
    relation: str
    share: float
    pairs: tuple[tuple[Still, Still], ...] = ()


@dataclass
class Evidence:
    """Collected while an audit runs."""

    sheets: list[Sheet] = field(default_factory=list)
    duplicates: list[DuplicatePair] = field(default_factory=list)
