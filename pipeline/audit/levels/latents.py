"""Stored latents compared with those that the encoder makes of the raw frames, in the batches of the build (rule L2).

V views, K future steps, N tokens a step, D width, W windows of a piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import TargetRows
from pipeline.audit.rederive.reencode import EncoderClaim, Reencoder, latents_differ
from pipeline.audit.rederive.residual import ResidualSample, ResidualTest
from pipeline.audit.rules.shards.int8 import ErrorClaim, quantise
from pipeline.errors import BuildError

Clips = Mapping[tuple[str, str, int], NDArray[np.uint8]]
"""(episode, view, frame) -> uint8 [C, C, 3]."""


@dataclass(frozen=True)
class Window:
    """A sample whose latents are encoded again. frames: of each step 0..K, empty where masked."""

    key: str
    episode: str
    frames: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class StoredLatents:
    """Context and later latents as they are stored.

    values  float16 or int8 [K+1, V, N, D];  scale  float32 [K+1, V, N], None with float16 values
    """

    values: NDArray[Any]
    scale: NDArray[np.float32] | None

    @classmethod
    def of(cls, rows: TargetRows, i: int) -> StoredLatents:
        """Those of one row of a targets shard."""
        values = np.concatenate([rows.context[i][None], rows.latents[i]])
        if rows.context_scale is None or rows.latents_scale is None:
            return cls(values, None)
        return cls(values, np.concatenate([rows.context_scale[i][None], rows.latents_scale[i]]))

    def equals(self, step: int, view: int, found: NDArray[np.float16]) -> bool:
        """Whether latents float16 [N, D] are stored as these, to the bit."""
        if self.scale is None:
            return self.values[step, view].tobytes() == found.tobytes()
        values, scale = quantise(found)
        return bool((self.values[step, view] == values).all()) and self.scale[step, view].tobytes() == scale.tobytes()

    @property
    def wide(self) -> NDArray[np.float32]:
        """What they stand for, float32 [K+1, V, N, D]."""
        wide: NDArray[np.float32] = self.values.astype(np.float32)
        return wide if self.scale is None else wide * self.scale[..., None]

    @property
    def last_bits(self) -> NDArray[Any]:
        """The last bit of every value, 0 or 1, [K+1, V, N, D]."""
        bits: NDArray[Any] = self.values.view(f"u{self.values.itemsize}") & 1
        return bits

    @property
    def slack(self) -> NDArray[np.float32]:
        """By how much rounding may have moved each value: half a scale, float32 [K+1, V, N, 1]."""
        if self.scale is None:
            return np.zeros((*self.values.shape[:-1], 1), np.float32)
        return self.scale[..., None] / np.float32(2)


class LatentCheck:
    """Encodes pieces again and compares what the build holds. `residual` tests what differs where it may differ."""

    def __init__(self, build: ClaimedBuild, claim: EncoderClaim, encoder: Reencoder, report: Report) -> None:
        self._build, self._claim, self._encoder, self._report = build, claim, encoder, report
        self.errors, self.residual = ErrorClaim(build), ResidualTest(build)
        self.coverage: Counter[str] = Counter()

    def check(
        self,
        windows: Sequence[Window],
        cells: Sequence[tuple[int, int]],
        stored: Sequence[StoredLatents | None],
        clips: Clips,
        file: str,
        exact: bool,
    ) -> None:
        """Compare the latents of one piece.

        Args:
            windows: all of the piece, in order.
            cells: (window, step) of the latents that were encoded with it; of a masked step there is none.
            stored: of each window; None where the targets shard has no such row, which is reported elsewhere.
            file: that holds the latents.
            exact: they must be equal to the bit.
        """
        if not self._complete(windows, clips):
            return  # the video is shorter than the manifest says: reported
        found = self._encode(windows, cells, clips)
        self._try_encoder(windows, cells, found, clips)
        self.coverage["samples_encoded"] += len(windows)
        self.coverage["latents_equal_to_the_bit" if exact else "latents_within_bounds"] += len(cells)
        for (window, step), latents in zip(cells, found, strict=True):
            held = stored[window]
            if held is not None:
                self._compare(windows[window], step, held, latents, file, exact)

    def _complete(self, windows: Sequence[Window], clips: Clips) -> bool:
        views = self._build.views
        return all((w.episode, v, f) in clips for w in windows for step in w.frames for f in step for v in views)

    def _encode(
        self, windows: Sequence[Window], cells: Sequence[tuple[int, int]], clips: Clips
    ) -> list[NDArray[np.float16]]:
        """Latents of every cell, float16 [V, N, D], of one call of the encoder."""
        places: dict[tuple[str, int], int] = {}

        def place(window: Window, step: int) -> list[int]:
            frames = window.frames[step]
            return [places.setdefault((window.episode, f), len(places)) for f in frames] if frames else [-1, -1]

        if self._build.shares_latents:
            index = [place(windows[window], step) for window, step in cells]
        else:
            index = [[p for step in range(len(w.frames)) for p in place(w, step)] for w in windows]
        if not index:
            return []
        frames = np.stack([[clips[episode, view, frame] for episode, frame in places] for view in self._build.views])
        found = self._encoder.encode(frames, np.array(index, np.int32))
        if self._build.shares_latents:
            return list(found[:, 0])
        return [found[window, step] for window, step in cells]

    def _try_encoder(
        self,
        windows: Sequence[Window],
        cells: Sequence[tuple[int, int]],
        found: Sequence[NDArray[np.float16]],
        clips: Clips,
    ) -> None:
        """The encoder's batches against the same encoder on one clip alone, for one latent of the piece of each step:
        what is compared with the build may not depend on the rest of a batch.

        Raises:
            BuildError: it does.
        """
        name, allowed = self._claim.tolerance
        for step, at in {step: at for at, (_, step) in enumerate(cells)}.items():
            window = windows[cells[at][0]]
            parts = [window.frames[step]] if self._build.shares_latents else window.frames[: step + 1]
            for view, latents in zip(self._build.views, found[at], strict=True):
                clip = np.stack([clips[window.episode, view, frame] for part in parts for frame in part])
                gap = latents_differ(latents, self._encoder.last_tubelet(clip), self._claim)
                if not gap <= allowed:
                    raise BuildError(
                        f"{self._build.root}: the encoder gives other latents in a batch than for one clip, "
                        f"step {step} of {window.key} ({name} {gap:.3g}, {allowed:.3g} allowed). Mend it; there is no "
                        "verdict"
                    )

    def _compare(
        self, window: Window, step: int, stored: StoredLatents, found: NDArray[np.float16], file: str, exact: bool
    ) -> None:
        """One latent of every view, float16 [V, N, D]."""
        wide = None if exact else stored.wide
        name, allowed = self._claim.tolerance
        for view, latents in enumerate(found):
            self._report.check("L2")
            self.errors.add(step, latents)
            if stored.values[step, view].shape != latents.shape:
                problem = f"they are {stored.values[step, view].shape}, the encoder makes {latents.shape}"
            elif wide is None:
                problem = "" if stored.equals(step, view, latents) else "not equal to the bit"
            else:
                gap = latents_differ(wide[step, view], latents, self._claim, stored.slack[step, view])
                problem = "" if gap <= allowed else f"{name} {gap:.3g}, {allowed:.3g} allowed"
            if problem:
                what = f"{self._build.views[view]}: the {'context' if step == 0 else f'latents of step {step}'}"
                detail = f"{what} is not what the encoder makes of the frames up to {window.frames[step][-1]}"
                self._report.found("L2", file, f"{detail} ({problem})", window.key)
        if wide is not None and wide[step].shape == found.shape:
            sample = ResidualSample(window.key, window.episode, file, wide, stored.last_bits)
            self.residual.add(sample, step, found)
