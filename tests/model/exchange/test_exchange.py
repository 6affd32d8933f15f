"""Checkpoints of the reference and of LeRobot: every tensor accounted for, there and back with the same outputs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.checkpoint import save_weights
from model.exchange.initial import load_initial
from model.exchange.lerobot import save_lerobot
from model.exchange.lerobot_config import policy_config
from model.exchange.lerobot_known import FEATURES, OF_A_POLICY, OF_WEIGHTS, WITHOUT_EFFECT, config_differences
from model.exchange.names import LM_HEAD, own_name, unused_reason
from model.exchange.starvla import load_starvla, save_starvla
from model.exchange.weights import foreign_weights, load_foreign
from model.meta_model import meta_model
from model.normalize import BuildStats, ChannelRange
from model.settings import BackboneSettings, ModelSettings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import BuildError, SettingsError
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_model, small_settings
from tests.model.student.test_loading import FULL_SIZES

CAMERAS = ("front", "wrist")
OTHER_STATS = BuildStats(ChannelRange((-9.0,) * 6, (1.0,) * 6), ChannelRange((0.3,) * 7, (0.4, 0.3, 5, 6, 7, 8, 9)))


def lerobot_settings() -> ModelSettings:
    """Sizes that LeRobot's policy can express: 4 x chunk action tokens, a predictor as wide as a latent."""
    settings = small_settings()
    return replace(
        settings,
        prompt=replace(settings.prompt, action_token_groups=4 * SIZES.chunk, embodied_tokens=4),
        predictor=replace(settings.predictor, dim=24, layer_norm_eps=1e-6),
        action_head=replace(settings.action_head, max_positions=1024),
    )


WIDE = replace(SIZES, width=24)


def lerobot_model(seed: int = 0, stats: BuildStats = STATS) -> VLAJEPA:
    return build_model(replace(lerobot_settings(), seed=seed), WIDE, stats).eval()


def outputs(model: VLAJEPA) -> dict[str, Tensor]:
    """Actions from fixed noise, and both losses."""
    observation, targets = robot_observation(), robot_targets()
    if model.sizes.width != SIZES.width:
        targets = replace(
            targets,
            context=targets.context.repeat(1, 1, 1, 3)[..., : model.sizes.width],
            latents=targets.latents.repeat(1, 1, 1, 1, 3)[..., : model.sizes.width],
        )
    start = torch.randn(4, SIZES.chunk, SIZES.action, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        losses = model.losses(observation, targets, torch.Generator().manual_seed(2))
        return {"act": model.act(observation, start=start), "wm": losses.world_model, "total": losses.total}


def assert_same(a: VLAJEPA, b: VLAJEPA) -> None:
    ours, theirs = outputs(a), outputs(b)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_every_tensor_of_the_released_checkpoint_is_accounted_for(reference_dir: Path) -> None:
    shapes = json.loads((reference_dir / "state_dict_starvla.json").read_text())
    assert len(shapes) == 1617
    model = meta_model(ModelSettings(backbone=BackboneSettings(kind="random")), FULL_SIZES)
    own = {name: tensor for name, tensor in model.state_dict().items() if "scaler" not in name}
    loaded = {own_name(name, "starvla"): name for name in shapes} | {}
    del loaded[None]
    assert loaded.keys() == own.keys()
    assert all(list(own[name].shape) == shapes[theirs] for name, theirs in loaded.items() if name is not None)
    rest = [name for name in shapes if own_name(name, "starvla") is None]
    assert len(loaded) + len(rest) == 1617
    assert [name for name in rest if unused_reason(name, "starvla") is None] == [LM_HEAD["starvla"]]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [False, True])
def test_a_reference_checkpoint_of_the_same_shape_gives_the_same_outputs(tmp_path: Path, extra: bool) -> None:
    source, target = small_model(seed=1), small_model(seed=2)
    assert not torch.equal(outputs(source)["act"], outputs(target)["act"])
    save_starvla(source, tmp_path / "released.pt")
    if extra:  # as released: with the target encoder and the predictor's unused layers
        content = torch.load(tmp_path / "released.pt")
        content["vj_encoder.encoder.layernorm.weight"] = torch.ones(3)
        content["vj_predictor.state_encoder.weight"] = torch.ones(3)
        torch.save(content, tmp_path / "released.pt")
    account = load_starvla(target, tmp_path / "released.pt")
    assert_same(source, target)
    assert set(account.loaded) == {name for name in source.state_dict() if "scaler" not in name}
    assert len(account.unused) == (3 if extra else 1)
    assert "never called by the reference" in account.text() or not extra
    assert "tied to" in account.text()


def test_what_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = foreign_weights(small_model(seed=1), "starvla")
    del tensors["vj_predictor.predictor_norm.weight"]
    tensors["vj_predictor.surprise"] = torch.zeros(1)
    tensors["other.thing"] = torch.zeros(1)
    tensors["action_model.action_decoder.layer2.bias"] = torch.zeros(9)
    with pytest.raises(SettingsError) as error:
        load_foreign(model, tensors, "starvla", "released.pt")
    for line in (
        "missing vj_predictor.predictor_norm.weight",
        "unknown vj_predictor.surprise",
        "unknown other.thing",
        "action_model.action_decoder.layer2.bias: (9,) in the file, (7,) in the model",
    ):
        assert line in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_another_robot_gets_fresh_weights_for_the_listed_parts_alone(tmp_path: Path) -> None:
    source = small_model(seed=1)
    save_starvla(source, tmp_path / "released.pt")
    sizes = replace(SIZES, action=4, state=3)
    stats = BuildStats(ChannelRange((-1.0,) * 3, (1.0,) * 3), ChannelRange((-1.0,) * 4, (1.0,) * 4))
    model = build_model(small_settings(5), sizes, stats)
    with pytest.raises(SettingsError, match=r"reinitialise=\[action_encoder,action_decoder,state_encoder\]"):
        load_starvla(model, tmp_path / "released.pt", ["action_encoder", "action_decoder"])
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parts = ["action_encoder", "action_decoder", "state_encoder"]
    account = load_starvla(model, tmp_path / "released.pt", parts)
    assert {name.split(".")[1] for name in account.reinitialised} == set(parts)
    released = source.state_dict()
    for name, tensor in model.state_dict().items():
        expected = fresh if name in account.reinitialised or "scaler" in name else released
        assert torch.equal(tensor, expected[name]), name
    with pytest.raises(SettingsError, match=r"reinitialise takes action_encoder, .*, got predictor"):
        load_starvla(model, tmp_path / "released.pt", ["predictor"])


@pytest.mark.slow
def test_a_lerobot_folder_gives_the_same_outputs_with_its_own_ranges(tmp_path: Path) -> None:
    source = lerobot_model(seed=1, stats=OTHER_STATS)
    notes = save_lerobot(source, tmp_path / "policy", CAMERAS, "facebook/vjepa2")
    assert "loads them from facebook/vjepa2" in notes[0]
    assert "causal_world_model_context=true" in notes[1]
    assert len(notes) == 2
    target = lerobot_model(seed=2)
    load_initial(target, tmp_path / "policy", scalers=True)
    assert_same(source, target)
    kept = lerobot_model(seed=2)  # a new run keeps the ranges of its builds
    load_initial(kept, tmp_path / "policy")
    assert torch.equal(kept.action_scaler.center, lerobot_model().action_scaler.center)  # type: ignore[union-attr]
    assert torch.equal(kept.predictor.predictor_proj.weight, source.predictor.predictor_proj.weight)


def test_the_files_of_a_lerobot_folder(tmp_path: Path) -> None:
    model = lerobot_model(stats=OTHER_STATS)
    save_lerobot(model, tmp_path / "policy", CAMERAS, "facebook/vjepa2")
    folder = tmp_path / "policy"
    names = set(load_file(folder / "model.safetensors"))
    assert {name.split(".")[1] for name in names} == {"qwen", "video_predictor", "action_model"}
    assert "model.qwen.model.model.language_model.embed_tokens.weight" in names
    config = json.loads((folder / "config.json").read_text())
    assert config["type"] == "vla_jepa"
    # LeRobot 0.6.1, which was tried, refuses these keys, and makes a gripper of two states unless it is told not to.
    assert not {"world_model_num_views", "causal_world_model_context"} & config.keys()
    assert config["binarize_gripper_action"] is config["pre_snap_gripper_action"] is False
    assert config["input_features"]["observation.images.wrist"] == {"type": "VISUAL", "shape": [3, 64, 64]}
    for processor in ("policy_preprocessor", "policy_postprocessor"):
        steps = json.loads((folder / f"{processor}.json").read_text())["steps"]
        files = [step["state_file"] for step in steps if "state_file" in step]
        # LeRobot derives the file's name from the processor's, the step's place and its registered name.
        place = next(i for i, step in enumerate(steps) if "state_file" in step)
        assert files == [f"{processor}_step_{place}_{steps[place]['registry_name']}.safetensors"]
        statistics = load_file(folder / files[0])
        torch.testing.assert_close(
            statistics["action.max"].float(), torch.tensor([0.4, 0.301, 5, 6, 7, 8, 9]), atol=1e-3, rtol=0
        )
    # What LeRobot computes with these, against ours: 2 (x - min) / (max - min) - 1.
    low, high = (statistics[f"observation.state.{key}"].float() for key in ("min", "max"))
    state = torch.randn(3, 6)
    assert model.state_scaler is not None
    torch.testing.assert_close(2 * (state - low) / (high - low) - 1, model.state_scaler(state))


def test_mean_and_standard_deviation_of_a_released_policy_become_the_scaling(tmp_path: Path) -> None:
    save_lerobot(lerobot_model(), tmp_path / "policy", CAMERAS, "e")
    processor = tmp_path / "policy" / "policy_preprocessor.json"
    processor.write_text(processor.read_text().replace('"STATE": "MIN_MAX"', '"STATE": "MEAN_STD"'))
    file = next((tmp_path / "policy").glob("policy_preprocessor_step_*.safetensors"))
    mean, std = torch.arange(6.0), torch.arange(6.0) + 1
    save_file({"observation.state.mean": mean, "observation.state.std": std}, file)
    model = lerobot_model()
    load_initial(model, tmp_path / "policy", scalers=True)
    assert model.state_scaler is not None
    state = torch.randn(2, 6)
    torch.testing.assert_close(model.state_scaler(state), (state - mean) / std)


@pytest.mark.parametrize("name", ["config.json", "policy_preprocessor.json"])
@pytest.mark.parametrize("what", ["pipe", "endless", "hole"])
def test_what_is_no_file_of_a_lerobot_folder_is_not_read(tmp_path: Path, name: str, what: str) -> None:
    save_lerobot(lerobot_model(), tmp_path / "policy", CAMERAS, "e")
    path = tmp_path / "policy" / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**40)
    with pytest.raises((SettingsError, BuildError)):
        load_initial(lerobot_model(), tmp_path / "policy", scalers=True)


def test_statistics_of_a_lerobot_folder_are_its_own(tmp_path: Path) -> None:
    save_lerobot(lerobot_model(), tmp_path / "policy", CAMERAS, "e")
    processor = tmp_path / "policy" / "policy_preprocessor.json"
    file = next((tmp_path / "policy").glob("policy_preprocessor_step_*.safetensors"))
    (tmp_path / "outside.safetensors").write_bytes(file.read_bytes())
    processor.write_text(processor.read_text().replace(file.name, "../outside.safetensors"))
    with pytest.raises(SettingsError, match="is no name of a file of the folder"):
        load_initial(lerobot_model(), tmp_path / "policy", scalers=True)


def test_a_policy_with_other_numbers_beside_its_shapes_is_refused(tmp_path: Path) -> None:
    save_lerobot(lerobot_model(), tmp_path / "policy", CAMERAS, "e")
    path = tmp_path / "policy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"predictor_num_heads": 3}))
    with pytest.raises(SettingsError, match=r"predictor_num_heads is 3, model\.predictor\.heads is 2"):
        load_initial(lerobot_model(), tmp_path / "policy")


def with_config(folder: Path, **changes: Any) -> Path:
    """A policy folder whose config.json has other values."""
    save_lerobot(lerobot_model(), folder, CAMERAS, "e")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_every_key_of_a_policy_that_counts_is_compared() -> None:
    """With one that is of the right kind, and with one that is not; null is a default."""
    model = lerobot_model()
    good = policy_config(model, CAMERAS, "e")
    assert config_differences(good, model, whole=True) == ([], [])
    for key in (*OF_WEIGHTS, *OF_A_POLICY):
        for odd in (3, "x", True, [9, 9], {"a": 1}):
            if type(odd) is int and good.get(key) == odd:
                continue
            (text,), _ = config_differences(good | {key: odd}, model, whole=True)
            assert text.startswith(f"{key} is ")
            of_weights, _ = config_differences(good | {key: odd}, model, whole=False)
            assert of_weights == ([text] if key in OF_WEIGHTS else [])
        assert config_differences(good | {key: None}, model, whole=True) == ([], [])


def test_every_key_of_lerobots_configuration_is_known_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    groups = [set(OF_WEIGHTS), set(OF_A_POLICY), set(WITHOUT_EFFECT), set(FEATURES)]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert policy_config(lerobot_model(), CAMERAS, "e").keys() <= set().union(*groups)
    assert set(LEROBOT_KEYS.split()) <= set().union(*groups)
    folder = with_config(tmp_path / "policy", n_heads_of_the_future=3)
    with pytest.raises(SettingsError, match="'n_heads_of_the_future' is a key that is not known here"):
        load_initial(lerobot_model(), folder)


LEROBOT_KEYS = """
n_obs_steps input_features output_features device use_amp use_peft push_to_hub repo_id private tags license type
pretrained_path pretrained_revision chunk_size n_action_steps normalization_mapping qwen_model_name jepa_encoder_name
freeze_qwen enable_world_model reinit_modules tokenizer_padding_side prompt_template special_action_token
embodied_action_token action_dim state_dim num_action_tokens_per_timestep num_embodied_action_tokens_per_instruction
num_inference_timesteps action_hidden_size action_model_type action_num_layers action_num_heads
action_attention_head_dim action_dropout action_num_timestep_buckets action_noise_beta_alpha action_noise_beta_beta
action_noise_s num_target_vision_tokens action_max_seq_len num_video_frames predictor_depth predictor_num_heads
predictor_mlp_ratio predictor_dropout world_model_loss_weight jepa_tubelet_size repeated_diffusion_steps
causal_world_model_context resize_images_to binarize_gripper_action pre_snap_gripper_action clip_normalized_actions
gripper_dim gripper_threshold torch_dtype policy_action_contract optimizer_lr optimizer_betas optimizer_eps
optimizer_weight_decay optimizer_grad_clip_norm scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"output_features": {"action": {"type": "ACTION", "shape": [6]}}},
            r"action has the shape \[6\], the model's",
        ),
        (
            {"input_features": {"observation.state": {"shape": 6}}},
            r"observation\.state has the shape 6, the model's is ",
        ),
        ({"input_features": {"observation.state": 6}}, r"observation\.state has the shape None, the model's is "),
        ({"input_features": {"a": {"type": "VISUAL"}}}, r"input_features has 1 cameras, sizes\.views is 2"),
        ({"input_features": [1]}, r"input_features must be an object, found \[1\]"),
    ],
)
def test_features_of_another_shape_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = with_config(tmp_path / "policy", **changes)
    with pytest.raises(SettingsError, match=message):
        load_initial(lerobot_model(), folder, scalers=True)


def test_what_lerobot_does_after_the_model_is_said_not_to_be_taken_over(tmp_path: Path) -> None:
    folder = with_config(tmp_path / "policy", binarize_gripper_action=True, clip_normalized_actions=True)
    rename_steps(folder, {"config": {"rename_map": {"observation.images.a": "observation.images.front"}}})
    text = load_initial(lerobot_model(), folder, scalers=True)
    assert "actions afterwards: clip_normalized_actions, binarize_gripper_action" in text
    assert "not taken over, no observation has a name here: rename_map {'observation.images.a'" in text
    assert "not taken over" not in load_initial(lerobot_model(), folder)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"registry_name": "half_of_all_actions"}, "'half_of_all_actions' is a step that is not known here"),
        ({"registry_name": 7}, "7 is a step that is not known here"),
        ({"registry_name": "relative_actions_processor", "config": {"enabled": True}}, "makes actions relative"),
    ],
)
def test_steps_of_a_processor_that_are_not_known_are_refused(
    tmp_path: Path, step: dict[str, Any], message: str
) -> None:
    folder = with_config(tmp_path / "policy")
    rename_steps(folder, step)
    with pytest.raises(SettingsError, match=message):
        load_initial(lerobot_model(), folder, scalers=True)


def rename_steps(folder: Path, changes: dict[str, Any]) -> None:
    """Change the first step of the preprocessor, which renames observations."""
    path = folder / "policy_preprocessor.json"
    content = json.loads(path.read_text())
    content["steps"][0] |= changes
    path.write_text(json.dumps(content))


def test_what_lerobot_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        save_lerobot(small_model(), tmp_path / "policy", ("front",), "e")
    for part in (
        "cameras must name the 2 views",
        "4 x chunk = 20",
        "future_tokens=4",
        "max_positions=64",
        "encoder (10)",
    ):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "policy").mkdir()
    with pytest.raises(FileExistsError, match="exists; choose another"):
        save_lerobot(lerobot_model(), tmp_path / "policy", CAMERAS, "e")


def test_an_own_checkpoint_starts_a_run_with_the_ranges_of_its_builds(tmp_path: Path) -> None:
    source = small_model(seed=1)
    save_weights(tmp_path / "start", source, {"model": asdict(source.settings)})
    model = build_model(small_settings(2), SIZES, OTHER_STATS).eval()
    load_initial(model, tmp_path / "start", ["state_encoder"])
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, source.state_dict()[name])
        fresh = "scaler" in name or ("state_encoder" in name and "weight" in name)
        assert same != fresh or "bias" in name, name
    other = build_model(
        small_settings(2), replace(SIZES, action=4), replace(STATS, action=ChannelRange((0,) * 4, (1,) * 4))
    )
    with pytest.raises(BuildError, match=r"action_head.action_decoder.layer2.bias: \(7,\) in the file, \(4,\)"):
        load_initial(other, tmp_path / "start")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    model = small_model()
    with pytest.raises(SettingsError, match="is no checkpoint: give a run or a step-"):
        load_initial(model, tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(SettingsError, match="is no PyTorch checkpoint of tensors alone"):
        load_initial(model, tmp_path / "broken.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    with pytest.raises(SettingsError, match="flat mapping of names to tensors"):
        load_initial(model, tmp_path / "numbers.pt")


@pytest.mark.parametrize(
    "odd",
    [
        {5: torch.zeros(1)},
        {("a",): torch.zeros(1)},
        {"x" * 2000: torch.zeros(1)},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"a": torch.zeros(2, 2).to_sparse_csr()},
        {"a": torch.zeros(2, device="meta")},
        {"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])},
        {"a": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)},
    ],
    ids=["number", "tuple", "long", "sparse", "csr", "meta", "nested", "quantised"],
)
def test_a_pt_file_holds_ordinary_tensors_under_texts(tmp_path: Path, odd: dict[Any, Tensor]) -> None:
    model = small_model()
    torch.save(foreign_weights(model, "starvla") | odd, tmp_path / "odd.pt")
    with pytest.raises(SettingsError, match=r"flat mapping of names to tensors|no PyTorch checkpoint of tensors alone"):
        load_starvla(model, tmp_path / "odd.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_loaded(value: float) -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = foreign_weights(small_model(seed=1), "starvla")
    name = "action_model.action_decoder.layer2.bias"
    tensors[name] = tensors[name].double().index_fill(0, torch.tensor([1]), value)
    with pytest.raises(SettingsError, match=rf"{name} holds values that are not finite in torch.float32"):
        load_foreign(model, tensors, "starvla", "released.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_list_of_what_does_not_fit_ends() -> None:
    tensors = {f"surprise.{i}": torch.zeros(1) for i in range(10_000)}
    with pytest.raises(SettingsError, match=r"… and \d+ more") as error:
        load_foreign(small_model(), tensors, "starvla", "released.pt")
    assert str(error.value).count("\n") < 110
