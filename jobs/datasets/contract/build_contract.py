"""What a robot build says about the numbers in its state and action.

Names, units and conventions stand in the dataset's manifest. They hold for a build whose fields are the manifest's; of
others, only what a conversion makes is known, and the rest is named by field and channel, without a unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.common.manifest_folders import FOLDER, own_folder
from jobs.common.policy.channels import Channels
from jobs.common.policy.robot_interface import RobotInterface
from jobs.datasets.manifests import DatasetManifest, read_manifest
from pipeline.errors import SettingsError
from pipeline.format.build import Build, load_build
from pipeline.sources.episode.vectors import WIDTHS, VectorField, parse_fields

if TYPE_CHECKING:
    from model.settings import Scaling

_MOTION = (
    Channels(("dx", "dy", "dz"), "metres a step", "change of place in the base frame"),
    Channels(("rx", "ry", "rz"), "radians a step", "change of orientation in the base frame, rotation vector"),
)
_MADE: Mapping[str, tuple[Channels, ...]] = {
    "pose_difference": _MOTION,
    "pose_reached": _MOTION,
    "quaternion_pose_difference": _MOTION,
    "quaternion_pose_reached": _MOTION,
    "gripper": (Channels(("gripper",), "0 to 1", "1 is open"),),
    "relative_gripper": (Channels(("gripper",), "0 or 1", "1 is open"),),
}
"""What a conversion makes, whatever it is made from."""


def interface_of(manifest: Mapping[str, Any]) -> RobotInterface:
    """The interface of a policy that is trained on a build, from its `build.json`."""
    interface, source = RobotInterface.of(manifest), manifest["settings"]["source"]
    dataset = _manifest_of(manifest["settings"].get("dataset"))
    found = {
        kind: _channels(dataset, kind, parse_fields(source[kind], kind), getattr(interface, kind))
        for kind in ("state", "action")
    }
    return replace(interface, state_channels=found["state"], action_channels=found["action"])


@dataclass(frozen=True)
class BuildInterface(RobotInterface):
    """What a policy of one build alone takes and gives, however its model scales.

    scaled_otherwise  statistics of the policies of other `model.scaling`, or without the state, in the place of
                      `statistics`; of the default `model.range_floor` all
    """

    scaled_otherwise: tuple[str, ...] = ()

    def has_statistics(self, statistics: str) -> bool:
        return super().has_statistics(statistics) or statistics in self.scaled_otherwise


def contract_of(path: Path) -> RobotInterface:
    """The interface, statistics included, that a policy has which was trained on one build alone, with the default
    `model.range_floor`.

    Raises:
        BuildError: there is no build.
        SettingsError: it is one of human video.
    """
    return contract_of_build(load_build(path))


def contract_of_build(build: Build) -> RobotInterface:
    """See `contract_of`."""
    if not build.sizes.action:
        raise SettingsError(f"{build.path} is a build of human video; no policy acts as it says")
    from model.settings import Scaling  # PyTorch

    interface = interface_of(build.manifest)
    known = {field.name: getattr(interface, field.name) for field in fields(interface)}
    first, *others = (_statistics(build, scaling, state) for scaling in Scaling for state in (True, False))
    return BuildInterface(**{**known, "statistics": first}, scaled_otherwise=tuple(others))


def _statistics(build: Build, scaling: Scaling, state: bool) -> str:
    """Of a model that scales so, with or without the state."""
    from jobs.datasets.contract.build_ranges import build_ranges
    from model.normalize import MinMaxScaler, statistics_id
    from model.settings import ModelSettings

    ranges, floor = build_ranges(build, scaling), ModelSettings().range_floor
    scalers = [
        None if found is None or not width else MinMaxScaler(found, floor)
        for found, width in ((ranges.state, build.sizes.state if state else 0), (ranges.action, build.sizes.action))
    ]
    return statistics_id(*scalers)


def _manifest_of(dataset: Mapping[str, Any] | None) -> DatasetManifest | None:
    """The manifest that a build names, as it is here; None without one."""
    if dataset is None:
        return None
    for folder in filter(None, (FOLDER, own_folder())):
        path = folder / f"{dataset['name']}.yaml"
        if path.is_file():
            try:
                found = read_manifest(path)
                return found if found.sha256 == dataset.get("sha256") else None
            except SettingsError:  # a user's, changed since: the build is as it was
                return None
    return None


def _channels(
    dataset: DatasetManifest | None, kind: str, fields: Sequence[VectorField], width: int
) -> tuple[Channels, ...]:
    if dataset is not None and parse_fields(dataset.reader.get(kind, ()), kind) == fields:
        groups: tuple[Channels, ...] = getattr(dataset, kind)
        if sum(len(group.names) for group in groups) == width:
            return groups
    widths = [_width(field) for field in fields]
    if widths.count(None) > 1:
        return ()
    left = width - sum(known for known in widths if known is not None)
    if left < 0 or (left > 0) != (None in widths):
        return ()
    return tuple(
        group
        for field, known in zip(fields, widths, strict=True)
        for group in _made(field, left if known is None else known)
    )


def _width(field: VectorField) -> int | None:
    """Channels a field becomes; None: all that the raw field has."""
    if field.convert in WIDTHS:
        return WIDTHS[field.convert][1]
    return None if field.take is None else field.take[1] - field.take[0]


def _made(field: VectorField, width: int) -> Iterator[Channels]:
    if field.convert in _MADE:
        yield from _MADE[field.convert]
        return
    first = field.take[0] if field.take else 0
    names = tuple(f"{field.field}[{first + index}]" for index in range(width))
    turned = "" if field.convert == "none" else "rotation vector"
    yield Channels(names, "radians" if turned else "", turned)
