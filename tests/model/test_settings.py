from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from model.settings import (
    ActionHeadSettings,
    AttentionBackend,
    BackboneKind,
    BackboneSettings,
    HeadInput,
    LossSettings,
    ModelSettings,
    PredictorInit,
    PredictorSettings,
    PromptSettings,
    Scaling,
    SteeredBy,
    TinyBackboneSettings,
)
from pipeline.format.enums import FloatDtype


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (BackboneSettings, {"kind": "small"}, "kind must be one of pretrained, random, tiny, got 'small'"),
        (BackboneSettings, {"image_size": 225}, "image_size must be a multiple of 32 .* got 225"),
        (BackboneSettings, {"dtype": "int8"}, "dtype must be one of .* got 'int8'"),
        (BackboneSettings, {"name_or_path": ""}, "name_or_path must name"),
        (TinyBackboneSettings, {"width": 66}, "width must be a multiple of 4 x heads=2, got 66"),
        (TinyBackboneSettings, {"heads": 3, "width": 96}, "heads must be even, got 3"),
        (TinyBackboneSettings, {"layers": 1}, r"layers must be 2\.\.1000, got 1"),
        (PromptSettings, {"embodied_tokens": 0}, r"embodied_tokens must be 1\.\.10000, got 0"),
        (PredictorSettings, {"dim": 100}, "dim must be a multiple of heads=8, got 100"),
        (PredictorSettings, {"dim": 32}, "at least 6 channels .* got 32"),
        (PredictorSettings, {"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0, got 0.0"),
        (PredictorSettings, {"init": "zeros"}, "init must be one of reference, copy, got 'zeros'"),
        (ActionHeadSettings, {"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1.0"),
        (ActionHeadSettings, {"repeats": 0}, "repeats must be at least 1, got 0"),
        (ActionHeadSettings, {"heads": 1, "head_width": 65}, "even width, got 65"),
        (ActionHeadSettings, {"time_max": 1.5}, r"time_max must be above 0 and at most 1, got 1.5"),
        (LossSettings, {"world_model_on_robot": -0.1}, "world_model_on_robot must be at least 0, got -0.1"),
        (LossSettings, {"world_model_on_video": float("nan")}, "world_model_on_video must be at least 0, got nan"),
        (ModelSettings, {"attention": "flash"}, "attention must be one of auto, sdpa, xformers, got 'flash'"),
        (ModelSettings, {"range_floor": 0.0}, "range_floor must be above 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


ENUMS = (AttentionBackend, BackboneKind, FloatDtype, HeadInput, PredictorInit, Scaling, SteeredBy)


def _leaves(settings: Any) -> list[Any]:
    found = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        found += _leaves(value) if is_dataclass(value) else [value]
    return found


def test_fields_are_plain_values_so_that_a_file_can_fill_them() -> None:
    assert {type(value) for value in _leaves(ModelSettings())} <= {int, float, str, bool, tuple, *ENUMS}


def test_defaults_are_the_reference_numbers() -> None:
    s = ModelSettings()
    assert (s.predictor.depth, s.predictor.heads, s.predictor.dim, s.predictor.mlp_ratio) == (12, 8, 1024, 4.0)
    assert (s.action_head.layers, s.action_head.heads, s.action_head.head_width) == (16, 12, 64)
    assert (s.action_head.dropout, s.action_head.hidden_size) == (0.2, 1024)
    assert (s.action_head.inference_steps, s.action_head.repeats, s.action_head.future_tokens) == (4, 8, 32)
    assert (s.prompt.action_tokens_per_step, s.prompt.action_token_groups, s.prompt.embodied_tokens) == (8, 28, 32)
    assert (s.loss.world_model_on_robot, s.loss.world_model_on_video) == (0.1, 1.0)
