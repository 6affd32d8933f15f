"""The source of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.sources.base import Source
from pipeline.sources.registry import make_source


def source_of(configured: Mapping[str, Any]) -> Source:
    """The source of a configuration; its root is made absolute for other workers."""
    values = dict(configured)
    kind = values.pop("type", None)
    values.pop("manifest", None)
    if kind is None or "root" not in values:
        raise SettingsError("source.type and source.root must be set; choose a source= (vlajepa sources lists them)")
    return make_source(kind, **values | {"root": str(Path(values["root"]).expanduser().resolve())})
