"""Pipelines as other projects write them: functions that `vlajepa probe` is pointed at, honest and leaky ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import VJEPA2Config, VJEPA2Model

Frames = NDArray[np.uint8]
STEPS = 3


@lru_cache
def encoder() -> VJEPA2Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = VJEPA2Config(
            crop_size=32,
            frames_per_clip=8,
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            pred_hidden_size=32,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        )
        return VJEPA2Model(config).eval()


@torch.inference_mode()
def encode(frames: Frames) -> torch.Tensor:
    """uint8 [U, H, W, 3] -> float32 [U/2, N, D]."""
    pixels = torch.from_numpy(frames[:, ::2, ::2][:, :32, :32].astype(np.float32) / 255).permute(0, 3, 1, 2)
    latents = encoder().get_vision_features(pixels[None])[0]
    return latents.reshape(len(frames) // 2, -1, latents.shape[-1])


def whole_clip(frames: Frames, now: int) -> tuple[Any, Any]:
    """As the reference and LeRobot's vla_jepa encode: one bidirectional pass over now .. now+7, then a split."""
    latents = encode(frames[now : now + 2 * (STEPS + 1)])
    return latents[0], latents[1:]


def prefix(frames: Frames, now: int) -> tuple[Any, Any]:
    """As this project does: each step from the frames up to its end."""
    parts = [encode(frames[now - 1 : now + 1 + 2 * step])[-1] for step in range(STEPS + 1)]
    return {"latent": parts[0], "image": frames[now], "text": "close the drawer"}, parts[1:]


def brightness_of_the_clip(frames: Frames, now: int) -> tuple[Any, Any]:
    """An image normalised by the whole clip: a statistic that knows the future."""
    image = frames[now].astype(np.float32) / frames.mean(dtype=np.float64).astype(np.float32)
    return {"image": image, "latent": encode(frames[now - 1 : now + 1])}, encode(frames[now + 1 : now + 7])


def progress(frames: Frames, now: int) -> tuple[Any, Any]:
    """The share of the episode that has passed: knows when it ends, whatever the frames show."""
    return {"image": frames[now], "progress": np.float32(now / len(frames) + frames[now].mean())}, frames[now + 1 :][:4]


def one_late_frame(frames: Frames, now: int) -> tuple[Any, Any]:
    """An off-by-three: the image is right, the state image is that of now+3."""
    return {"image": frames[now], "wrist": frames[now + 3]}, frames[now + 1 :][:4]


def a_bit(frames: Frames, now: int) -> tuple[Any, Any]:
    """The lowest bit of one value of the context holds whether the next frame is brighter."""
    context = encode(frames[now - 1 : now + 1]).numpy()
    bits = context.view(np.uint32)
    bits[0, 0, 0] = bits[0, 0, 0] & ~np.uint32(1) | np.uint32(int(frames[now + 1].astype(int).sum()) & 1)
    return context, encode(frames[now + 1 : now + 7])


def dithered(frames: Frames, now: int) -> tuple[Any, Any]:
    """Honest but not deterministic."""
    noise = np.random.default_rng().normal(0, 1e-3, frames[now].shape)
    return frames[now] + noise, frames[now + 1 : now + 4]


def dithered_leak(frames: Frames, now: int) -> tuple[Any, Any]:
    return dithered(frames, now)[0] + frames[now + 2], frames[now + 1 : now + 4]


def split_prefix(frames: Frames, now: int) -> tuple[Any, Any]:
    context, targets = prefix(frames, now)
    return context["latent"], np.stack(targets)


def blind(frames: Frames, now: int) -> tuple[Any, Any]:
    return np.ones(3), frames[now + 1 : now + 4]


def failing(frames: Frames, now: int) -> tuple[Any, Any]:
    raise KeyError("observation.images.front")


def no_pair(frames: Frames, now: int) -> Any:
    return {"context": 0}


def read_entry(path: Path) -> Any:
    """Of a cache of .npz files."""
    if path.suffix != ".npz":
        return None
    with np.load(path) as entry:
        return entry["frames"], int(entry["now"]), entry["context"], entry["targets"]
