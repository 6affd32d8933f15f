"""The chosen pieces of one shard: encoded again as soon as every frame of a piece has been decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.levels.latents import LatentCheck, StoredLatents, Window
from pipeline.audit.parsers.shard import Shard, TargetRows
from pipeline.audit.rederive.pieces import Piece
from pipeline.audit.rederive.raw_episode import EpisodeResult
from pipeline.audit.rules.supports import expected_supports

Targets = Mapping[str, tuple[TargetRows, int]]
"""Record batch of a targets shard, and place in it, by key."""

Cells = list[tuple[int, int]]
"""(window of a piece, step)."""


class ShardEncoding:
    """Collects frames of one shard and checks its chosen pieces.

    Args:
        exact: latents of whole pieces must be equal to the bit.
        pieces: all of the shard, in order;  chosen: those to encode.
    """

    def __init__(
        self,
        check: LatentCheck,
        build: ClaimedBuild,
        shard: Shard,
        targets: Targets,
        pieces: Sequence[Piece],
        chosen: Sequence[Piece],
        exact: bool,
    ) -> None:
        self._check, self._shard, self._targets, self._exact = check, shard, targets, exact
        self._episodes: list[str] = shard.rows.column("episode").to_pylist()
        first, last, valid = _supports(build, shard)
        self._first, self._last, self._valid = first, last, valid
        cells = self._tubelets(pieces) if build.shares_latents else {piece: _all(valid, piece) for piece in pieces}
        self._waiting = {piece: cells[piece] for piece in chosen}
        self._needs = {piece: {self._episodes[row] for row in piece.rows} for piece in chosen}
        self._clips: dict[tuple[str, str, int], NDArray[np.uint8]] = {}
        self._done: set[str] = set()
        latents = shard.entry.latents
        self._file = (latents or shard.entry.targets).path

    def take(self, result: EpisodeResult) -> None:
        """The frames of another episode; what is complete with it is encoded, and its frames let go."""
        episode = result.work.episode
        self._done.add(episode)
        self._clips |= {(episode, view, frame): clip for (view, frame), clip in result.clips.items()}
        for piece in [piece for piece in self._waiting if self._needs[piece] <= self._done]:
            windows = [self._window(row) for row in piece.rows]
            stored = [self._stored(row) for row in piece.rows]
            exact = self._exact and piece.whole
            self._check.check(windows, self._waiting.pop(piece), stored, self._clips, self._file, exact)
        needed = set().union(*(self._needs[piece] for piece in self._waiting))
        self._clips = {at: clip for at, clip in self._clips.items() if at[0] in needed}

    def _window(self, row: int) -> Window:
        frames = zip(self._first[row].tolist(), self._last[row].tolist(), self._valid[row].tolist(), strict=True)
        steps = tuple((first, last) if valid else () for first, last, valid in frames)
        return Window(self._shard.keys[row], self._episodes[row], steps)

    def _stored(self, row: int) -> StoredLatents | None:
        rows, at = self._targets.get(self._shard.keys[row], (None, 0))
        return None if rows is None else StoredLatents.of(rows, at)

    def _tubelets(self, pieces: Sequence[Piece]) -> dict[Piece, Cells]:
        """Where each tubelet of the shard is first needed: its piece encodes it, and no other."""
        seen: set[tuple[str, int]] = set()
        found: dict[Piece, Cells] = {}
        for piece in pieces:
            found[piece] = []
            for window, step in _all(self._valid, piece):
                row = piece.rows[window]
                tubelet = self._episodes[row], int(self._last[row, step])
                if tubelet not in seen:
                    seen.add(tubelet)
                    found[piece].append((window, step))
        return found


def _all(valid: NDArray[np.bool_], piece: Piece) -> Cells:
    """Every step of a piece that is not masked."""
    return [(window, step) for window, step in np.argwhere(valid[piece.rows.start : piece.rows.stop]).tolist()]


def _supports(build: ClaimedBuild, shard: Shard) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First and last frame of every step of every row, int64 [rows, K+1], and whether the episode has it, bool."""
    now, frames = (shard.rows.column(name).to_numpy().astype(np.int64) for name in ("now", "num_frames"))
    first, last = expected_supports(now, build.window.interval, build.sizes.steps)
    return first, last, last < frames[:, None]
