"""Which channels of a build's state and action a gripper's position or command is, by how they were converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.sources.episode.vectors import WIDTHS, Conversion

_GRIPPERS = (Conversion.GRIPPER, Conversion.RELATIVE_GRIPPER)


def gripper_channels(source: Mapping[str, Any], vector: str, width: int) -> frozenset[int]:
    """Channels by number.

    Args:
        source: the settings of a build's source, as build.json has them.
        vector: "state" or "action".
        width: its channels.
    """
    fields: Sequence[Mapping[str, Any]] = source.get(vector) or ()
    widths = [_width(field) for field in fields]
    if widths.count(None) == 1:  # a field that is taken whole has the channels that are left
        widths[widths.index(None)] = width - sum(each for each in widths if each is not None)
    found, first = set(), 0
    for field, size in zip(fields, widths, strict=True):
        if size is None:
            break  # of two such fields nobody knows where they end
        if field["convert"] in _GRIPPERS:
            found.add(first)
        first += size
    return frozenset(found)


def _width(field: Mapping[str, Any]) -> int | None:
    if field["convert"] != Conversion.NONE:
        return WIDTHS[field["convert"]][1]
    return None if field["take"] is None else field["take"][1] - field["take"][0]
