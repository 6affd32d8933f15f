from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from model.attention.attention import Packed, attention
from model.settings import BackboneSettings
from model.student.backbone import Student
from pipeline.errors import SettingsError
from pipeline.format.schema import Observation
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
    prompts = student.prompts.batch(observation.instruction, 2, True)
    lengths = prompts.attention_mask.sum(dim=1).tolist()
    # Packed: the prompts stand one after the other, without the padding on their left.
    ends = [sum(lengths[: i + 1]) - prompts.input_ids.shape[1] for i in range(len(lengths))]
    expected = torch.stack([outputs[0][0, end + row] for end, row in zip(ends, prompts.action_positions, strict=True)])
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


def pair(kind: str, **changes: object) -> tuple[Student, Student]:
    """The same weights packed and padded."""
    settings = small_settings()
    students = []
    for packed in (True, False):
        torch.manual_seed(0)
        backbone = replace(settings.backbone, packed=packed, **changes)
        students.append(Student(backbone, settings.prompt, STEPS, kind).eval())
    return students[0], students[1]


@pytest.mark.parametrize("robot", [True, False])
def test_packed_and_padded_give_the_same_outputs_and_gradients(robot: bool) -> None:
    observation = robot_observation() if robot else video_observation()
    packed, padded = pair("sdpa")
    results = []
    for student in (packed, padded):
        output = student(observation)
        outputs = [x for x in (output.latent_actions, output.embodied) if x is not None]
        torch.stack([x.square().sum() for x in outputs]).sum().backward()
        results.append((outputs, {name: p.grad for name, p in student.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
    assert results[0][1].keys() == results[1][1].keys()
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_packing_computes_the_tokens_of_the_prompts_alone() -> None:
    observation = robot_observation()
    packed, padded = pair("sdpa")
    sizes = []
    for student in (packed, padded):
        seen: list[torch.Tensor] = []
        handle = student.model.language_model.layers[0].register_forward_hook(
            lambda _m, _a, out, seen=seen: seen.append(out)
        )
        student(observation)
        handle.remove()
        sizes.append(seen[0].shape[:2])
    lengths = packed.prompts.batch(observation.instruction, 2, True).attention_mask.sum(dim=1)
    assert sizes == [(1, int(lengths.sum())), (4, int(lengths.max()))]


@torch.no_grad()
def test_text_and_vision_run_on_the_chosen_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both reach the one attention function: text causal within prompts, vision within images, one call a layer."""
    import model.attention.transformers_attention as registered

    masks: list[Packed | None] = []

    def remember(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Packed, *rest: object) -> torch.Tensor:
        masks.append(mask)
        return attention(q, k, v, mask, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(registered, "attention", remember)
    student = pair("sdpa")[0]
    before = student(robot_observation()).latent_actions
    vision, text = masks[:2], masks[2:]
    assert vision == [Packed((16,) * 8)] * 2  # 4 samples x 2 views of 4 x 4 patches
    lengths = student.prompts.batch(robot_observation().instruction, 2, True).attention_mask.sum(dim=1)
    assert text == [Packed(tuple(lengths.tolist()), causal=True)] * 2
    # Without our keyword, transformers' own words for the same thing give the same numbers.
    monkeypatch.setattr(registered, "attention", attention)
    pixels = torch.randn(32, 1536)
    grid = torch.tensor([[1, 4, 4]] * 2)
    ours = student.model.get_image_features(pixels, grid, packed=Packed((16, 16)), return_dict=True).pooler_output
    theirs = student.model.get_image_features(pixels, grid, return_dict=True).pooler_output
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.isfinite(before).all()


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain, saving = pair("sdpa")[0], pair("sdpa", gradient_checkpointing=True)[0]
    saving.train()
    plain.train()
    gradients = []
    for student in (plain, saving):
        student(robot_observation()).latent_actions.square().sum().backward()
        gradients.append({name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)


def test_a_padded_batch_is_refused_by_the_packed_attention(student: Student) -> None:
    ids = torch.ones(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="takes packed sequences, a batch of 1; got 2"):
        student.model(input_ids=ids)
    with pytest.raises(ValueError, match="packed sequences without dropout; a padded batch needs sdpa"):
        student.model(input_ids=ids[:1], attention_mask=torch.ones(1, 1, 4, 4))


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
    from model.student.tokenizer import byte_tokenizer

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
