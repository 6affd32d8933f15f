"""A default that stands in a YAML file and in a dataclass is the same in both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from jobs.cli import CONFIGS
from jobs.training.loop.settings import TrainerSettings
from model.settings import ModelSettings, tiny_settings


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("model/qwen3vl_2b", ModelSettings()),
        ("model/tiny", replace(tiny_settings(), attention="auto")),
        ("trainer/reference", TrainerSettings()),
    ],
)
def test_files_and_dataclasses_agree(file: str, expected: Any) -> None:
    content = OmegaConf.to_container(OmegaConf.load(Path(CONFIGS) / f"{file}.yaml"))
    found = TypeAdapter(type(expected)).validate_python(content)
    if file == "model/tiny":  # the tiny backbone is never loaded by name
        found = replace(found, backbone=replace(found.backbone, name_or_path=expected.backbone.name_or_path))
    assert found == expected
