"""The distinct tubelets of a shard, each encoded alone and stored once, whatever windows share it.

Letters: W windows, K steps, V views, N tokens, D width, U tubelets that are new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.building.records import TargetsRow
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.enums import LatentDtype
from pipeline.format.file_names import latents_file
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.planning.plan import ShardTask
from pipeline.planning.recipe import Recipe
from pipeline.shards.int8 import ErrorSums, quantise_windows
from pipeline.shards.latents_arrow import LatentsWriter, TubeletRows
from pipeline.storage.store import Store

Tubelet = tuple[str, int]
"""Episode and last frame."""


@dataclass(frozen=True)
class Gathered:
    """Latents of W windows, put together from the tubelets that they share.

    values  float16 or int8 [W, K+1, V, N, D], scale float32 [W, K+1, V, N] or None; zeros where masked
    valid   bool [W, K+1]
    places  int32 [W, K+1], rows of the latents shard; -1 where masked
    errors  what int8 latents lost; empty for float16 ones
    """

    values: NDArray[Any]
    scale: NDArray[np.float32] | None
    valid: NDArray[np.bool_]
    places: NDArray[np.int32]
    errors: ErrorSums


@dataclass(frozen=True)
class _Held:
    place: int
    values: NDArray[Any]
    scale: NDArray[np.float32] | None
    errors: tuple[float, float]


class TubeletPool(LatentsWriter):
    """Encodes and writes the tubelets of one shard, its windows given in order. Use as a context manager.

    Only tubelets that a later window may share are held: those of the last episode that end after the last `now`.
    """

    def __init__(self, task: ShardTask, recipe: Recipe, store: Store) -> None:
        file = latents_file(task.split, task.index)
        metadata = {"fingerprint": recipe.fingerprint, "schema_version": str(SCHEMA_VERSION), "shard": file}
        super().__init__(store.streaming(file), recipe.sizes, metadata, recipe.latents)
        self._sizes, self._dtype = recipe.sizes, recipe.latents
        self._held: dict[Tubelet, _Held] = {}

    def gather(self, rows: Sequence[TargetsRow], block: FrameBlock, encode: Callable[[FrameBlock], Any]) -> Gathered:
        """Encode the tubelets of some windows that were not met before, and gather those of each window.

        Args:
            block: frames of the windows, its index [W, 2(K+1)].

        Raises:
            ValueError: latents that int8 cannot express.
        """
        wanted = [[(row.episode, support[-1]) if support else None for support in row.supports] for row in rows]
        new: dict[Tubelet, NDArray[np.int32]] = {}
        for window, tubelets in enumerate(wanted):
            for step, tubelet in enumerate(tubelets):
                if tubelet is not None and tubelet not in self._held:
                    new.setdefault(tubelet, block.index[window, 2 * step : 2 * step + 2])
        if new:
            self._encode(new, block, encode)
        gathered = self._gather(wanted)
        last = rows[-1]
        self._held = {t: h for t, h in self._held.items() if t[0] == last.episode and t[1] > last.window.now}
        return gathered

    def _encode(
        self, new: dict[Tubelet, NDArray[np.int32]], block: FrameBlock, encode: Callable[[FrameBlock], Any]
    ) -> None:
        latents, _ = encode(FrameBlock(block.frames, np.stack(list(new.values()))))  # [U, 1, V, N, D]
        values, scale = latents[:, 0], None
        errors = [(0.0, 0.0)] * len(new)
        if self._dtype == LatentDtype.INT8:
            made = [quantise_windows(latents[i : i + 1]) for i in range(len(new))]
            values = np.concatenate([part[0][:, 0] for part in made])
            scale = np.concatenate([part[1][:, 0] for part in made])
            errors = [part[2][0] for part in made]
        first = self.rows
        self.add(TubeletRows(tuple(t[0] for t in new), tuple(t[1] for t in new), values, scale))
        for i, tubelet in enumerate(new):
            self._held[tubelet] = _Held(first + i, values[i], None if scale is None else scale[i], errors[i])

    def _gather(self, wanted: Sequence[Sequence[Tubelet | None]]) -> Gathered:
        sizes, int8 = self._sizes, self._dtype == LatentDtype.INT8
        shape = (len(wanted), sizes.steps + 1, sizes.views, sizes.tokens)
        values = np.zeros((*shape, sizes.width), np.int8 if int8 else np.float16)
        scale = np.zeros(shape, np.float32) if int8 else None
        places = np.full(shape[:2], -1, np.int32)
        sums = np.zeros((shape[1], 2))
        for window, tubelets in enumerate(wanted):
            for step, tubelet in enumerate(tubelets):
                if tubelet is None:
                    continue
                held = self._held[tubelet]
                values[window, step], places[window, step] = held.values, held.place
                if scale is not None:
                    scale[window, step] = held.scale
                sums[step] += held.errors
        errors = tuple((float(error), float(square)) for error, square in sums) if int8 else ()
        return Gathered(values, scale, places >= 0, places, errors)
