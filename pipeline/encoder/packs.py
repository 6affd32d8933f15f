"""Which clips an encoder on CUDA takes together: of any length, one after the other, in few shapes. Needs no torch.

A pack has a fixed number of tubelets, and of tubelets whose latents are kept, so code is compiled and recorded for few
sizes: a whole pack, and for the clips that remain of a block a quarter and a sixteenth, of which the last is filled up.

Letters: W windows, K steps, T tubelets of a pack, M kept tubelets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.format.enums import EncoderMode

PARTS = (1, 4, 16)
"""Sizes of packs: the whole over these."""

FILLED = 0.75
"""A pack is of the largest size of which the clips that remain fill more than this share."""


@dataclass(frozen=True)
class Pack:
    """Clips one after the other, short ones first.

    rows, views, steps  int64 [T]: window, view and step of each tubelet
    positions           int64 [T]: its place in its clip
    lengths             int32 [T]: tubelets of each clip, then zeros
    kept                int64 [M]: tubelets whose latents are computed
    kept_lengths        int32 [T]: how many those are of each clip
    count               of `kept` that are wanted; those that follow fill up
    longest             no clip of such packs has more tubelets
    """

    rows: NDArray[np.int64]
    views: NDArray[np.int64]
    steps: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: NDArray[np.int32]
    kept: NDArray[np.int64]
    kept_lengths: NDArray[np.int32]
    count: int
    longest: int


@dataclass(frozen=True)
class _Clip:
    """Tubelets of steps first .. end - 1 of a window's view; latents of the last `kept` are wanted."""

    row: int
    view: int
    first: int
    end: int
    kept: int

    @property
    def length(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class _Room:
    """Of a pack: its tubelets, and how many of them are kept."""

    tubelets: int
    kept: int

    def take(self, clips: Sequence[_Clip]) -> tuple[list[_Clip], list[_Clip]]:
        """The clips that fit, in order, and those that are left. Kept tubelets and others have room of their own, since
        what fills up is kept tubelets."""
        taken, left = [], []
        kept, others = self.kept, self.tubelets - self.kept
        for clip in clips:
            if clip.kept <= kept and clip.length - clip.kept <= others:
                kept, others = kept - clip.kept, others - (clip.length - clip.kept)
                taken.append(clip)
            else:
                left.append(clip)
        return taken, left


def cut_packs(valid: NDArray[np.bool_], views: int, mode: EncoderMode, size: int) -> Iterator[Pack]:
    """Every step of every window, in a fixed order.

    Args:
        valid: [W, K+1], where the episode has not ended.
        size: clips of K + 1 steps (in mode tubelet of one) that a pack holds the tubelets of.
    """
    longest = 1 if mode == EncoderMode.TUBELET else valid.shape[1]
    rooms = [_room(max(1, size // part) * longest, longest, mode) for part in PARTS]
    rows = range(len(valid))
    left = [_Clip(row, view, *steps) for row in rows for view in range(views) for steps in _of(valid[row], mode)]
    while left:
        needed = sum(clip.length for clip in left)
        room = next((room for room in rooms if needed > FILLED * room.tubelets), rooms[-1])
        taken, left = room.take(left)
        yield _pack(taken, room, longest)


def _room(tubelets: int, longest: int, mode: EncoderMode) -> _Room:
    """In mode prefix a whole window keeps one tubelet of each of its clips of 1, 2, ... tubelets."""
    return _Room(tubelets, 2 * tubelets // (longest + 1) if mode == EncoderMode.PREFIX else tubelets)


def _of(valid: NDArray[np.bool_], mode: EncoderMode) -> list[tuple[int, int, int]]:
    """`first`, `end` and `kept` of the clips of a window."""
    steps = [int(step) for step in np.flatnonzero(valid)]
    if mode == EncoderMode.CLIP:
        return [(0, len(steps), len(steps))] if steps else []
    return [(step if mode == EncoderMode.TUBELET else 0, step + 1, 1) for step in steps]


def _pack(clips: Sequence[_Clip], room: _Room, longest: int) -> Pack:
    clips = sorted(clips, key=lambda clip: clip.length)
    used, count = sum(clip.length for clip in clips), sum(clip.kept for clip in clips)
    last = clips[-1]
    fillers = [_Clip(last.row, last.view, last.first, last.first + 1, 1)] * (room.tubelets - used)
    added = room.kept - count
    everything = [*clips, *fillers]
    lengths = np.array([clip.length for clip in everything], np.int32)
    kept_lengths = np.array([clip.kept for clip in clips] + [1] * added + [0] * (len(fillers) - added), np.int32)
    ends = lengths.cumsum()
    kept = [np.arange(end - some, end) for end, some in zip(ends, kept_lengths, strict=True)]
    unused = (0, room.tubelets - len(everything))
    return Pack(
        rows=np.repeat([clip.row for clip in everything], lengths),
        views=np.repeat([clip.view for clip in everything], lengths),
        steps=np.concatenate([np.arange(clip.first, clip.end) for clip in everything]),
        positions=np.concatenate([np.arange(length) for length in lengths]),
        lengths=np.pad(lengths, unused),
        kept=np.concatenate(kept),
        kept_lengths=np.pad(kept_lengths, unused),
        count=count,
        longest=longest,
    )
