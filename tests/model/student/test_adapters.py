"""Low-rank adapters of the backbone: what is trained, what a model with them computes, loading and merging."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint.checkpoint import load_weights, save_weights
from model.estimate import estimate_step
from model.settings import LoraSettings, ModelSettings
from model.student import adapters
from model.student.adapters import merged_adapters
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import SettingsError
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_settings

LORA = LoraSettings(rank=4, alpha=8.0)


def settings_with(lora: LoraSettings = LORA, **changes: object) -> ModelSettings:
    settings = small_settings()
    return replace(settings, backbone=replace(settings.backbone, lora=lora), **changes)


def trained_names(model: VLAJEPA) -> set[str]:
    return {name for name, parameter in model.student.named_parameters() if parameter.requires_grad}


def disturbed(model: VLAJEPA) -> VLAJEPA:
    """Adapters as after training: B is no longer 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in trained_names(model):
            parameter = model.student.get_parameter(name)
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def latent_actions(model: VLAJEPA) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().student(robot_observation())[0].latent_actions


def test_adapters_and_added_tokens_are_trained_and_nothing_else_of_the_student() -> None:
    model = build_model(settings_with(), SIZES, STATS)
    names = trained_names(model)
    layers = 2 * 7  # of each decoder layer: four of attention, three of the MLP
    assert sum("lora_A" in name for name in names) == sum("lora_B" in name for name in names) == layers
    (tokens,) = (name for name in names if "lora" not in name)
    assert model.student.get_parameter(tokens).shape == (5 + 1, 64)  # action tokens of 5 groups, and the embodied one
    before = {name: parameter.detach().clone() for name, parameter in model.student.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # A has a gradient once B is not 0
        optimizer.zero_grad()
        model.losses(robot_observation(), robot_targets(), torch.Generator().manual_seed(0)).total.backward()
        optimizer.step()
    moved = {name for name, p in model.student.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= names
    # The last layer's query, key and value act on action tokens alone, all others too: every adapter learns.
    assert names - moved == set()


def test_a_model_with_new_adapters_computes_what_it_did_without() -> None:
    plain, adapted = build_model(small_settings(), SIZES, STATS), build_model(settings_with(), SIZES, STATS)
    assert torch.equal(latent_actions(plain), latent_actions(adapted))
    assert not torch.allclose(latent_actions(plain), latent_actions(disturbed(adapted)), atol=1e-2)
    later = build_model(settings_with(), SIZES, STATS, adapters=False)
    later.add_adapters()  # as a run adds them, to weights that it has loaded
    again = build_model(settings_with(), SIZES, STATS)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, later.state_dict()[name]), name


def test_loaded_adapters_become_part_of_the_weights(tmp_path: Path) -> None:
    trained = disturbed(build_model(settings_with(), SIZES, STATS))
    save_weights(tmp_path / "with", trained, {})
    plain = build_model(replace(small_settings(), seed=9), SIZES, STATS)
    names, flags = list(plain.state_dict()), [p.requires_grad for p in plain.parameters()]
    with merged_adapters(plain.student.model, LORA, plain.student.prompts.added):
        load_weights(tmp_path / "with", plain)
    assert list(plain.state_dict()) == names
    assert [p.requires_grad for p in plain.parameters()] == flags
    torch.testing.assert_close(latent_actions(plain), latent_actions(trained), atol=1e-4, rtol=1e-4)


def test_what_is_frozen_has_no_adapter_that_learns() -> None:
    freeze = ("student.model.language_model.layers.0",)
    names = trained_names(build_model(settings_with(freeze=freeze), SIZES, STATS))
    assert not any("layers.0." in name for name in names)
    assert any("layers.1." in name for name in names)


def test_layers_are_chosen_by_the_ends_of_their_names() -> None:
    lora = replace(LORA, targets=("self_attn.q_proj", "attn.qkv"))
    names = trained_names(build_model(settings_with(lora), SIZES, STATS))
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names if "lora" in name} == {"q_proj", "qkv"}
    with pytest.raises(SettingsError, match=r"no linear layer ends in 'q'; they end in .*q_proj"):
        build_model(settings_with(replace(LORA, targets=("q",))), SIZES, STATS)


def test_without_peft_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(adapters, "find_spec", lambda name: None if name == "peft" else found(name))
    with pytest.raises(SettingsError, match=r"lora\.rank=4 needs the package peft: pip install 'vlajepa\[lora\]'"):
        build_model(settings_with(), SIZES, STATS)
    build_model(small_settings(), SIZES, STATS)


def test_the_estimate_counts_what_is_trained() -> None:
    plain, adapted = (estimate_step(settings, SIZES, 2) for settings in (small_settings(), settings_with()))
    model = build_model(settings_with(), SIZES, STATS)
    assert adapted.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad) < plain.trainable
    assert adapted.parameters["student"] == sum(p.numel() for p in model.student.parameters())
    assert adapted.moments == 8 * adapted.trainable
