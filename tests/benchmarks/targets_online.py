"""A training step that reads its targets from a cache against the same step encoding them, and the ratio of FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.training.estimate import VITL_ENCODER
from model.batch import fill_views
from model.estimate import estimate_step
from model.settings import BackboneSettings, ModelSettings, TinyBackboneSettings, tiny_settings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderIdentity, EncoderSettings
from pipeline.format.enums import EncoderMode
from pipeline.format.schema import Observation, Sizes, Targets
from tests.benchmarks.full_size_build import SIZES, VIDEO_SIZES
from tests.benchmarks.packing import FULL, MID, small_settings
from tests.benchmarks.random_encoder import MID_ENCODER, TINY_ENCODER, save_random_encoder
from tests.benchmarks.report import interleaved, print_table, seconds_of

MODES = {"prefix": "each prefix by itself (our targets)", "clip": "one pass over the clip (the reference; leaks)"}
INSTRUCTION = "pushing the red cup from left to right"


@dataclass(frozen=True)
class Scale:
    """Samples of a batch, what is timed, and the model for which FLOPs are counted as well."""

    batch: int = 8
    encoder: Mapping[str, Any] = field(default_factory=lambda: MID_ENCODER | {"crop_size": 128})
    backbone: TinyBackboneSettings = MID
    predictor_width: int = 512
    full: ModelSettings = FULL

    @property
    def sizes(self) -> Sizes:
        """Of human video that the encoder makes targets of."""
        tokens = (self.encoder["crop_size"] // 16) ** 2
        return replace(VIDEO_SIZES, tokens=tokens, width=self.encoder["hidden_size"])


TINY = Scale(1, TINY_ENCODER, TinyBackboneSettings(), 64, small_settings())


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Time the step on video batches at a mid size, and print it beside the FLOPs there and at full size."""
    save_random_encoder(folder, scale.encoder)
    sizes = scale.sizes
    encoders = {
        mode: Encoder(
            EncoderSettings(
                name_or_path=str(folder), mode=mode, batch=scale.batch, cpu_threads=torch.get_num_threads()
            ),
            "cpu",
        )
        for mode in MODES
    }
    settings = _mid_settings(scale)
    model = build_model(settings, sizes, None).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    observation, clips = _batch(scale)
    stored = encoders["prefix"].encode(clips)[0]
    runs: dict[str, Callable[[], float]] = {
        "targets from the cache": lambda: 1e3 * seconds_of(lambda: _step(model, optimizer, observation, stored))
    }
    for mode, text in MODES.items():
        runs[f"targets encoded, {text}"] = lambda encoder=encoders[mode]: (
            1e3 * seconds_of(lambda: _step(model, optimizer, observation, encoder.encode(clips)[0]))
        )
    for warm_up in runs.values():
        warm_up()
    series = interleaved(runs, repeats)
    cached, *encoded = series.values()
    step = estimate_step(settings, sizes, scale.batch, ("video",), bf16=False, instruction=INSTRUCTION).flops
    ratios = []
    tiny, encoding = scale.backbone, scale.encoder
    notes = [
        f"backbone text {tiny.layers} x {tiny.width}, encoder {encoding['num_hidden_layers']} x "
        f"{encoding['hidden_size']} on {encoding['crop_size']} px, batch {scale.batch}, steps {sizes.steps}"
    ]
    for one, (mode, encoder) in zip(encoded, encoders.items(), strict=True):
        ratios.append(one.over(cached, f"{mode}: encoded / cached"))
        extra = scale.batch * EncoderIdentity.read(encoder.identity()).flops(sizes.steps)
        notes.append(f"{mode}: FLOPs encoded / cached {(step + extra) / step:.2f}")
    full = estimate_step(scale.full, SIZES, 1, ("robot", "video")).flops
    for mode in MODES:
        identity = replace(VITL_ENCODER, mode=EncoderMode(mode), tokens=SIZES.tokens)
        extra = (SIZES.views + 1) * identity.flops(SIZES.steps)
        notes.append(f"{mode}: FLOPs encoded / cached at full size, robot and video batch {(full + extra) / full:.2f}")
    print_table("Training step, targets cached or encoded in the step", "ms", list(series.values()), ratios, notes)


def _mid_settings(scale: Scale) -> ModelSettings:
    tiny = tiny_settings(views=1)
    return replace(
        tiny,
        backbone=BackboneSettings(kind="tiny", image_size=scale.sizes.image_size, tiny=scale.backbone),
        predictor=replace(tiny.predictor, depth=6, heads=8, dim=scale.predictor_width, views=1, init="reference"),
        attention="sdpa",
    )


def _batch(scale: Scale) -> tuple[Observation[Tensor], FrameBlock]:
    """A batch of human video and the frames its targets are made of, one window an episode's worth of frames."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (scale.batch, 1, 224, 224, 3), dtype=np.uint8))
    frames = 2 * (scale.sizes.steps + 1)
    side = scale.encoder["crop_size"]
    decoded = random.integers(0, 256, (1, scale.batch * frames, side, side, 3), dtype=np.uint8)
    index = np.arange(scale.batch * frames, dtype=np.int32).reshape(scale.batch, frames)
    return Observation(images, (INSTRUCTION,) * scale.batch, None), FrameBlock(decoded, index)


def _step(
    model: VLAJEPA, optimizer: torch.optim.Optimizer, observation: Observation[Tensor], latents: np.ndarray
) -> None:
    """One optimiser step on latents float16 [B, K+1, V, N, D]."""
    found = torch.from_numpy(latents)
    targets = Targets(
        context=fill_views(found[:, 0], 1, 1),
        latents=fill_views(found[:, 1:], 2, 1),
        latent_mask=torch.ones(len(found), found.shape[1] - 1, dtype=torch.bool),
        actions=None,
        action_mask=None,
    )
    optimizer.zero_grad(set_to_none=True)
    model.losses(observation, targets).total.backward()
    optimizer.step()
