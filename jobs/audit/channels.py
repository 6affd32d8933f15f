"""The names of a build's channels, from the manifest that it was made by or from the raw data."""

from __future__ import annotations

from typing import Any

from jobs.datasets.manifests import load_manifests
from pipeline.audit.build import ClaimedBuild
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.errors import RunError, SettingsError
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.registry import make_source


def channel_names(build: ClaimedBuild, root: str) -> ChannelNames:
    """Names for messages: the manifest's where it is here and the same by its hash, else what the raw data declares.
    None where neither has one for each channel."""
    dataset = build.settings.get("dataset")
    state, action = _of_manifest(dataset) if dataset is not None else _declared(build.settings.get("source"), root)
    return ChannelNames(
        state if len(state) == build.sizes.state else (), action if len(action) == build.sizes.action else ()
    )


def _of_manifest(dataset: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        manifest = load_manifests().get(str(dataset.get("name"))) if isinstance(dataset, dict) else None
    except SettingsError:
        return (), ()
    if manifest is None or dataset.get("sha256") != manifest.sha256:
        return (), ()
    return tuple(manifest.channel_names("state")), tuple(manifest.channel_names("action"))


def _declared(claimed: Any, root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """By the metadata of a LeRobot dataset; other kinds have no names."""
    settings = dict(claimed) if isinstance(claimed, dict) else {}
    if settings.pop("type", None) != "lerobot":
        return (), ()
    try:
        source = make_source("lerobot", **{**settings, "root": root})
        return source.channel_names() if isinstance(source, LeRobotSource) else ((), ())
    except (RunError, KeyError):  # a column that is not declared: the audit says so by its rules
        return (), ()
