"""Source types by their name in manifests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.errors import SettingsError
from pipeline.sources.base import Source
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.libero_hdf5 import LiberoSource
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.ssv2 import SSv2Source
from pipeline.sources.videos import VideoFolderSource

SOURCES: Mapping[str, type[Any]] = {
    "ssv2": SSv2Source,
    "lerobot": LeRobotSource,
    "rlds": RldsSource,
    "libero": LiberoSource,
    "videos": VideoFolderSource,
}


def make_source(type: str, **settings: Any) -> Source:
    """The source a manifest describes.

    Args:
        type: a key of `SOURCES`.
        settings: fields of that source's class; lists become tuples.

    Raises:
        SettingsError: unknown type, unknown or missing setting, or a value that the source refuses.
    """
    if type not in SOURCES:
        raise SettingsError(f"source type must be one of {', '.join(SOURCES)}, got {type!r}")
    source = SOURCES[type]
    fields = dataclasses.fields(source)
    allowed = [field.name for field in fields]
    unknown = sorted(settings.keys() - set(allowed))
    if unknown:
        raise SettingsError(f"source {type} has no setting {', '.join(unknown)}; allowed are {', '.join(allowed)}")
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in settings]
    if missing:
        raise SettingsError(f"source {type} needs {', '.join(missing)}; allowed are {', '.join(allowed)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    made: Source = source(**values)
    return made
