"""The two jobs of a shard, as plain functions: they know nothing of how they are run.

The inputs job and the targets job never share memory. Each opens the episodes itself, and each leaves a part record
(`parts.py`); the commit joins the two by key. An episode that fails in one job must be missing from
the other too: the driver compares the records and runs the other job again with that episode excluded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.clips import ClipBlock, cut_clips, merge_blocks, recorded_supports
from pipeline.errors import EpisodeError, RunError
from pipeline.inputs import build_input
from pipeline.parts import InputsRow, Part, TargetsRow, write_part
from pipeline.plan import Recipe, ShardTask
from pipeline.schema import SCHEMA_VERSION, inputs_file, targets_file
from pipeline.shards import InputsWriter, TargetRows, TargetsWriter
from pipeline.sources.base import Episode, EpisodeRef, Fault, Past, Source
from pipeline.store import Store
from pipeline.windows import Window, count_windows, enumerate_windows

Encode = Callable[[ClipBlock], tuple[NDArray[np.float16], NDArray[np.bool_]]]
"""`Encoder.encode`; a parameter, so that this file needs no torch."""


@dataclass(frozen=True)
class Chunk:
    """The decoded episodes of one chunk of a shard: W windows.

    rows         one for each window, its digest still empty
    block        the frames, or None when W is 0
    actions      float32 [W, T, A], action_mask bool [W, T]; None for human video
    cpu_seconds  processor time spent on decoding and resizing
    """

    rows: tuple[TargetsRow, ...]
    block: ClipBlock | None
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    faults: tuple[Fault, ...]
    cpu_seconds: float

    def slices(self, size: int) -> Iterator[Chunk]:
        """Parts of at most `size` windows that share the frames."""
        for start in range(0, len(self.rows), size):
            some = slice(start, start + size)
            yield replace(
                self,
                rows=self.rows[some],
                block=self.block and ClipBlock(self.block.frames, self.block.index[some]),
                actions=None if self.actions is None else self.actions[some],
                action_mask=None if self.action_mask is None else self.action_mask[some],
            )


def write_inputs_shard(
    source: Source, task: ShardTask, recipe: Recipe, excluded: Collection[str], store: Store
) -> Part:
    """Make the inputs tar of one shard. Each sample is built from its episode truncated at `now`.

    Args:
        excluded: ids of episodes that failed in the targets job.
    """
    started, file = time.process_time(), inputs_file(task.split, task.index)
    rows: list[InputsRow] = []
    faults: list[Fault] = []
    with InputsWriter(store.writing(file), recipe.views) as writer:
        for ref in task.episodes:
            if ref.id in excluded:
                continue
            with _recording(ref, recipe, "inputs", faults), source.open(ref) as episode:
                windows = _windows(episode, recipe)
                samples = [
                    build_input(Past(episode, w.now), w.key(ref.id), ref.id, recipe.name, recipe.views, recipe.inputs)
                    for w in windows
                ]
                times = episode.timestamps([w.now for w in windows])
                states = [episode.state(w.now) for w in windows]
                for window, sample, now_s, state in zip(windows, samples, times, states, strict=True):
                    placement = writer.add(sample)
                    rows.append(InputsRow(sample.key, ref.id, window, float(now_s), state, placement))
    part = Part(
        task.name, "inputs", recipe.fingerprint, writer.record(file), tuple(faults), tuple(sorted(excluded)),
        len(rows), time.process_time() - started, 0.0,
    )  # fmt: skip
    write_part(store, part, rows)
    return part


def decode_chunk(source: Source, refs: Sequence[EpisodeRef], recipe: Recipe, excluded: Collection[str]) -> Chunk:
    """Decode and resize every frame that the targets of these episodes are computed from."""
    started = time.process_time()
    rows: list[TargetsRow] = []
    faults: list[Fault] = []
    blocks: list[ClipBlock] = []
    actions: list[NDArray[np.float32]] = []
    for ref in refs:
        if ref.id in excluded:
            continue
        with _recording(ref, recipe, "targets", faults), source.open(ref) as episode:
            windows = _windows(episode, recipe)
            block = cut_clips(episode, windows, recipe.views, recipe.frames, recipe.mode)
            chunk_actions = [_padded_actions(episode, window, recipe) for window in windows]
            new_rows = [_targets_row(episode, ref, window, recipe) for window in windows]
            blocks.append(block)
            actions += chunk_actions
            rows += new_rows
    sizes = recipe.sizes
    mask = np.array([np.arange(sizes.chunk) < row.window.action_count for row in rows], bool)
    return Chunk(
        tuple(rows),
        merge_blocks(blocks) if blocks else None,
        np.stack(actions) if actions and sizes.action else None,
        mask if rows and sizes.action else None,
        tuple(faults),
        time.process_time() - started,
    )


def write_targets_shard(
    chunks: Iterable[Chunk], encode: Encode, task: ShardTask, recipe: Recipe, excluded: Collection[str], store: Store
) -> Part:
    """Make the targets file of one shard from its decoded chunks, in order."""
    file = targets_file(task.split, task.index)
    metadata = {"fingerprint": recipe.fingerprint, "schema_version": str(SCHEMA_VERSION), "shard": file}
    rows: list[TargetsRow] = []
    faults: list[Fault] = []
    decoding = encoding = 0.0
    with TargetsWriter(store.writing(file), recipe.sizes, metadata) as writer:
        for chunk in chunks:
            faults += chunk.faults
            decoding += chunk.cpu_seconds
            if chunk.block is None:
                continue
            for piece in chunk.slices(recipe.encode_samples):
                assert piece.block is not None
                started = time.thread_time()
                latents, valid = encode(piece.block)
                encoding += time.thread_time() - started
                keys = tuple(row.key for row in piece.rows)
                digests = writer.add(
                    TargetRows(keys, latents[:, 0], latents[:, 1:], valid[:, 1:], piece.actions, piece.action_mask)
                )
                finished = enumerate(zip(piece.rows, digests, strict=True))
                rows += [row.finished(digest, piece.actions, i) for i, (row, digest) in finished]
    part = Part(
        task.name, "targets", recipe.fingerprint, writer.record(file), tuple(faults), tuple(sorted(excluded)),
        len(rows), decoding, encoding,
    )  # fmt: skip
    write_part(store, part, rows)
    return part


@contextlib.contextmanager
def _recording(ref: EpisodeRef, recipe: Recipe, stage: str, faults: list[Fault]) -> Iterator[None]:
    """Turn an EpisodeError into a fault; anything else stops the run and names the episode."""
    try:
        yield
    except EpisodeError as error:
        lost = None if ref.num_frames is None else count_windows(ref.num_frames, recipe.policy, recipe.sizes.action > 0)
        faults.append(Fault(ref.id, ref.split, stage, error.reason, error.detail, lost))
    except Exception as error:
        raise RunError(f"{stage} job, episode {ref.id}: unexpected {type(error).__name__}: {error}") from error


def _windows(episode: Episode, recipe: Recipe) -> list[Window]:
    windows = list(enumerate_windows(episode.num_frames, recipe.policy, recipe.sizes.action > 0))
    if not windows:
        raise EpisodeError(
            "too-short",
            f"{episode.num_frames} frames give no window of {recipe.policy.steps} steps at interval "
            f"{recipe.policy.interval}",
        )
    return windows


def _padded_actions(episode: Episode, window: Window, recipe: Recipe) -> NDArray[np.float32]:
    """float32 [T, A], zeros past the end of the episode; empty for human video."""
    out = np.zeros((recipe.sizes.chunk, recipe.sizes.action), np.float32)
    actions = episode.actions(window.now, window.now + window.action_count) if recipe.sizes.action else None
    if actions is not None:
        out[: window.action_count] = actions
    return out


def _targets_row(episode: Episode, ref: EpisodeRef, window: Window, recipe: Recipe) -> TargetsRow:
    supports = recorded_supports(window, recipe.mode)
    ends = [support[-1] if support else -1 for support in supports]
    times = iter(episode.timestamps([end for end in ends if end >= 0]))
    end_s = tuple(float(next(times)) if end >= 0 else float("nan") for end in ends)
    return TargetsRow(window.key(ref.id), window, supports, end_s)
