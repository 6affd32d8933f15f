"""The frames of a LeRobot episode in a video, with what metadata, table and video say about them compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from pipeline.errors import EpisodeError
from pipeline.sources.lerobot.layout import Segment
from pipeline.sources.lerobot.table import wrong_size
from pipeline.sources.video.decode import Video
from pipeline.sources.video.film import FilmPart, Span, open_part
from pipeline.sources.video.frame_readers import FrameReader, SegmentReader

SHARE = 0.1
"""Of a frame's duration: how far the first frame may be from `from_timestamp`, and the end from `to_timestamp`."""

LEAST_S = 1e-3
"""The same in seconds where frames are short: containers count in milliseconds."""

ROUNDING_S = 1e-6
"""What times are rounded to: a frame at the very limit is too far."""

RATE_SHARE = 0.1
"""How far both the usual and the mean step between frames of a video may be from the one by the dataset's rate. Where
frames were dropped, the usual one is right; where a clock trembles, the mean."""


def open_video(root: str, place: Segment, rows: int, fps: float | None) -> FrameReader:
    """The frames of an episode.

    Args:
        rows: frames of the episode by its table.
        fps: frames a second by the metadata; None if it does not say.

    Raises:
        EpisodeError: "missing-file", "undecodable", "bad-clock" or "length-mismatch".
    """
    path = os.path.join(root, place.path)
    reader = Video(path) if place.from_s is None else _segment(path, place, rows, fps)
    with ExitStack() as opened:
        opened.callback(reader.close)
        _check_rate(reader, place, fps)
        opened.pop_all()
    return reader


def _check_rate(reader: FrameReader, place: Segment, fps: float | None) -> None:
    steps = np.diff(reader.timestamps(range(reader.num_frames)))
    if fps is not None and len(steps):
        usual, mean = float(np.median(steps)), float(steps.mean())
        if min(abs(usual * fps - 1), abs(mean * fps - 1)) > RATE_SHARE:
            detail = f"frames are {usual:.4g} s apart by the video, {1 / fps:.4g} s by fps={fps:g} of meta/info.json"
            raise EpisodeError("bad-clock", f"{place.path}: {detail}; one of them is wrong")


def check_size(video: FrameReader, declared: Sequence[int], where: str) -> None:
    """Raise EpisodeError("bad-table") if the frames of a video have another height and width than declared.

    The size of a video that is turned for display may be that before or after the turn.
    """
    found = video.frames([0]).shape[1:3]
    turned = tuple(reversed(found)) if video.is_turned else found
    if tuple(declared) not in (found, turned):
        raise wrong_size(found, declared, where)


def _segment(path: str, place: Segment, rows: int, fps: float | None) -> SegmentReader:
    """The frames of an episode in a video that it shares with others."""
    assert place.from_s is not None
    assert fps is not None, "a source of shared videos declares a rate"
    tolerance = max(SHARE / fps, LEAST_S) - ROUNDING_S
    part = open_part(path, Span(place.from_s, place.to_s, rows, tolerance))
    with ExitStack() as opened:
        opened.callback(part.reader.close)
        _check_place(part, place, rows, tolerance)
        found = SegmentReader(part.reader, part.start, rows, place.path)
        opened.pop_all()
    return found


def _check_place(part: FilmPart, place: Segment, rows: int, tolerance: float) -> None:
    """Raise EpisodeError unless metadata and film agree on where the episode is.

    If the video holds exactly the frames of the listed episodes, their lengths must give the same first frame.
    """
    assert place.from_s is not None
    seconds, start = part.seconds, part.start
    gap = float(abs(seconds[start] - place.from_s))
    if gap > tolerance:
        detail = f"no frame is shown at from_timestamp={place.from_s} s, the nearest is {gap:.3g} s away"
        raise EpisodeError("bad-clock", f"{place.path}: {detail}")
    if place.to_s is not None:
        end = int(np.searchsorted(seconds, place.to_s - tolerance))
        if end - start != rows:
            detail = f"{end - start} frames are shown from {place.from_s} s to to_timestamp={place.to_s} s, the episode"
            raise EpisodeError("bad-clock", f"{place.path}: {detail} has {rows}")
    first = part.before + start
    if part.total == place.total and first != place.start:
        other = f"by the lengths of the episodes before it at frame {place.start}"
        detail = f"by from_timestamp={place.from_s} s the episode begins at frame {first}, {other}"
        raise EpisodeError("bad-clock", f"{place.path}: {detail}")
    if start + rows > len(seconds):
        needed = f"the episode needs {first}..{first + rows - 1} of them"
        raise EpisodeError("length-mismatch", f"{place.path} has {part.total} frames; {needed}")
