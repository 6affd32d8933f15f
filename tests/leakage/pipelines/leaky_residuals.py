"""Whispers: so little of the future that any tolerance would let it pass, in images, latents, states and actions.

Those of `FORGED` also claim another machine or other libraries than made them, so that nobody who has what the build
names can be asked for the bytes: they are refused, and found by bounds and statistics if the auditor insists.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.preprocess import plan as planning
from pipeline.building import shard_jobs
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import InputSettings
from pipeline.format.input_sample import InputSample
from pipeline.format.libraries import library_versions
from pipeline.planning import recipe
from pipeline.samples import inputs
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.truncated import TruncatedEpisode
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import Latents, World

Change = Callable[[Latents], None]
"""Changes latents float16 [W, K+1, V, N, D] in place."""

Paint = Callable[[TruncatedEpisode, str], bytes]
"""Episode and view -> JPEG."""


def _whisper(world: World, change: Change) -> None:
    def encode(encoder: Encoder, block: FrameBlock) -> tuple[Latents, Latents]:
        latents, valid = encoder.encode(block)
        changed = latents.copy()
        change(changed)
        return changed, valid

    world.encode = encode


def _mix(amount: float, step: int, later: int) -> Change:
    def change(latents: Latents) -> None:
        own, future = latents[:, step].astype(np.float32), latents[:, later].astype(np.float32)
        latents[:, step] = (own + amount * (future - own)).astype(np.float16)

    return change


def whisper_below_float32_tolerance(world: World) -> None:
    """Where latents differed by less than 0.0002, they passed."""
    _whisper(world, _mix(1e-3, 0, 3))


def whisper_in_bfloat16(world: World) -> None:
    world.encoder = replace(world.encoder, dtype="bfloat16")
    _whisper(world, _mix(0.02, 0, 3))


def whisper_in_a_later_step(world: World) -> None:
    _whisper(world, _mix(1e-3, 1, 2))


def _last_bits(latents: Latents) -> None:
    """The lowest bit of each value of the context says whether it grows until the last step."""
    grows = (latents[:, -1] > latents[:, 0]).astype(np.uint16)
    bits = latents[:, 0].copy().view(np.uint16)
    latents[:, 0] = ((bits & 0xFFFE) | grows).view(np.float16)


def last_bits_of_the_context(world: World) -> None:
    _whisper(world, _last_bits)


def one_last_bit_of_a_sample(world: World) -> None:
    """A single bit of the context: whether the episode's brightness rises."""

    def change(latents: Latents) -> None:
        grows = (latents[:, -1].mean(axis=(1, 2, 3)) > latents[:, 0].mean(axis=(1, 2, 3))).astype(np.uint16)
        bits = latents[:, 0, 0, 0, 0].copy().view(np.uint16)
        latents[:, 0, 0, 0, 0] = ((bits ^ 1) & 0xFFFE | grows).view(np.float16)

    _whisper(world, change)


def last_bits_of_tubelets(world: World) -> None:
    """In mode tubelet every latent is a row of its own; the row's sum chooses the last bit of its first value."""

    def change(latents: Latents) -> None:
        bits = latents[..., 0, 0].copy().view(np.uint16)
        latents[..., 0, 0] = (bits ^ 1).view(np.float16)

    _whisper(world, change)


def _near_ties(latents: NDArray[np.float16]) -> Any:
    """int8 values within 0.05 of the middle of two are rounded towards the future."""
    values, scale, sums = _HONEST(latents)
    exact = latents.astype(np.float32) / np.where(scale > 0, scale, 1)[..., None]
    near = np.abs(exact - np.floor(exact) - 0.5) < 0.05
    grows = latents[:, -1:] > latents[:, :1]
    chosen = np.where(near & (np.abs(values) < 126), np.floor(exact) + grows, values).astype(np.int8)
    chosen[:, 1:] = values[:, 1:]
    return chosen, scale, sums


_HONEST = shard_jobs.quantise_windows


def near_ties_of_int8(world: World) -> None:
    world.patch.setattr(shard_jobs, "quantise_windows", _near_ties)


def scale_of_the_next_float16(world: World) -> None:
    """A scale that some float16 has, but not the token's own largest value."""

    def next_scale(latents: NDArray[np.float16]) -> Any:
        values, scale, sums = _HONEST(latents)
        largest = np.abs(latents[:, 0, 0, 0]).max(axis=-1)
        scale[:, 0, 0, 0] = np.nextafter(largest, np.float16(np.inf)).astype(np.float32) / np.float32(127)
        return values, scale, sums

    world.patch.setattr(shard_jobs, "quantise_windows", next_scale)


def _encoded(world: World, encode: Paint) -> None:
    """Other JPEGs, of the size of the build."""
    honest = inputs.build_input

    def leaky(past: TruncatedEpisode, key: str, episode: str, source: str, views: Any, settings: Any) -> InputSample:
        sample = honest(past, key, episode, source, views, settings)
        return replace(sample, images=tuple(encode(past, view) for view in views))

    world.patch.setattr(recipe, "build_input", leaky)


def _current(past: TruncatedEpisode, view: str) -> Image.Image:
    return _resized(past.frames(view, [past.now])[0])


def _resized(frame: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(frame).resize((64, 64), Image.Resampling.BICUBIC)


def _saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=InputSettings().jpeg_quality, subsampling=0, **options)
    return buffer.getvalue()


def huffman_tables_of_the_image(world: World) -> None:
    """The same pixels, in a file whose tables tell images apart."""
    _encoded(world, lambda past, view: _saved(_current(past, view), optimize=True))


def _ghost(amount: float, ahead: int) -> Paint:
    def encode(past: TruncatedEpisode, view: str) -> bytes:
        episode = past._episode
        at = min(past.now + ahead, episode.num_frames - 1)
        now, later = (episode.frames(view, [frame])[0].astype(np.float32) for frame in (past.now, at))
        mixed = np.rint(now + amount * (later - now)).astype(np.uint8)
        return _saved(_resized(mixed))

    return encode


def ghost_of_the_next_step(world: World) -> None:
    _encoded(world, _ghost(0.02, 4))


def fill_bits_of_a_jpeg(world: World) -> None:
    """The bits after the last block, zeros in place of ones: where there are any, the image is the same."""

    def encode(past: TruncatedEpisode, view: str) -> bytes:
        jpeg = _saved(_current(past, view))
        return jpeg[:-3] + bytes([jpeg[-3] & 0xFE]) + jpeg[-2:]

    _encoded(world, encode)


def last_bits_of_the_state(world: World) -> None:
    """A channel's last bit says whether it is larger four frames on."""
    honest = OpenedEpisode.state

    def leaky(self: OpenedEpisode, index: int) -> Any:
        own = honest(self, index)
        if own is None:
            return own
        later = honest(self, min(index + 4, self.num_frames - 1))
        assert later is not None
        bits = own.copy().view(np.uint32)
        return ((bits & 0xFFFFFFFE) | (later > own)).astype(np.uint32).view(np.float32)

    world.patch.setattr(OpenedEpisode, "state", leaky)


def last_bit_of_an_action(world: World) -> None:
    honest = OpenedEpisode.actions

    def leaky(self: OpenedEpisode, start: int, stop: int) -> Any:
        actions = honest(self, start, stop)
        if actions is None:
            return actions
        bits = actions.copy()
        bits.view(np.uint32)[0, 0] ^= 1
        return bits

    world.patch.setattr(OpenedEpisode, "actions", leaky)


def _claim_version(world: World, name: str) -> None:
    world.patch.setattr(planning, "library_versions", lambda: {**library_versions(), name: "1.2.3"})


def _claim_device(world: World) -> None:
    """The build says that it was encoded on a GPU that nobody has."""
    honest = Encoder.machine.fget  # type: ignore[attr-defined]
    world.patch.setattr(
        Encoder, "machine", property(lambda self: replace(honest(self), device="NVIDIA H900", cuda="14.0", cudnn="9"))
    )


def ghost_behind_another_pillow(world: World) -> None:
    _claim_version(world, "pillow")
    ghost_of_the_next_step(world)


def ghost_behind_another_ffmpeg(world: World) -> None:
    _claim_version(world, "ffmpeg")
    _encoded(world, _ghost(0.05, 8))


def tables_behind_another_libjpeg(world: World) -> None:
    _claim_version(world, "libjpeg")
    huffman_tables_of_the_image(world)


def fill_bits_behind_another_decord(world: World) -> None:
    _claim_version(world, "decord")
    fill_bits_of_a_jpeg(world)


def whisper_behind_another_device(world: World) -> None:
    _claim_device(world)
    _whisper(world, _mix(1e-3, 0, 3))


def whisper_behind_another_torch(world: World) -> None:
    world.encoder = replace(world.encoder, dtype="bfloat16")
    _claim_version(world, "torch")
    _whisper(world, _mix(0.02, 0, 2))


def last_bits_behind_another_device(world: World) -> None:
    _claim_device(world)
    _whisper(world, _last_bits)


def near_ties_behind_another_device(world: World) -> None:
    _claim_device(world)
    near_ties_of_int8(world)


def float32_that_claims_bfloat16(world: World) -> None:
    """Latents of a float32 encoder with a whisper, in a build that claims an encoder of more noise."""
    world.claimed_dtype = "bfloat16"
    _whisper(world, _mix(0.01, 0, 3))


PIPELINES = (
    LeakyPipeline(whisper_below_float32_tolerance, "video", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(whisper_in_bfloat16, "video", "L2", "source", "the context is not what the encoder makes"),
    LeakyPipeline(whisper_in_a_later_step, "robot", "L2", "source", "the latents of step 1 is not"),
    LeakyPipeline(last_bits_of_the_context, "video", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(one_last_bit_of_a_sample, "video", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(last_bits_of_tubelets, "tubelet", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(near_ties_of_int8, "int8", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(scale_of_the_next_float16, "int8", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(float32_that_claims_bfloat16, "video", "L2", "source", "(not equal to the bit)"),
    LeakyPipeline(huffman_tables_of_the_image, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(ghost_of_the_next_step, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(fill_bits_of_a_jpeg, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(last_bits_of_the_state, "robot", "L8", "source", "the state is not that of frame"),
    LeakyPipeline(last_bit_of_an_action, "robot", "L8", "source", "the actions are not those from frame"),
)

FORGED = (
    LeakyPipeline(ghost_behind_another_pillow, "video", "L1", "source", "quantisation steps"),
    LeakyPipeline(ghost_behind_another_ffmpeg, "robot", "L1", "source", "quantisation steps"),
    LeakyPipeline(tables_behind_another_libjpeg, "video", "L1", "source", "its tables or headers are not those"),
    LeakyPipeline(fill_bits_behind_another_decord, "video", "L1", "source", "filled with ones"),
    LeakyPipeline(whisper_behind_another_device, "video", "L2", "source", "follows step 3: over the build"),
    LeakyPipeline(whisper_behind_another_torch, "video", "L2", "source", "follows step 2"),
    LeakyPipeline(last_bits_behind_another_device, "video", "L2", "source", "follows step 3"),
    LeakyPipeline(near_ties_behind_another_device, "int8", "L2", "source", "follows step 3"),
)
"""Refused as they are (exit code 2); found where the auditor accepts an inexact audit."""
