from __future__ import annotations

import pytest
import torch
from torch import nn

from model.student.backbone import Student
from model.student.patch_projection import PatchProjection
from tests.model.helpers import small_settings


def test_equal_to_the_convolution_forwards_and_backwards() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(3, 8, kernel_size=(2, 4, 4), stride=(2, 4, 4))
    projection = PatchProjection(convolution)
    patches = torch.randn(10, 3, 2, 4, 4)
    gradients = []
    for layer in (convolution, projection):
        convolution.zero_grad()
        out = layer(patches)
        (out**2).sum().backward()
        assert convolution.weight.grad is not None
        assert convolution.bias is not None
        assert convolution.bias.grad is not None
        gradients.append((out, convolution.weight.grad.clone(), convolution.bias.grad.clone()))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_groups_and_padding_are_refused() -> None:
    for convolution in (nn.Conv3d(4, 8, (2, 4, 4), groups=2), nn.Conv3d(3, 8, (2, 4, 4), padding=1)):
        with pytest.raises(ValueError, match="without groups or padding"):
            PatchProjection(convolution)


def test_names_and_shapes_of_the_students_parameters_stay() -> None:
    settings = small_settings()
    student = Student(settings.backbone, settings.prompt, 2)
    weights = dict(student.model.named_parameters())
    assert isinstance(student.model.visual.patch_embed.proj, PatchProjection)
    assert weights["visual.patch_embed.proj.weight"].ndim == 5
    assert weights["visual.patch_embed.proj.bias"].ndim == 1
