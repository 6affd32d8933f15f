from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from model.backbone import Student
from model.settings import BackboneSettings
from pipeline.errors import SettingsError
from pipeline.schema import Observation
from tests.model.helpers import robot_observation, rows, small_settings, video_observation

STEPS = 3


@pytest.fixture(scope="module")
def student() -> Student:
    settings = small_settings()
    torch.manual_seed(0)
    return Student(settings.backbone, settings.prompt, STEPS).eval()


@torch.no_grad()
def test_robot_and_video_outputs_have_their_shapes(student: Student) -> None:
    robot, video = student(robot_observation()), student(video_observation())
    assert robot.latent_actions.shape == video.latent_actions.shape == (4, STEPS * 2, student.width)
    assert robot.embodied is not None
    assert robot.embodied.shape == (4, 3, student.width)
    assert video.embodied is None
    assert robot.latent_actions.dtype == torch.float32


@torch.no_grad()
def test_the_readout_stands_before_the_final_norm(student: Student) -> None:
    observation = robot_observation()
    outputs: list[torch.Tensor] = []
    last = student.model.language_model.layers[-1]
    handle = last.register_forward_hook(lambda _module, _args, out: outputs.append(out))
    before = student(observation).latent_actions
    handle.remove()
    positions = student.prompts.batch(observation.instruction, 2, True).action_positions
    expected = outputs[0].gather(1, positions[..., None].expand(-1, -1, student.width))
    assert torch.equal(before, expected)
    norm = student.model.language_model.norm
    assert not torch.allclose(norm(expected), expected)
    weight = norm.weight.clone()
    norm.weight.mul_(100.0)
    assert torch.equal(student(observation).latent_actions, before)
    norm.weight.copy_(weight)
    student.model.language_model.layers[-1].mlp.down_proj.weight.mul_(2.0)  # positive control
    assert not torch.equal(student(observation).latent_actions, before)
    student.model.language_model.layers[-1].mlp.down_proj.weight.div_(2.0)


@torch.no_grad()
def test_a_sample_does_not_depend_on_the_others(student: Student) -> None:
    observation = robot_observation()
    images = observation.images.clone()
    images[1] = 255 - images[1]
    changed = Observation(images, observation.instruction, observation.state)
    before, after = student(observation), student(changed)
    keep = [0, 2, 3]
    assert torch.equal(after.latent_actions[keep], before.latent_actions[keep])
    assert not torch.equal(after.latent_actions[1], before.latent_actions[1])
    # Alone there is no padding; with a longer instruction beside it there is.
    alone = student(rows(observation, [1])).latent_actions
    torch.testing.assert_close(alone, before.latent_actions[1:2], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_permuted_batch_gives_permuted_outputs(student: Student) -> None:
    observation = robot_observation()
    order = [2, 0, 3, 1]
    there = student(rows(observation, order)).latent_actions
    torch.testing.assert_close(there, student(observation).latent_actions[order], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_instruction_and_each_view_matter(student: Student) -> None:
    observation = robot_observation(1)
    before = student(observation).latent_actions
    for view in (0, 1):
        images = observation.images.clone()
        images[:, view] = 255 - images[:, view]
        assert not torch.equal(student(replace(observation, images=images)).latent_actions, before)
    assert not torch.equal(student(replace(observation, instruction=("close it",))).latent_actions, before)


def test_an_observation_has_no_field_for_a_target() -> None:
    assert [field.name for field in fields(Observation)] == ["images", "instruction", "state"]


def test_gradients_reach_every_trainable_weight(student: Student) -> None:
    output = student(robot_observation())
    assert output.embodied is not None
    (output.latent_actions.square().sum() + output.embodied.square().sum()).backward()
    missing = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
    frozen = [n for n, p in student.named_parameters() if not p.requires_grad]
    student.zero_grad()
    assert missing == []
    assert frozen == ["model.language_model.norm.weight"]


def test_images_that_fit_no_instruction_are_refused(student: Student) -> None:
    observation = robot_observation()
    with pytest.raises(ValueError, match=r"\[B, V, H, W, 3\] for 1 instructions, got \(4, 2, 64, 64, 3\)"):
        student(replace(observation, instruction=("one",)))


def test_missing_weights_are_refused_with_the_fix(tmp_path: Path) -> None:
    settings = BackboneSettings(name_or_path=str(tmp_path / "nothing-here"))
    with pytest.raises(SettingsError, match=r"nothing-here.* gives no Qwen3-VL"):
        Student(settings, small_settings().prompt, STEPS)


def test_a_saved_folder_is_loaded_with_the_same_weights_and_grows_for_the_added_tokens(tmp_path: Path) -> None:
    """The path real weights take: tokenizer and model from a folder, then the special tokens."""
    from model.loading import tiny_config
    from model.tokenizer import byte_tokenizer

    settings = small_settings()
    tokenizer = byte_tokenizer()
    torch.manual_seed(1)
    from transformers import Qwen3VLForConditionalGeneration

    saved = Qwen3VLForConditionalGeneration(tiny_config(settings.backbone, tokenizer))
    saved.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = BackboneSettings(name_or_path=str(tmp_path), image_size=64)
    loaded = Student(backbone, settings.prompt, STEPS).eval()
    rows_before = len(tokenizer)
    table = loaded.model.get_input_embeddings().weight
    assert len(table) == rows_before + settings.prompt.action_token_groups + 1
    assert torch.equal(table[:rows_before], saved.get_input_embeddings().weight)
    with torch.no_grad():
        assert loaded(robot_observation()).latent_actions.isfinite().all()
