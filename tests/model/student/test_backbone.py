from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from model.attention.packed import Packed, packed_attention
from model.attention.transformers_attention import use_attention
from model.settings import BackboneSettings
from model.student.backbone import Student
from model.student.loading import tiny_config
from model.student.tokenizer import byte_tokenizer
from model.student.vision import image_tokens
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
    (robot,), (video,) = student(robot_observation()), student(video_observation())
    assert robot.latent_actions.shape == video.latent_actions.shape == (4, STEPS * 2, student.width)
    assert robot.embodied is not None
    assert robot.embodied.shape == (4, 3, student.width)
    assert video.embodied is None
    assert robot.latent_actions.dtype == torch.float32


@torch.no_grad()
def test_the_readout_is_before_the_final_norm(student: Student) -> None:
    observation = robot_observation()
    outputs: list[torch.Tensor] = []
    last = student.model.language_model.layers[-1]
    handle = last.register_forward_hook(lambda _module, _args, out: outputs.append(out))
    before = student(observation)[0].latent_actions
    handle.remove()
    expected = outputs[0][0][student.prepare(observation).prompts.readouts[0].actions]
    assert torch.equal(before, expected)
    norm = student.model.language_model.norm
    assert not torch.allclose(norm(expected), expected)
    weight = norm.weight.clone()
    norm.weight.mul_(100.0)
    assert torch.equal(student(observation)[0].latent_actions, before)
    norm.weight.copy_(weight)
    student.model.language_model.layers[-1].mlp.down_proj.weight.mul_(2.0)  # positive control
    assert not torch.equal(student(observation)[0].latent_actions, before)
    student.model.language_model.layers[-1].mlp.down_proj.weight.div_(2.0)


@torch.no_grad()
def test_a_sample_does_not_depend_on_the_others(student: Student) -> None:
    observation = robot_observation()
    images = observation.images.clone()
    images[1] = 255 - images[1]
    changed = Observation(images, observation.instruction, observation.state)
    (before,), (after,) = student(observation), student(changed)
    keep = [0, 2, 3]
    assert torch.equal(after.latent_actions[keep], before.latent_actions[keep])
    assert not torch.equal(after.latent_actions[1], before.latent_actions[1])
    # Alone there is no padding; with a longer instruction beside it there is.
    alone = student(rows(observation, [1]))[0].latent_actions
    torch.testing.assert_close(alone, before.latent_actions[1:2], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_permuted_batch_gives_permuted_outputs(student: Student) -> None:
    observation = robot_observation()
    order = [2, 0, 3, 1]
    there = student(rows(observation, order))[0].latent_actions
    torch.testing.assert_close(there, student(observation)[0].latent_actions[order], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_instruction_and_each_view_matter(student: Student) -> None:
    observation = robot_observation(1)
    before = student(observation)[0].latent_actions
    for view in (0, 1):
        images = observation.images.clone()
        images[:, view] = 255 - images[:, view]
        assert not torch.equal(student(replace(observation, images=images))[0].latent_actions, before)
    assert not torch.equal(student(replace(observation, instruction=("close it",)))[0].latent_actions, before)


def students(*changes: dict[str, object]) -> list[Student]:
    """The same weights with other settings of the backbone."""
    settings, made = small_settings(), []
    for change in changes:
        torch.manual_seed(0)
        made.append(Student(replace(settings.backbone, **change), settings.prompt, STEPS, "sdpa").eval())  # type: ignore[arg-type]
    return made


def by_transformers(student: Student, observation: Observation[torch.Tensor]) -> list[torch.Tensor]:
    """Latent actions and embodied tokens by transformers' own forward pass: its attention, one prompt at a time."""
    inputs = student.prepare(observation)
    for module in student.model.modules():
        if isinstance(module, PreTrainedModel):
            module.config._attn_implementation = "sdpa"
    ends = inputs.prompts.packed.starts.tolist()
    images, grid = observation.images.shape[1], torch.tensor([[1, 4, 4]]).expand(observation.images.shape[1], 3)
    patches = inputs.patches.split(16 * images)
    rows: list[torch.Tensor] = []
    handle = student.model.language_model.norm.register_forward_pre_hook(lambda _m, args: rows.append(args[0][0]))
    for start, end, pixels in zip(ends, ends[1:], patches, strict=False):
        ids = inputs.prompts.input_ids[None, start:end]
        types = (ids == student.prompts.image_id).int()
        student.model(input_ids=ids, pixel_values=pixels, image_grid_thw=grid, mm_token_type_ids=types, use_cache=False)
    handle.remove()
    readout = inputs.prompts.readouts[0]
    hidden = torch.cat(rows)
    return [hidden[rows] for rows in (readout.actions, readout.embodied) if rows is not None]


@pytest.mark.parametrize("robot", [True, False])
def test_outputs_and_gradients_are_those_of_transformers(robot: bool) -> None:
    observation = robot_observation() if robot else video_observation()
    results = []
    for student, ours in zip(students({}, {}), (True, False), strict=True):
        torch.nn.init.normal_(student.model.visual.pos_embed.weight)
        student.model.visual.pos_embed.weight.data = torch.linspace(-1, 1, 16)[:, None].expand(16, 32).clone()
        outputs = by_transformers(student, observation)
        if ours:
            student = students({})[0]
            student.model.visual.pos_embed.weight.data = torch.linspace(-1, 1, 16)[:, None].expand(16, 32).clone()
            (output,) = student(observation)
            outputs = [x for x in (output.latent_actions, output.embodied) if x is not None]
        torch.stack([x.square().sum() for x in outputs]).sum().backward()
        results.append((outputs, {name: p.grad for name, p in student.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
    assert results[0][1].keys() == results[1][1].keys()
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)


def test_positions_in_the_image_are_spread_over_a_learned_table_of_another_size() -> None:
    """As for Qwen3-VL-2B at 224 pixels: 48 x 48 learned positions, 14 x 14 patches."""
    settings = small_settings()
    config = tiny_config(settings.backbone, byte_tokenizer()).vision_config
    config.num_position_embeddings = 81
    torch.manual_seed(0)
    visual = Qwen3VLVisionModel(config).eval()
    torch.nn.init.normal_(visual.pos_embed.weight)
    patches = torch.randn(3 * 36, 3, 2, 16, 16)
    expected = visual(patches, torch.tensor([[1, 6, 6]] * 3))
    use_attention(visual, "sdpa")
    tokens, features = image_tokens(visual, patches, 3, False)
    torch.testing.assert_close(tokens, expected.pooler_output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, expected.deepstack_features, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_robots_and_video_in_one_pass_give_what_each_gives_alone(student: Student) -> None:
    together = student(video_observation(), robot_observation())
    alone = (*student(video_observation()), *student(robot_observation()))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.latent_actions, b.latent_actions, rtol=1e-4, atol=1e-6)
    assert together[0].embodied is None
    torch.testing.assert_close(together[1].embodied, alone[1].embodied, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_padding_of_the_packed_prompts_changes_nothing(student: Student) -> None:
    padded = student.read(student.prepare(robot_observation(), padded_to=256))
    assert torch.equal(padded[0].latent_actions, student(robot_observation())[0].latent_actions)


@torch.no_grad()
def test_text_and_vision_run_on_the_chosen_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both reach the one attention operator: text causal within prompts, vision within images, one call a layer."""
    import model.attention.transformers_attention as registered

    masks: list[Packed] = []

    def remember(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packed: Packed, *rest: object) -> torch.Tensor:
        masks.append(packed)
        return packed_attention(q, k, v, packed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(registered, "packed_attention", remember)
    (student,) = students({})
    student(robot_observation())
    vision, text = masks[:2], masks[2:]
    assert [(mask.starts.diff().tolist(), mask.causal) for mask in vision] == [([16] * 8, False)] * 2
    lengths = student.prepare(robot_observation()).prompts.packed.starts.diff().tolist()
    assert [(mask.starts.diff().tolist(), mask.causal) for mask in text] == [(lengths, True)] * 2


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain, saving = students({}, {"gradient_checkpointing": True})
    saving.train()
    plain.train()
    gradients = []
    for student in (plain, saving):
        student(robot_observation())[0].latent_actions.square().sum().backward()
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
    (output,) = student(robot_observation())
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
        assert loaded(robot_observation())[0].latent_actions.isfinite().all()
