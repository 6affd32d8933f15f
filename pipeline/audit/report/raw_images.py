"""Frames of the raw data for the report: strips around a sample, and two videos side by side."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.duplicates.films import evenly_spread
from pipeline.audit.duplicates.search import Match
from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.report.evidence import DuplicatePair, Sheet, Still

_PAST = 3
_SHOWN_PAIRS = 6
_LONG_SIDE = 160


def with_raw_frames(sheets: Sequence[Sheet], build: ClaimedBuild, raw: RawSource) -> list[Sheet]:
    """Fill in past, current and future; a sheet whose raw data cannot be read stays as it is."""
    step, result = build.window.interval, []
    for sheet in sheets:
        numbers = range(sheet.now - _PAST * step, sheet.now + 2 * build.window.steps * step + 1, step)
        stills = _stills(raw, sheet.sample.rpartition("-")[0], sheet.view, numbers)
        past = tuple(still for number, still in stills.items() if number < sheet.now)
        future = tuple(still for number, still in stills.items() if number > sheet.now)
        result.append(replace(sheet, past=past, current=stills.get(sheet.now), future=future))
    return result


def duplicate_pair(match: Match, raw: RawSource) -> DuplicatePair:
    """A match with some of its frames."""
    pairs = [match.pairs[i] for i in evenly_spread(len(match.pairs), _SHOWN_PAIRS)]
    own = _stills(raw, match.episode, match.view, {a for a, _ in pairs})
    other = _stills(raw, match.other, match.other_view, {b for _, b in pairs})
    shown = tuple((own[a], other[b]) for a, b in pairs if a in own and b in other)
    return DuplicatePair(match, shown)


def _stills(raw: RawSource, episode: str, view: str, wanted: Collection[int]) -> dict[int, Still]:
    """Some frames of one view by number, rising; those that cannot be read are left out."""
    found: dict[int, Still] = {}
    with contextlib.suppress(RawError):
        for index, (_, frame) in zip(range(max(wanted, default=0) + 1), raw.open(episode).frames(view), strict=False):
            if index in wanted:
                found[index] = Still(index, _small_jpeg(frame))
    return found


def _small_jpeg(frame: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_LONG_SIDE, _LONG_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
