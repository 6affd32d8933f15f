"""Channels by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobs.audit.channels import channel_names
from jobs.datasets.manifests import load_manifests
from pipeline.audit.build import open_build
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.format.settings import deciding
from pipeline.sources.lerobot.source import LeRobotSource
from tests.conftest import SampleData
from tests.pipeline.audit.tiny_build import write_build

NAMES = ChannelNames(("x", "y", "elbow"), ("dx",))


def test_channels_are_named_where_a_name_is_known() -> None:
    text = "state channel 2 of frame n equals action channel 0 of frame n+1"
    assert NAMES.named(text) == "state elbow of frame n equals action dx of frame n+1"
    for other in ("state channel 3 of frame n", "observation.state channel 2", "state channels 2", "no channel 1"):
        assert NAMES.named(other) == other


def test_names_are_those_of_the_manifest_that_made_the_build(tmp_path: Path) -> None:
    build = open_build(write_build(tmp_path / "build"))
    manifest = load_manifests()["libero_lerobot"]
    names = ChannelNames(*(tuple(manifest.channel_names(kind)) for kind in ("state", "action")))
    assert names.state
    assert channel_names(build, str(tmp_path)) == ChannelNames()  # made without a manifest
    sizes = replace(build.sizes, state=len(names.state), action=len(names.action))

    def claim(**changes: str) -> ChannelNames:
        settings = {**build.settings, "dataset": {**manifest.facts(), **changes}}
        return channel_names(replace(build, settings=settings, sizes=sizes), str(tmp_path))

    assert claim() == names
    assert claim(sha256="0" * 64) == ChannelNames()
    assert claim(name="no such dataset") == ChannelNames()
    sizes = replace(sizes, state=sizes.state + 1)
    assert claim() == ChannelNames((), names.action)


def test_without_a_manifest_names_are_those_of_the_raw_data(sample_data: SampleData, tmp_path: Path) -> None:
    build = open_build(write_build(tmp_path / "build"))
    source = LeRobotSource(root=str(sample_data.lerobot), name="robot")
    index = source.index()
    assert index.state_names
    assert index.action_names
    sizes = replace(build.sizes, state=index.state_dim, action=index.action_dim)
    settings = {**build.settings, "source": {"type": "lerobot", **deciding(source)}, "dataset": None}

    def names(root: Path, **changes: object) -> ChannelNames:
        changed = {**settings, "source": {**settings["source"], **changes}}
        return channel_names(replace(build, settings=changed, sizes=sizes), str(root))

    assert names(sample_data.lerobot) == ChannelNames(index.state_names, index.action_names)
    assert names(sample_data.lerobot, state=["no such column"]) == ChannelNames()
    assert names(tmp_path) == ChannelNames()  # no dataset there
    assert names(sample_data.lerobot, type="ssv2") == ChannelNames()
