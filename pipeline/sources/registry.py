"""Source types by their name in manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from pipeline.errors import SettingsError
from pipeline.format.settings import describe
from pipeline.sources.base import Source
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.mcap.source import McapSource
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.ssv2 import SSv2Source
from pipeline.sources.videos import VideoFolderSource

SOURCES: Mapping[str, type[Any]] = {
    "ssv2": SSv2Source,
    "lerobot": LeRobotSource,
    "rlds": RldsSource,
    "libero": LiberoSource,
    "videos": VideoFolderSource,
    "mcap": McapSource,
}


def make_source(type: str, **settings: Any) -> Source:
    """The source a manifest describes.

    Args:
        type: a key of `SOURCES`.
        settings: fields of that source's class.

    Raises:
        SettingsError: unknown type, unknown or missing setting, or a value that the source refuses.
    """
    if type not in SOURCES:
        raise SettingsError(f"source type must be one of {', '.join(SOURCES)}, got {type!r}")
    described = describe(SOURCES[type])
    allowed = ", ".join(setting.name for setting in described)
    unknown = sorted(settings.keys() - {setting.name for setting in described})
    if unknown:
        raise SettingsError(f"source {type} has no setting {', '.join(unknown)}; allowed are {allowed}")
    missing = [s.name for s in described if s.default is MISSING and s.name not in settings]
    if missing:
        raise SettingsError(f"source {type} needs {', '.join(missing)}; allowed are {allowed}")
    try:
        made: Source = SOURCES[type](**settings)
    except ValueError as error:
        raise SettingsError(f"source {type}: {error}") from error
    return made
