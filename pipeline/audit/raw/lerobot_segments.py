"""LeRobot v3.0: episodes whose place in a shared video is ambiguous, by the metadata alone."""

from __future__ import annotations

from collections import defaultdict

from pipeline.audit.raw.lerobot_layout import Layout

_ROUNDING = 0.5
"""Frames by which segments may overlap, and clocks may differ from the count of frames."""


def ambiguous_episodes(layout: Layout, fps: float) -> dict[int, str]:
    """Episode number -> what is wrong with its segment of a video: it reaches into the next, or its time is not that of
    the frames before it. Empty for files of one episode each."""
    found: dict[int, str] = {}
    for camera, kind in layout.cameras.items() if layout.shared else ():
        files: dict[tuple[object, object], list[tuple[float, int, int]]] = defaultdict(list)
        for number, row in layout.rows.items():
            chunk, file, begin = (
                row.get(f"videos/{camera}/{name}") for name in ("chunk_index", "file_index", "from_timestamp")
            )
            if kind == "video" and isinstance(begin, float):
                files[chunk, file].append((begin, number, layout.length(number) or 0))
        for segments in files.values():
            before, end, last = 0, -1.0, -1
            for begin, number, length in sorted(segments):
                if begin * fps < end - _ROUNDING:
                    found[number] = f"{camera}: its frames from {begin} s on are another episode's too"
                    found.setdefault(last, f"{camera}: it reaches into the episode that begins at {begin} s")
                if abs(begin * fps - before) > _ROUNDING:
                    found.setdefault(number, f"{camera}: {before} frames come before it, its time is {begin} s")
                before, end, last = before + length, begin * fps + length, number
    return found
