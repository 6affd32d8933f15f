"""Frames -> latents of the frozen V-JEPA 2 or 2.1 encoder.

Letters: V views, W windows, K steps, N tokens a step, D width.

Mode "prefix" (rule L2): z_k is the last tubelet of an encoding of the tubelets 0..k alone, so a later frame cannot move
it. Mode "tubelet" encodes each tubelet alone: z_k then depends on its two frames. Mode "clip" encodes everything in one
bidirectional pass, as the reference does; it exists for comparison and its builds are stamped leaky.

Bytes are a function of the plan: batches have a fixed composition and, on the CPU, a fixed number of threads. On CUDA
that holds among GPUs of one model with the same CUDA and cuDNN (`Encoder.machine`). A compiled encoder takes batches
of two sizes: the last clips of a block fill quarters of a batch, the last of these with clips that are dropped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, VJEPA2Config, VJEPA2Model

from pipeline.encoder.batches import cut_batches
from pipeline.encoder.device_frames import DeviceFrames, to_device, to_host
from pipeline.encoder.encoder_frames import FrameBlock, FrameSettings
from pipeline.encoder.encoder_weights import EncoderModel, cast_weights
from pipeline.encoder.forward import IMAGENET_MEAN, IMAGENET_STD, ForwardPass
from pipeline.encoder.machine import machine_of
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


class Encoder:
    """The frozen encoder on one device.

    Args:
        settings: which encoder, and how it is run.
        device: a PyTorch device.
        attend: sets the model to the attention of the settings, if that is not PyTorch's (who only asks for the
            encoder's identity needs none).

    Raises:
        SettingsError: the weights cannot be loaded.
    """

    def __init__(
        self, settings: EncoderSettings, device: str, attend: Callable[[PreTrainedModel], None] | None = None
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
        self._compiled = settings.compile and self.device.type == "cuda"
        self.forward = ForwardPass(
            self.model, dtype, exact=self.device.type != "cuda", backend="inductor" if self._compiled else None
        )

    def identity(self, device_type: str | None = None) -> dict[str, Any]:
        """Everything about the encoder that changes a target's bytes, for the fingerprint.

        Args:
            device_type: "cpu" or "cuda" when another kind of device than this one will do the work.
        """
        config = self.model.config
        device_type = device_type or self.device.type
        settings = deciding(self.settings)
        if device_type == "cuda":
            settings["forward"] = "fast"  # see `ForwardPass`; on the CPU it is exact
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
        frames = DeviceFrames(block, self.device)
        for batch in cut_batches(valid, shape[2], self.settings.mode, self.settings.batch, self._compiled):
            index = block.index[batch.rows, 2 * batch.first : 2 * batch.end]
            latents = self.forward(frames.clips(batch.views, index), batch.kept)[: batch.count]
            rows, views = (to_device(of[: batch.count], self.device) for of in (batch.rows, batch.views))
            for step, found in enumerate(latents.split(self.tokens, dim=1), batch.end - batch.kept):
                out[:, step][rows, views] = found
        return to_host(out.add_(0.0)).numpy(), valid  # -0.0 + 0.0 is +0.0


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
