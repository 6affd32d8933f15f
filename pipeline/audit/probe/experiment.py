"""One clip probed: each later frame replaced alone, then all of them at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.probe.encoding import Encoding, read_encoding, relative_change
from pipeline.audit.rederive.perturbed_episode import black, noise
from pipeline.errors import RunError
from pipeline.format.text.printable import reason

Frames = NDArray[np.uint8]
"""uint8 [F, H, W, 3], RGB."""

ProbedFunction = Callable[[Frames, int], Any]
"""(frames, now) -> (context, targets); see `read_encoding`. It may use frames after `now` for targets alone."""

REPEATS = 2
"""Calls with the same frames, which show what the function changes by itself."""


@dataclass(frozen=True)
class ProbeClip:
    """A clip, its present frame, and what a cache holds of it (None without a cache)."""

    name: str
    frames: Frames
    now: int
    stored: Encoding | None = None


@dataclass(frozen=True)
class Change:
    """By how much the outputs moved when some frames were replaced.

    offset   of the one frame that was, from `now`; None where it was several
    changes  relative change of each output
    """

    what: str
    offset: int | None
    changes: dict[str, float]


@dataclass(frozen=True)
class ClipResult:
    """One clip.

    repeated  relative change of each output between calls with the same frames
    later     frames after `now` replaced
    control   frame `now` and all after it replaced: everything must move
    stored    relative difference of a cache from what the function makes; empty without a cache
    made      what the function made of the clip as it is
    """

    clip: str
    now: int
    context: tuple[str, ...]
    repeated: dict[str, float]
    later: tuple[Change, ...]
    control: dict[str, float]
    stored: dict[str, float]
    made: Encoding


def probe_clip(function: ProbedFunction, clip: ProbeClip, stranger: Frames, horizon: int) -> ClipResult:
    """Run all experiments on one clip.

    Args:
        stranger: frames of another clip of the same height and width, uint8 [F', H, W, 3].
        horizon: later frames that are replaced one at a time.

    Raises:
        RunError: the function failed, or what it returned is no encoding.
    """
    base = call_function(function, clip, clip.frames)
    repeats = [call_function(function, clip, clip.frames) for _ in range(REPEATS)]
    repeated = {name: max(changes_of(again, base)[name] for again in repeats) for name in base.outputs}
    later = tuple(
        Change(what, offset, changes_of(call_function(function, clip, frames), base))
        for what, offset, frames in _replaced(clip, stranger, horizon)
    )
    control = changes_of(
        call_function(function, clip, with_noise(clip.frames, range(clip.now, len(clip.frames)))), base
    )
    stored = {} if clip.stored is None else changes_of(clip.stored, base, as_stored=True)
    return ClipResult(clip.name, clip.now, tuple(base.context), repeated, later, control, stored, base)


def _replaced(clip: ProbeClip, stranger: Frames, horizon: int) -> Iterator[tuple[str, int | None, Frames]]:
    """What is replaced, the offset of a single frame, and the frames."""
    frames, first = clip.frames, clip.now + 1
    for index in range(first, min(len(frames), first + horizon)):
        yield f"now+{index - clip.now}", index - clip.now, with_noise(frames, [index])
    later = range(first, len(frames))
    if len(later) > horizon:
        yield f"all after now+{horizon}", None, with_noise(frames, later[horizon:])
    yield "all later: noise", None, with_noise(frames, later)
    yield "all later: black", None, _with(frames, later, black)
    yield "all later: another clip", None, _with(frames, later, lambda _v, i, _f: stranger[i % len(stranger)])
    yield "one frame more", None, np.concatenate([frames, with_noise(frames[-1:], [0])])


def with_noise(frames: Frames, indices: Sequence[int]) -> Frames:
    """A copy in which these frames are noise."""
    return _with(frames, indices, noise)


def _with(frames: Frames, indices: Sequence[int], replace: Callable[[str, int, Frames], Frames]) -> Frames:
    copy = frames.copy()
    for index in indices:
        copy[index] = replace("", index, copy[index])
    return copy


def call_function(function: ProbedFunction, clip: ProbeClip, frames: Frames) -> Encoding:
    """What the function makes of these frames in place of the clip's. Raises RunError if it fails, or it is no
    encoding."""
    where = f"{clip.name}, now={clip.now}"
    try:
        value = function(frames.copy(), clip.now)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise RunError(f"the probed function failed on {where} at {place}: {reason(error)}") from error
    try:
        return read_encoding(value)
    except ValueError as error:
        raise RunError(f"what the probed function returned for {where} cannot be read: {error}") from error


def changes_of(found: Encoding, before: Encoding, as_stored: bool = False) -> dict[str, float]:
    """Relative change of each output; an output that is gone or new has changed without bound.

    Args:
        as_stored: compare values, as a cache may hold them in another type.
    """
    a, b = found.outputs, before.outputs
    changes = {}
    for name in {**b, **a}:
        if name not in a or name not in b:
            changes[name] = float("inf")
        else:
            array = a[name].astype(b[name].dtype) if as_stored else a[name]
            changes[name] = relative_change(array, b[name])
    return changes
