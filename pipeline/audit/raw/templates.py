"""Path templates of raw metadata, which are not trusted: plain named fields alone, and no way out of the folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

_FIELD = re.compile(r"\{([A-Za-z_]+)(?::(0?)([0-9]{0,2})d?)?\}")


def path_from(template: object, values: Mapping[str, object]) -> PurePosixPath:
    """A template filled in, relative to the folder of the data.

    Raises:
        ValueError: an unknown field, anything but a field of at most two digits of width, or a path that leads out.
    """
    if not isinstance(template, str):
        raise ValueError(f"the template {template!r:.80} is no text")

    def value(match: re.Match[str]) -> str:
        name, zero, width = match[1], match[2], match[3]
        if name not in values:
            raise ValueError(f"the template {template!r:.200} names the unknown field {name}")
        return str(values[name]).rjust(int(width or 0), "0" if zero else " ")

    rest = _FIELD.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"the template {template!r:.200} holds more than plain fields")
    path = PurePosixPath(_FIELD.sub(value, template))
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or path.is_absolute() or "\0" in part:
            raise ValueError(f"the template {template!r:.200} leads out of the data's folder")
    return path
