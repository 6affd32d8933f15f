"""Images that illustrate a verdict. The report shows them; the verdict does not hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.audit.duplicates.search import Match


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
    """A video of a held-out split and its copy in train, with some of their matching frames side by side."""

    match: Match
    frames: tuple[tuple[Still, Still], ...] = ()


@dataclass
class Evidence:
    """Collected while an audit runs."""

    sheets: list[Sheet] = field(default_factory=list)
    duplicates: list[DuplicatePair] = field(default_factory=list)
