"""A training step that reads its targets from a cache against the same step encoding them, and the ratio of FLOPs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pipeline.format.encoder_settings import encoder_flops
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from jobs.training.estimate import VITL_ENCODER
from model.batch import fill_views
from model.estimate import estimate_step
from model.settings import BackboneSettings, ModelSettings, tiny_settings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.schema import Observation, Sizes, Targets
from tests.benchmarks.packing import MID
from tests.benchmarks.preprocessing import ENCODER
from tests.benchmarks.report import interleaved, print_table, quietly

BATCH = 8
MID_ENCODER = {**ENCODER, "crop_size": 128}
SIZES = Sizes(views=1, image_size=224, steps=3, tokens=64, width=384, state=0, chunk=0, action=0)
FULL_SIZES = Sizes(views=2, image_size=224, steps=3, tokens=256, width=1024, state=8, chunk=7, action=7)
FULL = ModelSettings(backbone=BackboneSettings(kind="random"))
MODES = {
    "prefix": "each prefix by itself (our targets)",
    "clip": "one pass over the clip (the reference; leaks)",
}
INSTRUCTION = "pushing the red cup from left to right"


def run(folder: Path, repeats: int) -> None:
    """Time the step on video batches at a mid size, and print it beside the FLOPs there and at full size."""
    with quietly(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        VJEPA2Model(VJEPA2Config(**MID_ENCODER)).save_pretrained(folder)
    encoders = {
        mode: Encoder(
            EncoderSettings(name_or_path=str(folder), mode=mode, batch=BATCH, cpu_threads=torch.get_num_threads()),
            "cpu",
        )
        for mode in MODES
    }
    settings = _mid_settings()
    model = build_model(settings, SIZES, None).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    observation, clips = _batch()
    stored = encoders["prefix"].encode(clips)[0]
    runs: dict[str, Callable[[], float]] = {
        "targets from the cache": lambda: _timed(lambda: _step(model, optimizer, observation, stored))
    }
    for mode, text in MODES.items():
        runs[f"targets encoded, {text}"] = lambda encoder=encoders[mode]: _timed(
            lambda: _step(model, optimizer, observation, encoder.encode(clips)[0])
        )
    for warm_up in runs.values():
        warm_up()
    series = interleaved(runs, repeats)
    cached, *encoded = series.values()
    step = estimate_step(settings, SIZES, BATCH, ("video",), bf16=False, instruction=INSTRUCTION).flops
    ratios = []
    notes = [f"backbone text {MID.layers} x {MID.width}, encoder 6 x 384 on 128 px, batch {BATCH}, steps {SIZES.steps}"]
    for one, (mode, encoder) in zip(encoded, encoders.items(), strict=True):
        ratios.append(one.over(cached, f"{mode}: encoded / cached"))
        extra = BATCH * encoder_flops(encoder.identity(), SIZES.steps)
        notes.append(f"{mode}: FLOPs encoded / cached {(step + extra) / step:.2f}")
    full = estimate_step(FULL, FULL_SIZES, 1, ("robot", "video")).flops
    for mode in MODES:
        identity = {**VITL_ENCODER, "mode": mode, "tokens": FULL_SIZES.tokens}
        extra = (FULL_SIZES.views + 1) * encoder_flops(identity, FULL_SIZES.steps)
        notes.append(f"{mode}: FLOPs encoded / cached at full size, robot and video batch {(full + extra) / full:.2f}")
    print_table("Training step, targets cached or encoded in the step", "ms", list(series.values()), ratios, notes)


def _mid_settings() -> ModelSettings:
    tiny = tiny_settings(views=1)
    return replace(
        tiny,
        backbone=BackboneSettings(kind="tiny", image_size=SIZES.image_size, tiny=MID),
        predictor=replace(tiny.predictor, depth=6, heads=8, dim=512, views=1, init="reference"),
        attention="sdpa",
    )


def _batch() -> tuple[Observation[Tensor], FrameBlock]:
    """A batch of human video and the frames its targets are made of, one window an episode's worth of frames."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (BATCH, 1, 224, 224, 3), dtype=np.uint8))
    frames = 2 * (SIZES.steps + 1)
    side = MID_ENCODER["crop_size"]
    decoded = random.integers(0, 256, (1, BATCH * frames, side, side, 3), dtype=np.uint8)
    index = np.arange(BATCH * frames, dtype=np.int32).reshape(BATCH, frames)
    return Observation(images, (INSTRUCTION,) * BATCH, None), FrameBlock(decoded, index)


def _step(
    model: VLAJEPA, optimizer: torch.optim.Optimizer, observation: Observation[Tensor], latents: np.ndarray
) -> None:
    """One optimiser step on latents float16 [B, K+1, V, N, D]."""
    found = torch.from_numpy(latents)
    targets = Targets(
        context=fill_views(found[:, 0], 1, 1),
        latents=fill_views(found[:, 1:], 2, 1),
        latent_mask=torch.ones(BATCH, SIZES.steps, dtype=torch.bool),
        actions=None,
        action_mask=None,
    )
    optimizer.zero_grad(set_to_none=True)
    model.losses(observation, targets).total.backward()
    optimizer.step()


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)
