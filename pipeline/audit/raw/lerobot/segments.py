"""LeRobot v3.0: episodes that share frames or rows with others, or whose place is ambiguous, by the metadata alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.audit.raw.lerobot.layout import Layout

_ROUNDING = 0.5
"""Frames by which segments may overlap, and clocks may differ from the count of frames."""


@dataclass
class Conflicts:
    """What contradicts itself in the metadata.

    frames  camera -> episode number -> with whom it shares frames of a video
    rows    episode number -> with whom it shares rows of a table
    clocks  episode number -> why its time may not be that of the frames before it, which is no error by itself
    """

    frames: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[int, str] = field(default_factory=dict)
    clocks: dict[int, str] = field(default_factory=dict)

    def of(self, number: int) -> str | None:
        """What is wrong with an entry; None where nothing is seen."""
        shared = [problems[number] for problems in self.frames.values() if number in problems]
        return next(iter([*shared, *(found[number] for found in (self.rows, self.clocks) if number in found)]), None)


def find_conflicts(layout: Layout, fps: float) -> Conflicts:
    """Nothing for files of one episode each."""
    found = Conflicts()
    if not layout.shared:
        return found
    for camera in (camera for camera, kind in layout.cameras.items() if kind == "video"):
        files: dict[tuple[object, object], list[tuple[float, int, int]]] = defaultdict(list)
        for number, row in layout.rows.items():
            begin = layout.begin(number, camera)
            chunk, file = (row.get(f"videos/{camera}/{name}") for name in ("chunk_index", "file_index"))
            if begin is not None:
                files[chunk, file].append((begin, number, layout.length(number) or 0))
        for segments in files.values():
            _compare(camera, segments, fps, found)
    _find_shared_rows(layout, found.rows)
    return found


def _compare(camera: str, segments: list[tuple[float, int, int]], fps: float, found: Conflicts) -> None:
    before, end, last = 0, -1.0, -1
    for begin, number, length in sorted(segments):
        if begin * fps < end - _ROUNDING:
            found.frames[camera][number] = f"{camera}: its frames from {begin} s on are another episode's too"
            found.frames[camera].setdefault(last, f"{camera}: it reaches into the episode that begins at {begin} s")
        if abs(begin * fps - before) > _ROUNDING:
            found.clocks.setdefault(number, f"{camera}: {before} frames come before it, its time is {begin} s")
        before, end, last = before + length, begin * fps + length, number


def _find_shared_rows(layout: Layout, found: dict[int, str]) -> None:
    spans: Mapping[int, tuple[int, int] | None] = {number: layout.listed(number).span for number in layout.rows}
    end, owner = 0, -1
    for first, last, number in sorted((*span, number) for number, span in spans.items() if span):
        if owner >= 0 and first < end:
            found[owner] = found[number] = f"rows from {first} on are those of episodes {owner} and {number}"
        if last > end:
            end, owner = last, number
