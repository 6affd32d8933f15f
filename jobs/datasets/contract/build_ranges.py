"""The ranges by which a model scales the state and action of a build, of which a gripper keeps its whole one.

Which channels are a gripper's position or command is known by how they were converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.normalize import NO_GRIPPERS, BuildStats, Grippers
from model.settings import Scaling
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.sources.episode.vectors import WIDTHS, Conversion, VectorField

_GRIPPERS = (Conversion.GRIPPER, Conversion.RELATIVE_GRIPPER)


def build_ranges(build: Build, scaling: Scaling) -> BuildStats:
    """Ranges of the train split; a gripper keeps its whole one. Raises BuildError: `stats.json` is damaged."""
    grippers = NO_GRIPPERS
    if scaling == Scaling.QUANTILES:
        source, sizes = build.settings.content["source"], build.sizes
        grippers = Grippers(
            state=gripper_channels(source, "state", sizes.state),
            action=gripper_channels(source, "action", sizes.action),
        )
    return BuildStats.parse(build.read_file("stats.json"), build.path / "stats.json", scaling, grippers)


def gripper_channels(source: Mapping[str, Any], vector: str, width: int) -> frozenset[int]:
    """Channels by number.

    Args:
        source: the settings of a build's source, as build.json has them.
        vector: "state" or "action".
        width: its channels.

    Raises:
        BuildError: the settings are not as this version writes them.
    """
    fields = _fields(source, vector)
    widths = [_width(field) for field in fields]
    if widths.count(None) == 1:  # a field that is taken whole has the channels that are left
        widths[widths.index(None)] = width - sum(each for each in widths if each is not None)
    found, first = set(), 0
    for field, size in zip(fields, widths, strict=True):
        if size is None:
            break  # of two such fields nobody knows where they end
        if field.convert in _GRIPPERS:
            found.add(first)
        first += size
    return frozenset(found)


def _fields(source: Mapping[str, Any], vector: str) -> list[VectorField]:
    place = f"settings.source.{vector}"
    listed = source.get(vector, [])
    try:
        if not isinstance(listed, list):
            raise ValueError(f"{place} must be a list, found {listed!r:.80}")
        return [from_json(VectorField, field, place) for field in listed]
    except ValueError as error:
        raise BuildError(f"build.json: {printable(error)}; make the build again") from error


def _width(field: VectorField) -> int | None:
    if field.convert != Conversion.NONE:
        return WIDTHS[field.convert][1]
    return None if field.take is None else field.take[1] - field.take[0]
