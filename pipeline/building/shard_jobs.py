"""The two jobs of a shard, as plain functions: they know nothing of how they are run.

The inputs job and the targets job never share memory. Each opens the episodes itself, and each leaves a shard record
(`records.py`); the commit joins the two by key. An episode that fails in one job must be missing from the other too:
the driver compares the records and runs the other job again with that episode excluded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.building.episodes import UNWATCHED, EpisodeLog, EpisodeWatch, opened, storing
from pipeline.building.records import InputsRow, ShardRecord, TargetsRow, write_record
from pipeline.building.tubelet_pool import TubeletPool
from pipeline.encoder.encoder_frames import FrameBlock, merge_blocks
from pipeline.errors import EpisodeError, RunError
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.episode import Episode
from pipeline.format.file_names import inputs_file, latents_file, targets_file
from pipeline.format.input_sample import InputSample
from pipeline.format.machine import Machine
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.planning.plan import ShardTask
from pipeline.planning.recipe import Recipe
from pipeline.samples.windows import Window, count_windows
from pipeline.shards.inputs_tar import InputsWriter
from pipeline.shards.int8 import ErrorSums, add_errors, quantise_windows
from pipeline.shards.targets_arrow import TargetRows, TargetsWriter
from pipeline.sources.base import EpisodeRef, LedgerEntry, Source
from pipeline.storage.store import Store

Encode = Callable[[FrameBlock], tuple[NDArray[np.float16], NDArray[np.bool_]]]
"""`Encoder.encode`; a parameter, so that this file needs no torch."""


@dataclass(frozen=True)
class DecodedGroup:
    """The decoded episodes of one group of a shard: W windows.

    rows         one for each window, its digest still empty
    block        the frames, or None when W is 0
    actions      float32 [W, T, A], action_mask bool [W, T]; None for human video
    cpu_seconds  processor time spent on decoding and resizing
    """

    rows: tuple[TargetsRow, ...]
    block: FrameBlock | None
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    left_out: tuple[LedgerEntry, ...]
    cpu_seconds: float

    @property
    def frame_bytes(self) -> int:
        """Of its frames."""
        return 0 if self.block is None else self.block.frames.nbytes

    def slices(self, size: int) -> Iterator[DecodedGroup]:
        """Parts of at most `size` windows that share the frames."""
        for start in range(0, len(self.rows), size):
            some = slice(start, start + size)
            yield replace(
                self,
                rows=self.rows[some],
                block=self.block and FrameBlock(self.block.frames, self.block.index[some]),
                actions=None if self.actions is None else self.actions[some],
                action_mask=None if self.action_mask is None else self.action_mask[some],
            )


def write_inputs_shard(
    source: Source,
    task: ShardTask,
    recipe: Recipe,
    excluded: Collection[str],
    store: Store,
    watch: EpisodeWatch = UNWATCHED,
) -> ShardRecord:
    """Make the inputs tar of one shard. Each sample is built from its episode truncated at `now`.

    Args:
        excluded: ids of episodes that failed in the targets job.
        watch: notified of the episode in work.

    Raises:
        RunError: the build folder cannot be written, or an episode met an error that is not its own.
    """
    started, file = time.process_time(), inputs_file(task.split, task.index)
    rows: list[InputsRow] = []
    log = EpisodeLog(recipe, "inputs", watch)
    with storing(store), InputsWriter(store.streaming(file), recipe.views) as writer:
        for ref in task.episodes:
            made = None if ref.id in excluded else log.attempt(ref, partial(_inputs_of, source, ref, recipe))
            for window, sample, now_s, state in made or ():
                rows.append(InputsRow(sample.key, ref.id, window, now_s, state, writer.add(sample)))
    decoding = time.process_time() - started
    absent = (tuple(log.left_out), tuple(sorted(excluded)))
    part = ShardRecord(task.name, "inputs", recipe.fingerprint, writer.record(file), *absent, len(rows), decoding, 0.0)
    write_record(store, part, rows)
    return part


_Inputs = tuple[Window, InputSample, float, NDArray[np.float32] | None]


def _inputs_of(source: Source, ref: EpisodeRef, recipe: Recipe) -> list[_Inputs]:
    """Window, members, time in seconds and state of every sample of an episode."""
    with opened(source, ref) as episode:
        windows = _windows(episode, recipe)
        samples = [recipe.input_sample(episode, window) for window in windows]
        times = episode.timestamps([w.now for w in windows])
        states = [episode.state(w.now) for w in windows]
        return list(zip(windows, samples, map(float, times), states, strict=True))


def decode_group(
    source: Source,
    refs: Sequence[EpisodeRef],
    recipe: Recipe,
    excluded: Collection[str],
    watch: EpisodeWatch = UNWATCHED,
) -> DecodedGroup:
    """Decode and resize every frame that the targets of these episodes are computed from."""
    started = time.process_time()
    rows: list[TargetsRow] = []
    blocks: list[FrameBlock] = []
    actions: list[NDArray[np.float32]] = []
    log = EpisodeLog(recipe, "targets", watch)
    for ref in refs:
        made = None if ref.id in excluded else log.attempt(ref, partial(_targets_of, source, ref, recipe))
        if made is not None:
            blocks.append(made[0])
            actions += made[1]
            rows += made[2]
    sizes = recipe.sizes
    mask = np.array([np.arange(sizes.chunk) < row.window.action_count for row in rows], bool)
    return DecodedGroup(
        tuple(rows),
        merge_blocks(blocks) if blocks else None,
        np.stack(actions) if actions and sizes.action else None,
        mask if rows and sizes.action else None,
        tuple(log.left_out),
        time.process_time() - started,
    )


def _targets_of(
    source: Source, ref: EpisodeRef, recipe: Recipe
) -> tuple[FrameBlock, list[NDArray[np.float32]], list[TargetsRow]]:
    """Frames, padded actions and rows of every window of an episode."""
    with opened(source, ref) as episode:
        windows = _windows(episode, recipe)
        block = recipe.frame_block(episode, windows)
        actions = [recipe.padded_actions(episode, window) for window in windows]
        rows = [TargetsRow(window.key(ref.id), window, *recipe.supports(episode, window)) for window in windows]
        return block, actions, rows


def group_bytes(refs: Sequence[EpisodeRef], recipe: Recipe) -> int | None:
    """Upper bound of the bytes of a decoded group's frames; None where an episode's length is not known and the policy
    takes windows of all of it."""
    frame = recipe.sizes.views * recipe.frames.crop_size**2 * 3
    few = recipe.window.per_episode * 2 * (recipe.sizes.steps + 1)
    if not few and any(ref.num_frames is None for ref in refs):
        return None
    return frame * sum(min(ref.num_frames or few, few or ref.num_frames or 0) for ref in refs)


def write_targets_shard(
    groups: Iterable[DecodedGroup],
    encode: Encode,
    machine: Machine,
    task: ShardTask,
    recipe: Recipe,
    excluded: Collection[str],
    store: Store,
) -> ShardRecord:
    """Make the targets file of one shard from its decoded groups, in order; in mode "tubelet" that of latents too.

    Args:
        machine: what `encode` runs on.
    """
    file = targets_file(task.split, task.index)
    metadata = {"fingerprint": recipe.fingerprint, "schema_version": str(SCHEMA_VERSION), "shard": file}
    rows: list[TargetsRow] = []
    left_out: list[LedgerEntry] = []
    errors: list[ErrorSums] = []
    decoding = encoding = 0.0
    pool = TubeletPool(task, recipe, store) if recipe.mode == EncoderMode.TUBELET else None
    writer = TargetsWriter(store.streaming(file), recipe.sizes, metadata, recipe.latents, pool is not None)
    with storing(store), pool or contextlib.nullcontext(), writer:
        for group in groups:
            left_out += group.left_out
            decoding += group.cpu_seconds
            if group.block is None:
                continue
            for piece in group.slices(recipe.group_samples):
                started = time.thread_time()
                made, lost, places = encode_piece(piece, encode, recipe, pool)
                encoding += time.thread_time() - started
                errors += lost
                digests = writer.add(made, places)
                finished = enumerate(zip(piece.rows, digests, strict=True))
                rows += [row.finished(digest, piece.actions, i) for i, (row, digest) in finished]
    absent, seconds = (tuple(left_out), tuple(sorted(excluded))), (decoding, encoding)
    latents = None if pool is None else pool.record(latents_file(task.split, task.index))
    part = ShardRecord(
        task.name,
        "targets",
        recipe.fingerprint,
        writer.record(file),
        *absent,
        len(rows),
        *seconds,
        add_errors(errors),
        latents,
        machine,
    )
    write_record(store, part, rows)
    return part


def encode_piece(
    piece: DecodedGroup, encode: Encode, recipe: Recipe, pool: TubeletPool | None
) -> tuple[TargetRows, list[ErrorSums], NDArray[np.int32] | None]:
    """Rows as they are stored, what int8 latents lost (empty for float16 ones), and with a `pool` their rows in the
    latents shard, int32 [W, K+1].

    Raises:
        RunError: latents that int8 cannot express.
    """
    assert piece.block is not None
    keys = tuple(row.key for row in piece.rows)
    try:
        if pool is not None:
            found = pool.gather(piece.rows, piece.block, encode)
            rows = _target_rows(piece, found.values, found.scale, found.valid)
            return rows, [found.errors] if found.errors else [], found.places
        latents, valid = encode(piece.block)
        if recipe.latents == LatentDtype.FLOAT16:
            return _target_rows(piece, latents, None, valid), [], None
        values, scale, lost = quantise_windows(latents)
        return _target_rows(piece, values, scale, valid), [lost], None
    except ValueError as error:
        raise RunError(f"targets job, samples {keys[0]} to {keys[-1]}: {error}") from error


def _target_rows(
    piece: DecodedGroup, values: NDArray[Any], scale: NDArray[np.float32] | None, valid: NDArray[np.bool_]
) -> TargetRows:
    """From latents [W, K+1, V, N, D], their scales [W, K+1, V, N] and their mask [W, K+1]."""
    return TargetRows(
        tuple(row.key for row in piece.rows),
        values[:, 0],
        values[:, 1:],
        valid[:, 1:],
        piece.actions,
        piece.action_mask,
        None if scale is None else scale[:, 0],
        None if scale is None else scale[:, 1:],
    )


def _windows(episode: Episode, recipe: Recipe) -> list[Window]:
    windows = list(recipe.windows(episode))
    policy = recipe.window
    if not windows and count_windows(episode.num_frames, policy, recipe.sizes.action > 0):
        raise EpisodeError(
            "all-idle",
            f"no channel of the state changes by more than {policy.idle_change:g} over the {policy.skip_idle} frames "
            "before any window",
        )
    if not windows:
        raise EpisodeError(
            "too-short",
            f"{episode.num_frames} frames give no window of {recipe.window.steps} steps at interval "
            f"{recipe.window.interval}",
        )
    return windows
