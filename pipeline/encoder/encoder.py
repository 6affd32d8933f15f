"""Frames -> latents of the frozen V-JEPA 2 or 2.1 encoder.

Letters: V views, W windows, K steps, N tokens a step, D width.

Mode "prefix" (rule L2): z_k is the last tubelet of an encoding of the tubelets 0..k alone, so a later frame cannot move
it. Mode "tubelet" encodes each tubelet alone: z_k then depends on its two frames. Mode "clip" encodes everything in one
bidirectional pass, as the reference does; it exists for comparison and its builds are stamped leaky.

Bytes are a function of the plan: batches have a fixed composition and, on the CPU, a fixed number of threads. On CUDA
that holds among GPUs of one model with the same CUDA and cuDNN (`Encoder.machine`). The CPU computes as transformers
does, a length of clips at a time; CUDA packs clips of all lengths (`pipeline.encoder.packs`).
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, VJEPA2Config, VJEPA2Model

from pipeline.encoder.batches import cut_batches
from pipeline.encoder.device_frames import DeviceFrames, to_device, to_host
from pipeline.encoder.encoder_frames import FrameBlock, FrameSettings
from pipeline.encoder.encoder_weights import EncoderModel, cast_weights
from pipeline.encoder.machine import machine_of
from pipeline.encoder.packed_forward import PackedForward, Record
from pipeline.encoder.packs import cut_packs
from pipeline.encoder.pixels import IMAGENET_MEAN, IMAGENET_STD, imagenet, scaled
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.encoder.weights.loading import load_encoder_model
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import EncoderKind, FloatDtype
from pipeline.format.machine import Machine
from pipeline.format.settings import deciding

TINY_CONFIG: Mapping[str, int] = {
    "crop_size": 64,
    "frames_per_clip": 8,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pred_hidden_size": 32,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
"""`kind=tiny`: the same class as the real encoder, 16 tokens of width 96 a step."""


_Places: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Window, step and view of some latents."""


class Encoder:
    """The frozen encoder on one device.

    Args:
        settings: which encoder, and how it is run.
        device: a PyTorch device.
        attend: sets the model to an attention; None: PyTorch's.
        record: see `pipeline.encoder.packed_forward`. On CUDA both are of `model.encoder_kernels`; without `attend` it
            computes as the CPU does, slowly, and has another identity.

    Raises:
        SettingsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        device: str,
        attend: Callable[[PreTrainedModel], None] | None = None,
        record: Record | None = None,
    ) -> None:
        self.settings = settings
        self.device = torch.device(device)
        dtype = getattr(torch, settings.dtype)
        model = _load(settings).eval().requires_grad_(False)
        self._weights_sha256 = _hash_weights(model)
        cast_weights(model, dtype)
        self.model = model.to(self.device)
        if isinstance(self.model, VJEPA2Model):
            use_rotary_tables(layer.attention for layer in self.model.encoder.layer)
        if attend is not None:
            attend(self.model)
        config = self.model.config
        self.tokens = (config.crop_size // config.patch_size) ** 2
        self.width = config.hidden_size
        self.frame_settings = FrameSettings(config.crop_size, settings.resize)
        self._imagenet = imagenet(self.device)
        self._alone: AbstractContextManager[Any] = nullcontext()
        self.packed: PackedForward | None = None
        if self.device.type == "cuda" and attend is not None:
            self._alone = threading.Lock()  # what is recorded has one place for its results
            recorded = settings.compile and dtype is not torch.float32  # of float32 PyTorch has no packed attention
            self.packed = PackedForward(
                self.model, dtype, "inductor" if settings.compile else None, record if recorded else None
            )

    def identity(self, device_type: str | None = None) -> dict[str, Any]:
        """Everything about the encoder that changes a target's bytes, for the fingerprint.

        Args:
            device_type: "cpu" or "cuda" when another kind of device than this one will do the work.
        """
        config = self.model.config
        fast = self.packed is not None if device_type is None else device_type == "cuda"
        device_type = device_type or self.device.type
        settings = deciding(self.settings)
        if fast:
            settings["forward"] = "packed"  # see `PackedForward`; on the CPU it is transformers'
        else:
            del settings["compile"]
        if self.settings.kind == EncoderKind.PRETRAINED:
            del settings["seed"]
        if self.settings.dtype != FloatDtype.FLOAT32:
            settings["rotary"] = "float32"  # earlier builds have rotary positions of the autocast type
        return settings | {
            "class": type(self.model).__name__,
            "config_sha256": hashlib.sha256(_encoder_config(config)).hexdigest(),
            "weights_sha256": self._weights_sha256,
            "device": device_type,
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "crop_size": config.crop_size,
            "tokens": self.tokens,
            "width": self.width,
            "layers": config.num_hidden_layers,
            "mlp_ratio": config.mlp_ratio,
        }

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        return machine_of(self.device)

    @torch.inference_mode()
    def encode(self, block: FrameBlock) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Latents of every window of a block.

        Returns:
            float16 [W, K+1, V, N, D], zeros where the episode has ended, and bool [W, K+1], True where it has not.
            A zero is +0.0.
        """
        if self.device.type == "cpu":
            torch.set_num_threads(self.settings.cpu_threads)  # per thread: an actor may call from several
        valid: NDArray[np.bool_] = np.all((block.index >= 0).reshape(len(block.index), -1, 2), axis=2)
        shape = (*valid.shape, len(block.frames), self.tokens, self.width)
        out = torch.zeros(shape, dtype=torch.float16, device=self.device)
        with self._alone:
            for places, latents in self._latents(block, valid):
                out[tuple(to_device(place, self.device) for place in places)] = latents
        return to_host(out.add_(0.0)).numpy(), valid  # -0.0 + 0.0 is +0.0

    def _latents(self, block: FrameBlock, valid: NDArray[np.bool_]) -> Iterator[tuple[_Places, Tensor]]:
        """float16 [places, N, D] of every step of every window, a batch or a pack at a time."""
        frames, views, s = DeviceFrames(block, self.device), len(block.frames), self.settings
        if self.packed is None:
            for batch in cut_batches(valid, views, s.mode, s.batch):
                clips = frames.clips(batch.views, block.index[batch.rows, 2 * batch.first : 2 * batch.end])
                latents = self.encode_clips(clips)[:, -batch.kept * self.tokens :].unflatten(1, (batch.kept, -1))
                for step, found in enumerate(latents.unbind(1), batch.end - batch.kept):
                    yield (batch.rows, np.full_like(batch.rows, step), batch.views), found
            return
        for pack in cut_packs(valid, views, s.mode, s.batch):
            pairs = block.index[pack.rows[:, None], 2 * pack.steps[:, None] + np.arange(2)]
            latents = self.packed(frames.clips(pack.views, pairs), pack)[: pack.count]
            kept = pack.kept[: pack.count]
            yield (pack.rows[kept], pack.steps[kept], pack.views[kept]), latents

    def encode_clips(self, clips: Tensor) -> Tensor:
        """Clips uint8 [B, F, C, C, 3] -> float16 [B, T * N, D], as the module computes it."""
        dtype = getattr(torch, self.settings.dtype)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            return self.model.get_vision_features(scaled(clips, *self._imagenet)).to(torch.float16)


def _load(settings: EncoderSettings) -> EncoderModel:
    if settings.kind == EncoderKind.TINY:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return VJEPA2Model(VJEPA2Config(**TINY_CONFIG, attn_implementation="sdpa"))
    return load_encoder_model(settings)


def _encoder_config(config: VJEPA2Config) -> bytes:
    """The configuration without what depends on where and by which version it was loaded."""
    content = {k: v for k, v in config.to_dict().items() if not k.startswith("_") and k != "transformers_version"}
    return json.dumps(content, sort_keys=True, default=str).encode()


def _hash_weights(model: EncoderModel) -> str:
    """SHA-256 over names, shapes and float32 bytes of the encoder's tensors (not V-JEPA2's own predictor)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.float().cpu().contiguous().numpy().data if math.prod(tensor.shape) else b"")
    return digest.hexdigest()
