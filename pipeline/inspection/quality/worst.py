"""Pictures and curves of the worst flags, read again from the raw data.

N frames of an episode.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import EpisodeError
from pipeline.format.episode import Episode
from pipeline.inspection.flag import Flag
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.episode.time_limit import SAMPLE_LIMIT_S, within

WORST, ALIKE = 10, 3
"""Flags that are shown with pictures, and how many of them may come from one check."""

AROUND = (-2, -1, 0, 1, 2)
"""Frames that are shown around the frame of a flag."""

WIDTH, QUALITY = 160, 80
"""Of a picture on the page, pixels; JPEG quality."""

POINTS = 200
"""Of a curve."""


@dataclass(frozen=True)
class Illustration:
    """A flag with pictures. frames: (number, JPEG) of `view`; curve: (frame, value) of the flag's channel."""

    flag: Flag
    view: str
    frames: tuple[tuple[int, bytes], ...] = ()
    curve: tuple[tuple[int, float], ...] = ()


def worst_of(flags: Iterable[Flag]) -> list[Flag]:
    """Of flags sorted by how bad they are: those to show, each of an episode, no check more than ALIKE times."""
    chosen: list[Flag] = []
    uses: Counter[str] = Counter()
    for flag in flags:
        if flag.episode and not flag.note and uses[flag.check] < ALIKE and len(chosen) < WORST:
            uses[flag.check] += 1
            chosen.append(flag)
    return chosen


def illustrate(
    source: Source,
    refs: Mapping[str, EpisodeRef],
    flags: Sequence[Flag],
    views: Sequence[str],
    names: Mapping[str, tuple[str, ...]],
) -> list[Illustration]:
    """Read what the worst flags are about.

    Args:
        refs: by the id of the episode.
        names: of the channels of "state" and "action", as flags name them.
    """
    found = []
    for flag in worst_of(flags):
        view = flag.where if flag.where in views else next(iter(views), "")
        shown = Illustration(flag, view)
        if flag.episode in refs and view:
            with suppress(EpisodeError):
                shown = within(SAMPLE_LIMIT_S, flag.episode, partial(_read, source, refs[flag.episode], shown, names))
        found.append(shown)
    return found


def _read(source: Source, ref: EpisodeRef, shown: Illustration, names: Mapping[str, tuple[str, ...]]) -> Illustration:
    with source.open(ref) as episode:
        last, at = episode.num_frames - 1, shown.flag.frame
        numbers = [0, last // 2, last] if at is None else [at + offset for offset in AROUND]
        numbers = sorted({min(max(number, 0), last) for number in numbers})
        frames = tuple((number, _jpeg(episode.frames(shown.view, [number])[0])) for number in numbers)
        return replace(shown, frames=frames, curve=_curve(episode, shown.flag.where, names))


def _curve(episode: Episode, where: str, names: Mapping[str, tuple[str, ...]]) -> tuple[tuple[int, float], ...]:
    """The values of a channel over the episode, thinned out to POINTS; () where `where` is no channel."""
    kind, _, name = where.partition(" ")
    if name not in names.get(kind, ()):
        return ()
    channel = names[kind].index(name)
    rows = episode.actions(0, episode.num_frames) if kind == "action" else None
    if rows is None:
        rows = np.array([row for n in range(episode.num_frames) if (row := episode.state(n)) is not None])
    if kind == "action" and rows.shape[1:] != (len(names[kind]),):
        return ()
    chosen = np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int)).tolist()
    return tuple((number, float(rows[number, channel])) for number in chosen)


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(frame))
    size = (WIDTH, max(1, round(WIDTH * image.height / image.width)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
