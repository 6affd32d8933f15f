"""Full size without memory, and random weights that are as good as built in one go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Qwen3VLModel

from model.meta_model import meta_model
from model.settings import BackboneSettings, ModelSettings, PromptSettings, TinyBackboneSettings
from model.student.backbone import Student
from model.student.loading import _random, tiny_config
from model.student.tokenizer import byte_tokenizer
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError
from pipeline.format.schema import Observation, Sizes
from tests.model.helpers import small_settings

FULL_SIZES = Sizes(views=2, image_size=224, steps=3, tokens=256, width=1024, state=8, chunk=7, action=7)
UNUSED_PREDICTOR_WEIGHTS = 1024 * 2048 + 1024 + 1024 * 2047 + 1024
"""`state_encoder` and `extrinsics_encoder` of the reference's predictor, which nothing calls."""


@pytest.fixture(scope="module")
def full_size() -> VLAJEPA:
    return meta_model(ModelSettings(backbone=BackboneSettings(kind="random")), FULL_SIZES)


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_full_size_model_has_the_references_parameters(full_size: VLAJEPA) -> None:
    assert {parameter.device.type for parameter in full_size.parameters()} == {"meta"}
    assert count(full_size.student) == 2_127_532_032
    assert count(full_size.predictor) + UNUSED_PREDICTOR_WEIGHTS == 161_647_616  # the reference's 161.6 M
    assert count(full_size.action_head) == 155_182_343


def test_every_full_size_shape_is_the_references(full_size: VLAJEPA, reference_dir: Path) -> None:
    shapes = json.loads((reference_dir / "state_dict_starvla.json").read_text())
    names = {
        "student.model": "qwen_vl_interface.model.model",
        "predictor": "vj_predictor",
        "action_head": "action_model",
    }
    for name, parameter in full_size.named_parameters():
        prefix = next(own for own in names if name.startswith(own))
        assert list(parameter.shape) == shapes[names[prefix] + name.removeprefix(prefix)], name
    reference = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith("vj_predictor."))
    assert reference - count(full_size.predictor) == UNUSED_PREDICTOR_WEIGHTS


def test_a_configuration_that_is_missing_is_refused(tmp_path: Path) -> None:
    backbone = BackboneSettings(name_or_path=str(tmp_path / "nothing-here"))
    with pytest.raises(SettingsError, match=r"nothing-here.* gives no Qwen3-VL"):
        meta_model(ModelSettings(backbone=backbone), FULL_SIZES)


def test_a_materialised_model_is_initialised_and_its_rotary_buffers_are_right() -> None:
    config = tiny_config(small_settings().backbone, byte_tokenizer())
    direct = Qwen3VLModel(config)
    torch.manual_seed(0)
    model = _random(config, torch.float32)
    buffers = dict(direct.named_buffers())
    assert buffers
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    for (name, ours), (_, theirs) in zip(model.named_parameters(), direct.named_parameters(), strict=True):
        assert ours.isfinite().all(), name
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.3, abs=2e-3), name
    torch.manual_seed(0)
    again = _random(config, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_random_weights_come_in_the_dtype_of_the_settings() -> None:
    config = tiny_config(replace(small_settings().backbone, dtype="bfloat16"), byte_tokenizer())
    assert {p.dtype for p in _random(config, torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("width", [32, 128])
def test_an_image_reaches_the_embodied_tokens_of_a_tiny_model(width: int) -> None:
    """With Qwen's 0.02 the tokens were 0.04 in size, and 0.008 of it differed between images."""
    tiny = TinyBackboneSettings(layers=3, width=width, heads=2, vision_layers=4, vision_width=width, vision_heads=2)
    student = Student(BackboneSettings(kind="tiny", image_size=96, tiny=tiny), PromptSettings(embodied_tokens=8), 3)
    images = torch.randint(0, 256, (4, 2, 96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        embodied = student(Observation(images, ("pick it up",) * 4, torch.zeros(4, 8)))[0].embodied
    assert embodied is not None
    assert 0.3 < embodied.abs().mean() < 3
    assert embodied.std(dim=0).mean() > 0.05
