"""What is read of an opened episode, before anything is checked: pictures are kept small, numbers whole.

N frames, S and A channels of state and action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.format.episode import Episode
from pipeline.inspection.cameras.look import CameraLook, Values
from pipeline.sources.base import EpisodeRef, Source


@dataclass(frozen=True)
class ViewContent:
    """One camera.

    look     its small pictures, as numbers
    seconds  when each frame is shown, after the first, float64 [N]
    codec    how it is stored; "" where the reader does not say
    stills   number and picture uint8 [H, W, 3] of the first, middle and last frame
    """

    look: CameraLook
    seconds: Values
    codec: str
    stills: tuple[tuple[int, NDArray[np.uint8]], ...]


@dataclass(frozen=True)
class EpisodeContent:
    """An episode; state float64 [N, S], actions [N, A], None for human video; text None for a test clip."""

    frames: int
    views: Mapping[str, ViewContent]
    state: Values | None
    actions: Values | None
    text: str | None


def read_episode(source: Source, ref: EpisodeRef, views: Sequence[str]) -> EpisodeContent:
    """Open and read an episode. Raises EpisodeError."""
    with source.open(ref) as episode:
        text = None if ref.split == "test" else episode.instruction(0)
        states = [row for frame in range(episode.num_frames) if (row := episode.state(frame)) is not None]
        actions = episode.actions(0, episode.num_frames)
        return EpisodeContent(
            episode.num_frames,
            {view: _view(episode, view) for view in views},
            np.stack(states).astype(np.float64) if states else None,
            None if actions is None else actions.astype(np.float64),
            text,
        )


def _view(episode: Episode, view: str) -> ViewContent:
    reader = getattr(episode, "frame_readers", {}).get(view)
    frames = range(episode.num_frames)
    seconds = episode.timestamps(frames) if reader is None else reader.timestamps(frames)
    last = episode.num_frames - 1
    stills = tuple((at, episode.frames(view, [at])[0]) for at in (0, last // 2, last))
    look = CameraLook.of(episode.num_frames, partial(episode.frames, view))
    codec = "" if reader is None else reader.codec
    return ViewContent(look, np.asarray(seconds, np.float64), codec, stills)
