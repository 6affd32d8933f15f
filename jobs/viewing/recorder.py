"""Rerun's recording file. It is written under another name and gets its own when it is whole."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError

EXTRA = "rerun"


def require_rerun() -> Any:
    """The module. Raises SettingsError without it."""
    try:
        import rerun
    except ImportError as error:
        raise SettingsError(
            f"vlajepa view needs Rerun, which is not installed: pip install -c constraints.txt '.[{EXTRA}]'"
        ) from error
    return rerun


@contextlib.contextmanager
def recording(rerun: Any, out: Path, name: str) -> Iterator[Any]:
    """A stream whose file appears at `out` when the block ends well."""
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    stream = rerun.RecordingStream("vlajepa", recording_id=name)
    try:
        stream.save(str(temporary))
        yield stream
        stream.disconnect()
        os.replace(temporary, out)
    finally:
        stream.disconnect()
        temporary.unlink(missing_ok=True)


def entity(rerun: Any, *parts: str) -> str:
    """A path of these parts, whatever characters are in them."""
    return str(rerun.new_entity_path(list(parts)))
