"""Settings of a command line: the defaults of the dataclass, and files that hold differences alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.command_line.commands import COMMANDS
from jobs.common.config import FOLDER
from jobs.preprocess.settings import BuildConfig
from jobs.training.settings import TrainConfig
from model.settings import AttentionBackend, ModelSettings, tiny_settings
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import FloatDtype, Release
from pipeline.format.settings import Setting, describe
from pipeline.sources.registry import SOURCES
from tests.jobs.composed import compose_settings

TRAIN = ("out=/o", "builds=[/b]")


def test_a_group_of_defaults_changes_nothing() -> None:
    assert compose_settings("train", TrainConfig, TRAIN) == TrainConfig(out=Path("/o"), builds=("/b",))
    assert compose_settings("train", TrainConfig, TRAIN).model == ModelSettings()


def test_the_tiny_model_is_that_of_the_tests() -> None:
    found = compose_settings("train", TrainConfig, (*TRAIN, "model=tiny")).model
    expected = replace(tiny_settings(), attention=AttentionBackend.AUTO)
    name = expected.backbone.name_or_path  # the tiny backbone is never loaded by name
    assert replace(found, backbone=replace(found.backbone, name_or_path=name)) == expected


def test_a_setting_nobody_knows_is_refused_with_those_there_are(tmp_path: Path) -> None:
    words = ("out=/o", "source=videos", "source.root=/s", "+shards.sample=3")
    with pytest.raises(SettingsError, match=r"shards\.sample is no setting; allowed here: samples, group_samples"):
        compose_settings("plan", BuildConfig, words)


@pytest.mark.parametrize("name", [*COMMANDS, *SOURCES])
def test_every_setting_has_one_line_of_help(name: str) -> None:
    for setting in _all(SOURCES[name] if name in SOURCES else COMMANDS[name].settings_class()):
        text = setting.rule.help
        assert text, setting.name
        assert "\n" not in text
        assert not text.endswith("."), setting.name


def test_an_encoder_on_a_gpu_takes_more_clips_at_a_time() -> None:
    words = ("out=/o", "source=lerobot", "source.root=/s", "cluster=gpu")
    settings = compose_settings("plan", BuildConfig, words)
    assert (settings.encoder.batch, settings.cluster.encoder_device) == (64, "cuda")
    assert compose_settings("plan", BuildConfig, (*words, "encoder.batch=8")).encoder.batch == 8


def test_no_file_repeats_a_default() -> None:
    """A file of a group holds what differs from the dataclass."""
    vitl = compose_settings("plan", BuildConfig, ("out=/o", "source=lerobot", "source.root=/s")).encoder
    assert vitl == EncoderSettings(release=Release.VITL, dtype=FloatDtype.BFLOAT16)
    for group, name in (("window", "robot"), ("trainer", "reference"), ("hardware", "a100x8")):
        lines = (FOLDER / group / f"{name}.yaml").read_text().splitlines()
        assert all(line.startswith("#") for line in lines), lines


def _all(cls: type[Any]) -> list[Setting]:
    return [s for own in describe(cls) for s in (own, *(_all(own.nested) if own.nested is not None else ()))]
