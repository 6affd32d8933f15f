"""Values that settings and builds choose from, each typed once."""

from __future__ import annotations

from enum import StrEnum


class EncoderMode(StrEnum):
    """How the target encoder sees the frames of a window.

    PREFIX   z_k from an encoding of the tubelets 0..k alone (rule L2)
    TUBELET  each tubelet encoded alone, stored once for all windows that share it
    CLIP     everything in one bidirectional pass, as the reference does; its builds are stamped leaky
    """

    PREFIX = "prefix"
    TUBELET = "tubelet"
    CLIP = "clip"


class EncoderKind(StrEnum):
    """Where an encoder's weights come from: loaded, or drawn from a seed at a tiny size."""

    TINY = "tiny"
    PRETRAINED = "pretrained"


class Release(StrEnum):
    """A released encoder; ANY: whatever config.json beside the weights describes."""

    ANY = "any"
    VITL = "vitl"
    VITH = "vith"
    VITG = "vitg"
    VITG_384 = "vitg_384"
    VJEPA2_1_BASE = "vjepa2_1_base"
    VJEPA2_1_LARGE = "vjepa2_1_large"
    VJEPA2_1_GIANT = "vjepa2_1_giant"
    VJEPA2_1_GIGANTIC = "vjepa2_1_gigantic"


class Resize(StrEnum):
    """How a raw frame becomes the encoder's square input.

    CROP    shorter side to 8/7 of the input's, centre crop, as V-JEPA2's own processor does
    SQUASH  the whole frame, the same field of view as the student's image
    """

    CROP = "crop"
    SQUASH = "squash"


class FloatDtype(StrEnum):
    """Floating-point type of a computation."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class LatentDtype(StrEnum):
    """How latents are stored; int8 with a float32 scale for each token."""

    FLOAT16 = "float16"
    INT8 = "int8"


class Attention(StrEnum):
    """An attention kernel: PyTorch's, or xFormers' (CUDA)."""

    SDPA = "sdpa"
    XFORMERS = "xformers"


class WindowEnd(StrEnum):
    """A window that reaches past the end of its episode is dropped, or kept with what is missing masked."""

    DROP = "drop"
    PAD = "pad"


class AuditLevel(StrEnum):
    """How deep an audit goes; each level includes those before it.

    MANIFEST  build.json, samples.parquet, plan and ledger
    SHARDS    every byte of the shards
    SOURCE    samples made again from the raw data
    PERTURB   the future replaced, and the present compared
    """

    MANIFEST = "manifest"
    SHARDS = "shards"
    SOURCE = "source"
    PERTURB = "perturb"

    def includes(self, other: AuditLevel) -> bool:
        """Whether this level is at least as deep as another."""
        levels = list(AuditLevel)
        return levels.index(self) >= levels.index(other)


class Verify(StrEnum):
    """How samples that are read are compared with the audited manifest.

    EVERY_SAMPLE  by SHA-256, each time
    ONCE          by SHA-256 the first time, then by a keyed hash of the verified bytes that is kept on the node
    OFF           not at all
    """

    EVERY_SAMPLE = "every_sample"
    ONCE = "once"
    OFF = "off"


class Device(StrEnum):
    """Where a command computes; AUTO: CUDA if there is a device, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
