"""The cluster that a prediction is made for."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.format.enums import FloatDtype
from pipeline.format.settings import checked, setting


class Reached(NamedTuple):
    """A share of a GPU's bfloat16 peak, FLOP/s, that was measured."""

    peak: float
    share: float


ENCODER_REACHED = Reached(989e12, 0.43)
"""ViT-L compiled, 64 windows at a time, on an H200: 243 windows/s, 423 TFLOP/s (docs/results.md)."""

STEP_REACHED = Reached(989e12, 0.34)
"""A full-size step, 16 + 16 samples, compiled, with CUDA graphs, on an H200: 274 ms, 338 TFLOP/s (docs/results.md)."""

MEASURED, ASSUMED = "measured on an H200", "assumed"


@checked
class Hardware:
    """The cluster that is predicted for: section `hardware`. The defaults are 8 NVIDIA A100 in one machine."""

    gpus: int = setting(
        "GPUs that encode; 0: the encoders share the cores with decoding", default=8, decides=False, at_least=0
    )
    flops: float = setting(
        "dense bfloat16 (and float16) peak of a GPU (A100: 312e12, its data sheet)",
        default=312e12,
        decides=False,
        unit="FLOP/s",
        above=0,
    )
    float32_flops: float = setting(
        "float32 peak of a GPU without TF32, for encoder.dtype=float32 (A100: 19.5e12, same sheet)",
        default=19.5e12,
        decides=False,
        unit="FLOP/s",
        above=0,
    )
    utilisation: float = setting(
        "share of the peak that the encoder reaches: 0.4 for 40 %",
        default=0.4,
        decides=False,
        above=0,
        at_most=1,
    )
    step_utilisation: float = setting(
        "share of the bfloat16 peak that a training step reaches, for `estimate`",
        default=0.4,
        decides=False,
        above=0,
        at_most=1,
    )
    cores: int = setting(
        "processors of all nodes together that decode (96: a rented machine of 8 A100)",
        default=96,
        decides=False,
        at_least=1,
    )
    core_flops: float = setting(
        "rate that the encoder reaches on one core, used with gpus=0 alone (80e9: ViT-L in float32 on one core of an "
        "AMD EPYC, measured; the tiny encoder reaches 36e9)",
        default=80e9,
        decides=False,
        unit="FLOP/s",
        above=0,
    )
    read_mb_s: float = setting(
        "rate at which raw data is read, 10^6 bytes a second over all nodes together",
        default=2375.0,
        decides=False,
        unit="MB/s",
        above=0,
    )
    write_mb_s: float = setting(
        "rate at which the build is written (2375: 19 Gbit/s, the block storage of a rented machine of 8 A100)",
        default=2375.0,
        decides=False,
        unit="MB/s",
        above=0,
    )
    startup_s: float = setting(
        "time until Ray answers and the encoders are loaded (assumed)",
        default=60.0,
        decides=False,
        unit="seconds",
        at_least=0,
    )

    def encoder_flops(self, dtype: FloatDtype) -> float:
        """FLOP/s of everything that encodes, together.

        Args:
            dtype: `EncoderSettings.dtype`.
        """
        if not self.gpus:
            return self.cores * self.core_flops
        return self.gpus * self.utilisation * (self.float32_flops if dtype == FloatDtype.FLOAT32 else self.flops)

    def encoder_basis(self, dtype: FloatDtype) -> str:
        """Where `utilisation` comes from; see `encoder_flops`."""
        reached = Reached(self.flops, self.utilisation)
        return MEASURED if reached == ENCODER_REACHED and dtype != FloatDtype.FLOAT32 else ASSUMED

    @property
    def step_flops(self) -> float:
        """FLOP/s of a training step on one GPU; without GPUs on all cores."""
        return self.flops * self.step_utilisation if self.gpus else self.cores * self.core_flops

    @property
    def step_basis(self) -> str:
        """Where `step_utilisation` comes from."""
        return MEASURED if Reached(self.flops, self.step_utilisation) == STEP_REACHED else ASSUMED
