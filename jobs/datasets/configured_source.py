"""The source of a configuration: the reader of a dataset, made in one step from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf

from pipeline.errors import SettingsError
from pipeline.format.settings import deciding
from pipeline.planning.episode_filter import EpisodeFilter, read_filter
from pipeline.sources.base import Source
from pipeline.sources.registry import make_source
from pipeline.storage.raw.places import raw_root


@dataclass(frozen=True)
class SourceChoice:
    """A reader and where it comes from.

    type      name of the reader, as in "lerobot"
    reader    made with its settings; its root is absolute, for workers on other machines
    manifest  name of the dataset's manifest; None for data without one
    leave_out  episodes that are left out on purpose; None without a file
    """

    type: str
    reader: Source
    manifest: str | None = None
    leave_out: EpisodeFilter | None = None

    def content(self) -> dict[str, Any]:
        """What changes bytes: the type and all settings of the reader, defaults included, not where the data lies."""
        return {"type": self.type, **deciding(self.reader)}


def configured_source(configured: Mapping[str, Any] | SourceChoice) -> SourceChoice:
    """The source of a section `source`. Raises SettingsError if type or root are missing, or the reader refuses a
    setting, or a file to leave episodes out cannot be read."""
    if isinstance(configured, SourceChoice):
        return configured
    values = dict(configured)
    kind, manifest, leave_out = (values.pop(name, None) for name in ("type", "manifest", "leave_out"))
    if kind is None or values.get("root") is None:
        raise SettingsError("source.type and source.root must be set; choose a source= (vlajepa sources lists them)")
    root = raw_root(values["root"], "source.root")
    chosen = None if leave_out is None else read_filter(Path(leave_out).expanduser())
    return SourceChoice(kind, make_source(kind, **values | {"root": root}), manifest, chosen)


ConfiguredSource = Annotated[InstanceOf[SourceChoice], BeforeValidator(configured_source)]
"""A setting that a configuration gives as a section."""
