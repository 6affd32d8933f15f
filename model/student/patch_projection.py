"""The projection of image patches as one matrix product.

Patches do not overlap and arrive cut out, so Qwen3-VL's 3-D convolution over them is a matrix product, which every
device has a fast kernel for. Its gradient was half of the arithmetic of a small model's step on a CPU.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel


class PatchProjection(nn.Module):
    """Takes over the parameters of a convolution whose kernel covers its whole input; their names and shapes stay.

    Raises:
        ValueError: the convolution has groups or padding.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        if convolution.groups != 1 or any(convolution.padding):
            raise ValueError(f"the patch projection must be a convolution without groups or padding, got {convolution}")
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, patches: Tensor) -> Tensor:
        """[N, channels, frames, height, width] -> [N, E, 1, 1, 1]."""
        projected = functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return projected[:, :, None, None, None]


def project_patches_as_matrices(model: PreTrainedModel) -> None:
    """Let a Qwen3-VL project its patches so."""
    embedding = model.visual.patch_embed
    embedding.proj = PatchProjection(embedding.proj)
