"""What latents were computed on, as build.json records it for every shard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Where all of it is equal, and the libraries of `settings.versions` are, latents are equal to the bit.

    device     model of the GPU, or of the CPU with the instructions that PyTorch uses
    cuda, cudnn  versions; "" on the CPU
    precision  of float32 matrix products in PyTorch: "highest" without TF32
    """

    device: str
    cuda: str
    cudnn: str
    precision: str

    def __str__(self) -> str:
        versions = f", CUDA {self.cuda}, cuDNN {self.cudnn}" if self.cuda else ""
        return f"{self.device}{versions}, {self.precision} precision"
