"""Raw readers by the source type that build.json names."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.raw.lerobot.dataset import RawLeRobot
from pipeline.audit.raw.libero import RawLibero
from pipeline.audit.raw.mcap.dataset import RawMcap
from pipeline.audit.raw.place import Place
from pipeline.audit.raw.rlds import RawRlds
from pipeline.audit.raw.ssv2 import RawSSv2
from pipeline.audit.raw.videos import RawVideos
from pipeline.errors import BuildError

RAW_SOURCES: Mapping[str, type[RawSource]] = {
    "ssv2": RawSSv2,
    "lerobot": RawLeRobot,
    "rlds": RawRlds,
    "libero": RawLibero,
    "videos": RawVideos,
    "mcap": RawMcap,
}


def open_raw(settings: object, root: Place) -> RawSource:
    """The raw data below `root`, read by `settings.source` of build.json.

    Raises:
        BuildError: the type is unknown, or its metadata cannot be read.
    """
    kind = settings.get("type") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(kind, str) or kind not in RAW_SOURCES:
        known = ", ".join(RAW_SOURCES)
        raise BuildError(f"level source reads raw data of the types {known}; build.json names {kind!r}")
    try:
        return RAW_SOURCES[kind](settings, root)
    except RawError as error:
        raise BuildError(f"the raw data below {root} cannot be read: {error}; give root= of the data") from error
