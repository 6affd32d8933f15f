"""Frames of the raw data for the report: strips around a sample, and two videos side by side."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.rederive.duplicates import Match
from pipeline.audit.report.evidence import DuplicatePair, Sheet, Still

_PAST = 3
_SHOWN_PAIRS = 6
_LONG_SIDE = 160


def with_raw_frames(sheets: Sequence[Sheet], build: ClaimedBuild, raw: RawSource) -> list[Sheet]:
    """Fill in past, current and future; a sheet whose raw data cannot be read stays as it is."""
    step = build.window.interval
    result = []
    for sheet in sheets:
        past = [sheet.now - i * step for i in range(_PAST, 0, -1) if sheet.now >= i * step]
        future = [sheet.now + i * step for i in range(1, 2 * build.window.steps + 1)]
        stills = _stills(raw, sheet.sample.rpartition("-")[0], sheet.view, {*past, sheet.now, *future})
        result.append(
            replace(
                sheet,
                past=tuple(stills[i] for i in past if i in stills),
                current=stills.get(sheet.now),
                future=tuple(stills[i] for i in future if i in stills),
            )
        )
    return result


def duplicate_pair(match: Match, raw: RawSource) -> DuplicatePair:
    """A match with some of its frames."""
    spread = np.unique(np.linspace(0, len(match.pairs) - 1, min(_SHOWN_PAIRS, len(match.pairs))).round().astype(int))
    pairs = [match.pairs[i] for i in spread]
    own = _stills(raw, match.episode, match.view, {a for a, _ in pairs})
    other = _stills(raw, match.other, match.view, {b for _, b in pairs})
    shown = tuple((own[a], other[b]) for a, b in pairs if a in own and b in other)
    return DuplicatePair(match, shown)


def _stills(raw: RawSource, episode: str, view: str, wanted: Collection[int]) -> dict[int, Still]:
    """Some frames of one view by number; those that cannot be read are left out."""
    found: dict[int, Still] = {}
    try:
        for index, (_, frame) in enumerate(raw.open(episode).frames(view)):
            if index in wanted:
                found[index] = Still(index, _small_jpeg(frame))
            if index >= max(wanted, default=0):
                break
    except RawError:
        return found
    return found


def _small_jpeg(frame: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_LONG_SIDE, _LONG_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
