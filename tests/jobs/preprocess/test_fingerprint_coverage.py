"""What the fingerprint covers is declared at each setting: those that decide change it, the others change no byte.

A new setting of a build fails these tests until another value of it is given below. One that changes bytes and is not
declared to decide fails the last.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.preprocess.plan import build_settings, new_plan
from jobs.preprocess.settings import BuildConfig
from pipeline.format.settings import describe
from tests.conftest import SampleData
from tests.jobs.runs import build_config, build_hashes, make_here, robot_source

OTHER: dict[str, Any] = {
    "window.steps": 2,
    "window.interval": 3,
    "window.chunk": 5,
    "window.every": 7,
    "window.per_episode": 3,
    "window.end": "pad",
    "window.skip_idle": 2,
    "window.idle_change": 0.1,
    "inputs.image_size": 32,
    "inputs.jpeg_quality": 90,
    "encoder.seed": 1,
    "encoder.mode": "tubelet",
    "encoder.resize": "crop",
    "encoder.dtype": "bfloat16",
    "encoder.attention": "xformers",
    "encoder.compile": False,
    "encoder.batch": 8,
    "encoder.cpu_threads": 2,
    "latents.dtype": "int8",
    "shards.samples": 20,
    "shards.group_samples": 5,
    "splits": ("train",),
    "limit": 2,
    "hash_raw": True,
}
"""Of the settings that decide. `encoder.kind` needs weights, and `source` is a test of its own."""

HARMLESS: dict[str, Any] = {
    "encoder.name_or_path": "elsewhere",
    "encoder.release": "vith",
    "cluster.address": "auto",
    "cluster.num_cpus": 3,
    "cluster.object_store_mb": 300,
    "cluster.encoders": 3,
    "cluster.min_encoders": 1,
    "cluster.encoder_cpus": 0.5,
    "cluster.task_cpus": 0.5,
    "cluster.task_resources": {"a": 1.0},
    "cluster.encoder_resources": {"b": 1.0},
    "cluster.mixed_devices": True,
    "cluster.groups_ahead": 3,
    "cluster.ahead_mb": 99,
    "cluster.episode_limit_s": 9.0,
    "cluster.patience_s": 9.0,
    "hardware.gpus": 3,
    "hardware.flops": 1e12,
    "hardware.float32_flops": 1e12,
    "hardware.utilisation": 0.1,
    "hardware.step_utilisation": 0.1,
    "hardware.cores": 3,
    "hardware.core_flops": 1e9,
    "hardware.read_mb_s": 9.0,
    "hardware.write_mb_s": 9.0,
    "hardware.startup_s": 9.0,
    "max_bad_share": 0.5,
    "accept_lookahead": True,
}
"""Of the settings that change no byte; `cluster.encoder_gpus` does, by the device it means."""

ON_GPUS = ("encoder.attention", "encoder.compile")
"""Settings that only encoders on GPUs have, which the plan alone does not ask for."""

NOT_HERE = ("out", "source", "encoder.kind", "cluster.encoder_gpus")


def settings_of(cls: type[Any], prefix: str = "") -> dict[str, bool]:
    """Every setting by its name with dots, and whether it decides."""
    found: dict[str, bool] = {}
    for setting in describe(cls):
        name = f"{prefix}{setting.name}"
        if setting.nested is None:
            found[name] = setting.rule.decides
        else:
            inner = settings_of(setting.nested, f"{name}.")
            found |= {key: decides and setting.rule.decides for key, decides in inner.items()}
    return found


def changed(config: BuildConfig, name: str, value: Any) -> BuildConfig:
    """The configuration with another value of one setting."""
    section, _, field = name.partition(".")
    if name == "window.per_episode":
        return replace(config, window=replace(config.window, every=0, per_episode=value))
    if name in ON_GPUS:
        config = replace(config, cluster=replace(config.cluster, encoder_gpus=1.0))
    new = replace(getattr(config, section), **{field: value}) if field else value
    return replace(config, **{section: new})


@pytest.fixture(scope="module")
def config(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    base = build_config(tmp_path_factory.mktemp("coverage") / "base", robot_source(sample_data.lerobot))
    return replace(base, limit=1, window=replace(base.window, every=6, per_episode=0))


def fingerprint(config: BuildConfig) -> str:
    return new_plan(config, build_settings(config)).fingerprint


def test_every_setting_of_a_build_is_here() -> None:
    declared = {name: decides for name, decides in settings_of(BuildConfig).items() if name not in NOT_HERE}
    assert {name for name, decides in declared.items() if decides} == set(OTHER)
    assert {name for name, decides in declared.items() if not decides} == set(HARMLESS)


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_that_decides_changes_the_fingerprint(name: str, config: BuildConfig) -> None:
    before = replace(config, cluster=replace(config.cluster, encoder_gpus=1.0)) if name in ON_GPUS else config
    assert fingerprint(changed(config, name, OTHER[name])) != fingerprint(before)


def test_on_the_cpu_compile_changes_no_fingerprint(config: BuildConfig) -> None:
    assert fingerprint(replace(config, encoder=replace(config.encoder, compile=False))) == fingerprint(config)


def test_the_others_change_no_byte(config: BuildConfig) -> None:
    other = replace(config, out=Path(config.out).with_name("other"))
    for name, value in HARMLESS.items():
        other = changed(other, name, value)
    make_here(config)
    make_here(other)
    assert build_hashes(Path(config.out)) == build_hashes(Path(other.out))
