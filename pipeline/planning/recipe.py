"""How the samples of a build are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.encoder.encoder_frames import FrameBlock, FrameSettings, cut_frames, recorded_supports
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.episode import Episode
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import Sizes
from pipeline.samples.idle import is_idle
from pipeline.samples.inputs import build_input
from pipeline.samples.windows import Window, enumerate_windows
from pipeline.sources.episode.truncated import TruncatedEpisode


@dataclass(frozen=True)
class Recipe:
    """What every task of a build shares. Small and picklable.

    group_samples  latents of at most so many samples are held and written at once
    """

    fingerprint: str
    name: str
    views: tuple[str, ...]
    sizes: Sizes
    window: WindowPolicy
    inputs: InputSettings
    frames: FrameSettings
    mode: EncoderMode
    group_samples: int
    latents: LatentDtype = LatentDtype.FLOAT16

    def windows(self, episode: Episode) -> Iterator[Window]:
        """Windows of an episode by rising `now`, without the idle ones."""
        windows = enumerate_windows(episode.num_frames, self.window, self.sizes.action > 0)
        if self.window.skip_idle == 0:
            return windows
        return (w for w in windows if not is_idle(TruncatedEpisode(episode, w.now), self.window))

    def input_sample(self, episode: Episode, window: Window) -> InputSample:
        """The student's input of a window, made of the episode truncated at `now`. Raises EpisodeError."""
        past = TruncatedEpisode(episode, window.now)
        return build_input(past, window.key(episode.id), episode.id, self.name, self.views, self.inputs)

    def frame_block(self, episode: Episode, windows: Sequence[Window]) -> FrameBlock:
        """The frames that the targets of these windows are computed from. Raises EpisodeError."""
        return cut_frames(episode, windows, self.views, self.frames, self.mode)

    def padded_actions(self, episode: Episode, window: Window) -> NDArray[np.float32]:
        """float32 [T, A], zeros past the end of the episode; empty for human video."""
        out = np.zeros((self.sizes.chunk, self.sizes.action), np.float32)
        actions = episode.actions(window.now, window.now + window.action_count) if self.sizes.action else None
        if actions is not None:
            out[: window.action_count] = actions
        return out

    def supports(self, episode: Episode, window: Window) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        """Frames of each latent of steps 0..K, and the time of the last one in seconds, NaN where masked."""
        supports = recorded_supports(window, self.mode)
        times = iter(episode.timestamps([support[-1] for support in supports if support]))
        return supports, tuple(float(next(times)) if support else float("nan") for support in supports)
