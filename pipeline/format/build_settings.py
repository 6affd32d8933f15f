"""The settings of a build, section by section, as the command line gives them and build.json records them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.format.enums import (
    Attention,
    EncoderKind,
    EncoderMode,
    FloatDtype,
    LatentDtype,
    Release,
    Resize,
    WindowEnd,
)
from pipeline.format.json.typed_json import from_json
from pipeline.format.settings import checked, setting


@checked
class WindowPolicy:
    """Which windows are taken from an episode: section `window`."""

    steps: int = setting("future steps K of a window (reference: 3)", default=3, at_least=1)
    interval: int = setting("source frames between two sampled frames (reference: 1)", default=1, at_least=1)
    chunk: int = setting("actions in a chunk T (reference: 7); ignored for human video", default=7, at_least=1)
    every: int = setting("take every m-th frame as the present; 0: use per_episode", default=1, at_least=0)
    per_episode: int = setting(
        "take so many frames of an episode, evenly spread, as the present; 0: use every", default=0, at_least=0
    )
    end: WindowEnd = setting(
        "drop windows that reach past the end of the episode, or pad: keep them and mask what is missing",
        default=WindowEnd.DROP,
    )

    skip_idle: int = setting(
        "leave out windows at whose present no channel of the state has changed for so many frames; 0: keep them",
        default=0,
        at_least=0,
    )
    idle_change: float = setting(
        "largest change of a channel over these frames that counts as none, in the state's own units",
        default=0.001,
        at_least=0,
    )

    def __post_init__(self) -> None:
        if (self.every > 0) == (self.per_episode > 0):
            raise ValueError(
                f"set exactly one of every and per_episode above 0, got every={self.every}, "
                f"per_episode={self.per_episode}"
            )


@checked
class InputSettings:
    """How the current frame is stored: section `inputs`."""

    image_size: int = setting(
        "side of the square JPEG (reference: 224); the frame is resized, not cropped",
        default=224,
        unit="pixels",
        at_least=16,
        at_most=4096,
    )
    jpeg_quality: int = setting("JPEG quality; chroma is never subsampled", default=95, at_least=1, at_most=100)


@checked
class EncoderSettings:
    """Which encoder makes the targets, and how: section `encoder`."""

    kind: EncoderKind = setting(
        "tiny: random weights from `seed`; pretrained: weights from `name_or_path`", default=EncoderKind.PRETRAINED
    )
    release: Release = setting(
        "released encoder whose sizes the weights must have; any: those of the config.json beside them, which a .pt "
        "file has not; set by encoder=NAME",
        default=Release.ANY,
        decides=False,
    )
    name_or_path: str = setting(
        "model name, local folder, or a file (.pt, .safetensors); the hash of its weights is recorded in its place",
        default="facebook/vjepa2-vitl-fpc64-256",
        decides=False,
    )
    seed: int = setting("of the tiny encoder's weights", default=0)
    mode: EncoderMode = setting(
        "prefix: z_k from the tubelets 0..k alone (rule L2); tubelet: each step encoded alone and stored once for all "
        "windows that share it; clip: as the reference, leaky",
        default=EncoderMode.PREFIX,
    )
    resize: Resize = setting(
        "crop: shorter side to 8/7 of the input's, centre crop, as V-JEPA2; squash: the whole frame",
        default=Resize.CROP,
    )
    dtype: FloatDtype = setting("type that the encoder computes in; its norms stay float32", default=FloatDtype.FLOAT32)
    attention: Attention = setting(
        "sdpa (PyTorch) or xformers (CUDA); bytes depend on it, so it is never chosen by what is installed",
        default=Attention.SDPA,
    )
    compile: bool = setting(
        "compile the encoder (CUDA; no effect on the CPU): faster, other rounding; the first pass of each size waits "
        "for seconds",
        default=True,
    )
    batch: int = setting("clips encoded together; bytes may depend on it", default=16, at_least=1)
    cpu_threads: int = setting(
        "threads of one encoder process on the CPU; bytes may depend on it", default=1, at_least=1
    )


@checked
class LatentSettings:
    """How latents are stored: section `latents`."""

    dtype: LatentDtype = setting(
        "float16, or int8 with a scale for each token: half the bytes", default=LatentDtype.FLOAT16
    )


@checked
class ShardSettings:
    """How episodes are packed into shards; episodes are never split: section `shards`."""

    samples: int = setting("a shard is closed once it is expected to hold so many samples", default=256, at_least=1)
    group_samples: int = setting(
        "targets are decoded in groups of whole episodes of about so many samples, and at most so many are encoded and "
        "written at a time",
        default=64,
        at_least=1,
    )


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder as a build records it: everything about it that changes a target's bytes.

    device      kind of device that it ran on: "cpu" or "cuda"
    crop_size   side of its square input, pixels
    tokens      N of a step and view;  width  D
    layers, mlp_ratio  of its transformer
    """

    mode: EncoderMode
    resize: Resize
    dtype: FloatDtype
    device: str
    crop_size: int
    tokens: int
    width: int
    layers: int
    mlp_ratio: float

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> EncoderIdentity:
        """The identity of its stored form, which holds more. Raises ValueError: it is not complete."""
        names = {field.name for field in dataclasses.fields(cls)}
        return from_json(cls, {name: value for name, value in content.items() if name in names}, "settings.encoder")

    def flops(self, steps: int) -> float:
        """Multiply-add FLOPs (2 a MAC) to encode one view of one window of K = `steps` future steps, or of one tubelet
        in mode "tubelet".

        A transformer layer of width D on L tokens costs 2 L (4 + 2 mlp_ratio) D^2 for its matrices and 4 L^2 D for
        attention; the patch embedding 2 L D (3 * 2 * 16 * 16).
        """
        passes = {EncoderMode.TUBELET: [1], EncoderMode.CLIP: [steps + 1]}.get(self.mode, range(1, steps + 2))
        lengths = [tubelets * self.tokens for tubelets in passes]
        matrices = sum(lengths) * (2 * (4 + 2 * self.mlp_ratio) * self.width**2 * self.layers + 2 * self.width * 1536)
        return matrices + sum(length**2 for length in lengths) * 4 * self.width * self.layers


@dataclass(frozen=True)
class BuildSettings:
    """The settings that plan.json and build.json record: everything that changes a byte.

    content  as stored, with what is not typed: source, dataset, versions, description
    """

    content: Mapping[str, Any]
    window: WindowPolicy
    inputs: InputSettings
    encoder: EncoderIdentity
    latents: LatentSettings
    shards: ShardSettings
    splits: tuple[str, ...]

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> BuildSettings:
        """The settings of their stored form.

        Raises:
            ValueError: they are not complete, or a value is wrong.
        """
        sections = [field.name for field in dataclasses.fields(cls) if field.name != "content"]
        if missing := [name for name in (*sections, "source") if name not in content]:
            raise ValueError(f"settings lack {missing[0]!r}")
        if not isinstance(content["source"], dict) or not isinstance(content["source"].get("name"), str):
            raise ValueError(f"settings.source must be an object with a name, found {content['source']!r:.80}")
        if not isinstance(content["splits"], list | tuple) or not all(isinstance(s, str) for s in content["splits"]):
            raise ValueError(f"settings.splits must be a list of names, found {content['splits']!r:.80}")
        if not isinstance(content["encoder"], dict):
            raise ValueError(f"settings.encoder must be an object, found {content['encoder']!r:.80}")
        return cls(
            content=content,
            window=from_json(WindowPolicy, content["window"], "settings.window"),
            inputs=from_json(InputSettings, content["inputs"], "settings.inputs"),
            encoder=EncoderIdentity.read(content["encoder"]),
            latents=from_json(LatentSettings, content["latents"], "settings.latents"),
            shards=from_json(ShardSettings, content["shards"], "settings.shards"),
            splits=tuple(content["splits"]),
        )

    @property
    def source_name(self) -> str:
        """Name of the source: the first part of every key."""
        return str(self.content["source"]["name"])
