"""The estimate of a step beside the same step really run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.estimate import LiveMemory, estimate_step
from model.settings import BackboneSettings, ModelSettings
from model.student.loading import load_backbone
from model.vla_jepa import build_model
from pipeline.format.schema import Observation
from tests.model.helpers import (
    SIZES,
    STATS,
    robot_observation,
    robot_targets,
    small_model,
    small_settings,
    video_observation,
    video_targets,
)

BATCHES = {
    "robot": lambda count: (robot_observation(count), robot_targets(count)),
    "video": lambda count: (video_observation(count), video_targets(count)),
}
INSTRUCTION = "open it"


def checkpointed(settings: ModelSettings) -> ModelSettings:
    parts = ("backbone", "predictor", "action_head")
    return replace(settings, **{part: replace(getattr(settings, part), gradient_checkpointing=True) for part in parts})


def measured(settings: ModelSettings, kind: str, bf16: bool) -> tuple[int, int, int]:
    """FLOPs forward and backward, and the highest number of bytes, of a real step."""
    counts = []
    for counter in (FlopCounterMode(display=False), None):
        model = build_model(settings, SIZES, STATS).train()
        if bf16:
            for parameter in model.parameters():
                parameter.data = parameter.data.bfloat16()
        observation, targets = BATCHES[kind](4)
        observation = Observation(observation.images, (INSTRUCTION,) * 4, observation.state)
        with counter or LiveMemory(model.parameters()) as mode:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                total = model.losses(observation, targets).total
            forward = 0 if counter is None else counter.get_total_flops()
            total.backward()
        counts += [mode.peak] if counter is None else [forward, counter.get_total_flops() - forward]  # type: ignore[union-attr]
    return counts[0], counts[1], counts[2]


@pytest.mark.slow
@pytest.mark.parametrize(("bf16", "saving"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["robot", "video"])
def test_the_estimate_is_what_the_step_takes(kind: str, bf16: bool, saving: bool) -> None:
    settings = checkpointed(small_settings()) if saving else small_settings()
    forward, backward, peak = measured(settings, kind, bf16)
    estimate = estimate_step(settings, SIZES, 4, (kind,), bf16, INSTRUCTION)
    assert sum(estimate.forward.values()) == forward
    assert estimate.backward == backward
    assert estimate.passes - (estimate.gradients if bf16 else 0) == pytest.approx(peak, rel=0.02)


@pytest.mark.slow
def test_parts_and_bytes_are_those_of_the_model() -> None:
    model, estimate = small_model(), estimate_step(small_settings(), SIZES, 2)
    for part, count in estimate.parameters.items():
        assert count == sum(p.numel() for p in getattr(model, part).parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert estimate.trainable == trained
    assert (estimate.gradients, estimate.moments) == (4 * trained, 8 * trained)
    assert estimate.peak == estimate.weights + estimate.moments + max(estimate.passes, estimate.optimiser)
    assert all(flops > 0 for flops in estimate.forward.values())


@pytest.mark.slow
def test_flops_grow_with_the_batch_and_add_up_over_builds() -> None:
    one = estimate_step(small_settings(), SIZES, 2)
    assert estimate_step(small_settings(), SIZES, 6).flops == 3 * one.flops
    video = estimate_step(small_settings(), SIZES, 2, ("video",))
    assert video.forward["action_head"] == 0
    assert estimate_step(small_settings(), SIZES, 2, ("robot", "video")).flops == one.flops + video.flops


@pytest.mark.slow
def test_freezing_and_checkpointing_save_what_they_should() -> None:
    plain = estimate_step(small_settings(), SIZES, 16)
    frozen = estimate_step(replace(small_settings(), freeze=("student",)), SIZES, 16)
    assert frozen.trainable == plain.trainable - sum(
        p.numel() for p in small_model().student.parameters() if p.requires_grad
    )
    assert (frozen.flops < plain.flops, frozen.passes < plain.passes) == (True, True)
    saving = estimate_step(checkpointed(small_settings()), SIZES, 16)
    assert (saving.flops > plain.flops, saving.passes < plain.passes) == (True, True)
    assert saving.forward == plain.forward


@pytest.mark.slow
def test_a_pretrained_backbone_needs_no_weights(tmp_path: Path) -> None:
    tokenizer, model = load_backbone(small_settings().backbone, small_settings().prompt)
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = BackboneSettings(name_or_path=str(tmp_path), image_size=64)
    read = estimate_step(replace(small_settings(), backbone=backbone), SIZES, 2)
    assert read == estimate_step(small_settings(), SIZES, 2)


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kinds must be of robot, video, got 'sim'"):
        estimate_step(small_settings(), SIZES, 2, ("sim",))


def test_averages_of_the_weights_take_memory_all_the_time() -> None:
    plain, averaged = (estimate_step(small_settings(), SIZES, 2, averaged=each) for each in (False, True))
    assert averaged.peak - plain.peak == averaged.averages == 4 * plain.trainable
