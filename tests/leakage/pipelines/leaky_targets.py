"""Pipelines whose latents come from other frames, other weights or other pixels than the manifest says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.encoder import encoder_frames as clips
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock, FrameSettings
from pipeline.planning import recipe
from pipeline.samples.windows import Window
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import Latents, World

Change = Callable[[Latents], Latents]


def _sample(world: World, frames: Callable[[Window], list[int]]) -> None:
    """Other frames for the encoder; the manifest goes on to record the honest supports."""
    world.patch.setattr(clips, "sampled_frames", lambda window, mode: frames(window))


def _inside(window: Window, frames: list[int]) -> list[int]:
    return [min(max(0, frame), window.num_frames - 1) for frame in frames]


def tubelet_straddling_now(world: World) -> None:
    """The reference's first tubelet: now and the next sampled frame."""
    _sample(world, lambda w: _inside(w, [w.now + i * w.interval for i in range(2 * (w.steps + 1))]))


def context_one_frame_late(world: World) -> None:
    _sample(world, lambda w: _inside(w, [w.now - 1, w.now + 1, *_honest(w)[2:]]))


def wrong_interval(world: World) -> None:
    _sample(world, lambda w: _inside(w, [w.now + i for i in range(-1, 2 * w.steps + 1)]))


def repeated_last_frame_as_future(world: World) -> None:
    _sample(world, lambda w: [*_honest(w)[:2], *[w.num_frames - 1] * 2 * w.steps])


def _honest(window: Window) -> list[int]:
    return [frame for support in window.supports() for frame in support]


def _latents(world: World, change: Change) -> None:
    def encode(encoder: Encoder, block: FrameBlock) -> tuple[Latents, Latents]:
        latents, valid = encoder.encode(block)
        return change(latents.copy()), valid

    world.encode = encode


def whole_clip_in_one_bidirectional_pass(world: World) -> None:
    """Encoded as the reference does, stamped as ours."""

    def encode(encoder: Encoder, block: FrameBlock) -> tuple[Latents, Latents]:
        encoder.settings = replace(encoder.settings, mode="clip")
        return encoder.encode(block)

    world.encode = encode


def context_prefix_one_tubelet_too_long(world: World) -> None:
    """z_0 is the first tubelet of a pass over two."""

    def encode(encoder: Encoder, block: FrameBlock) -> tuple[Latents, Latents]:
        latents, valid = encoder.encode(block)
        for row, index in enumerate(block.index):
            for view, frames in enumerate(block.frames):
                both = _passed(encoder, frames[index[:4]])
                latents[row, 0, view] = both[: encoder.tokens]
        return latents, valid

    world.encode = encode


def context_is_the_next_step(world: World) -> None:
    def change(latents: Latents) -> Latents:
        latents[:, 0] = latents[:, 1]
        return latents

    _latents(world, change)


def targets_mixed_into_the_context(world: World) -> None:
    def change(latents: Latents) -> Latents:
        latents[:, 0] += (0.05 * latents[:, 1:].mean(axis=1)).astype(np.float16)
        return latents

    _latents(world, change)


def _passed(encoder: Encoder, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Latents of one clip of two tubelets."""
    return encoder.encode_clips(torch.from_numpy(frames[None]))[0].numpy()


def tubelets_in_a_prefix(world: World) -> None:
    """Each tubelet is encoded behind the one encoded before it, which may be a later one."""

    def encode(encoder: Encoder, block: FrameBlock) -> tuple[Latents, Latents]:
        latents, valid = encoder.encode(block)
        for row in range(1, len(latents)):
            for view, frames in enumerate(block.frames):
                both = np.concatenate([block.index[row - 1], block.index[row]])
                latents[row, 0, view] = _passed(encoder, frames[both])[encoder.tokens :]
        return latents, valid

    world.encode = encode


def steps_in_another_order(world: World) -> None:
    _latents(world, lambda latents: latents[:, [0, 2, 1, 3]])


def latents_of_two_samples_swapped(world: World) -> None:
    _latents(world, lambda latents: latents[::-1])


def views_of_latents_swapped(world: World) -> None:
    _latents(world, lambda latents: latents[:, :, ::-1])


def views_mixed_between_samples(world: World) -> None:
    """As the reference merges views: its second view is that of the next sample."""

    def change(latents: Latents) -> Latents:
        latents[:, :, 1] = np.roll(latents[:, :, 1], 1, axis=0)
        return latents

    _latents(world, change)


def stale_encoder(world: World) -> None:
    """Other weights than build.json names."""
    world.encoder = replace(world.encoder, seed=1)


def _frames(world: World, change: Callable[[FrameBlock], FrameBlock]) -> None:
    honest = recipe.cut_frames
    world.patch.setattr(recipe, "cut_frames", lambda *arguments: change(honest(*arguments)))


def bgr_for_the_encoder(world: World) -> None:
    _frames(world, lambda block: replace(block, frames=np.ascontiguousarray(block.frames[..., ::-1])))


def other_crop_than_said(world: World) -> None:
    honest: Any = clips.prepare_frame
    world.patch.setattr(
        clips, "prepare_frame", lambda frame, settings: honest(frame, FrameSettings(settings.crop_size, "crop"))
    )


PIPELINES = (
    LeakyPipeline(tubelet_straddling_now, "video", "L2", "source", "the context is not what the encoder makes"),
    LeakyPipeline(context_one_frame_late, "video", "L2", "source", "the context is not what the encoder makes"),
    LeakyPipeline(wrong_interval, "video", "L2", "source", "is not what the encoder makes"),
    LeakyPipeline(repeated_last_frame_as_future, "video", "L2", "source", "the latents of step 1 is not"),
    LeakyPipeline(whole_clip_in_one_bidirectional_pass, "video", "L2", "source", "the context is not"),
    LeakyPipeline(whole_clip_in_one_bidirectional_pass, "robot", "L2", "source", "the context is not"),
    LeakyPipeline(context_prefix_one_tubelet_too_long, "video", "L2", "source", "the context is not"),
    LeakyPipeline(context_is_the_next_step, "video", "L2", "source", "the context is not"),
    LeakyPipeline(targets_mixed_into_the_context, "video", "L2", "source", "the context is not"),
    LeakyPipeline(steps_in_another_order, "video", "L2", "source", "the latents of step 1 is not"),
    LeakyPipeline(latents_of_two_samples_swapped, "video", "L2", "source", "the context is not"),
    LeakyPipeline(views_of_latents_swapped, "robot", "L2", "source", "the context is not"),
    LeakyPipeline(views_mixed_between_samples, "robot", "L2", "source", "the context is not"),
    LeakyPipeline(stale_encoder, "video", "L2", "source", "the context is not"),
    LeakyPipeline(context_one_frame_late, "tubelet", "L2", "source", "the context is not what the encoder makes"),
    LeakyPipeline(tubelets_in_a_prefix, "tubelet", "L2", "source", "the latents of step 1 is not"),
    LeakyPipeline(bgr_for_the_encoder, "video", "L2", "source", "the context is not"),
    LeakyPipeline(other_crop_than_said, "video", "L2", "source", "the context is not"),
)
