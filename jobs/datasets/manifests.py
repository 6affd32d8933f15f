"""Dataset manifests: facts about a dataset, their sources, and the reader. One YAML file each, in `manifests/`.

Every manifest is a choice of `source=`; the folder in the variable VLAJEPA_MANIFESTS adds more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from pydantic import TypeAdapter, ValidationError

from jobs.common.manifest_folders import FOLDER, OWN_FOLDER, own_folder
from jobs.common.policy.channels import Channels
from jobs.datasets.manifest_values import read_values
from pipeline.errors import RunError, SettingsError
from pipeline.format.settings import default_values, describe
from pipeline.sources.registry import SOURCES, make_source

_LIMITS: Mapping[str, tuple[float, float]] = {"fps": (1e-3, 1e6), "interval": (1, 1_000_000), "max_bad_share": (0, 1)}
"""Smallest and largest value of what is a number."""


@dataclass(frozen=True)
class Camera:
    """One camera, by the name its view gets."""

    name: str
    shows: str


@dataclass(frozen=True)
class Evidence:
    """The source of a claim in the manifest: a public reader, the dataset's code or page, or our own inspection."""

    claim: str
    source: str


@dataclass(frozen=True)
class DatasetManifest:
    """A dataset.

    name           its name in `source=`, and the first part of every episode id
    kind           "robot" or "video": the default windows
    episodes       expected number by split, or `total` if splits are hashed; None if unknown
    splits         origin of the splits, as text
    fps            control frequency (frames per second); None if it differs by file
    interval       source frames between two sampled frames
    reader         `type` of the source and its settings
    max_bad_share  known share of unusable episodes, if above the default
    """

    name: str
    title: str
    kind: str
    version: str
    licence: str
    terms: str
    publisher: str
    citation: str
    episodes: Mapping[str, int] | None
    splits: str
    fps: float | None
    cameras: tuple[Camera, ...]
    reader: Mapping[str, Any]
    evidence: tuple[Evidence, ...]
    interval: int = 1
    state: tuple[Channels, ...] = ()
    action: tuple[Channels, ...] = ()
    defects: tuple[str, ...] = ()
    max_bad_share: float | None = None
    sha256: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("robot", "video"):
            raise ValueError(f"kind must be robot or video, got {self.kind!r}")
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must be at least {least:g} and at most {most:,g}, got {value!r}")
        if self.episodes is not None and not set(self.episodes) <= {"train", "val", "test", "total"}:
            raise ValueError(f"episodes must be counts of train, val, test or total, got {list(self.episodes)}")
        if self.episodes is not None and min(self.episodes.values(), default=0) < 0:
            raise ValueError(f"episodes must be counts of at least 0, got {dict(self.episodes)}")
        for name in ("cameras", "evidence"):
            if not getattr(self, name):
                raise ValueError(f"{name} must list at least one")
        make_source(**{**self.reader, "name": self.name, "root": "."})

    def node(self) -> dict[str, Any]:
        """The configuration of `source=NAME`."""
        # With all defaults of the reader, so that the command line can change each
        values = default_values(SOURCES[self.reader["type"]])
        own = {name: value for name, value in values.items() if name not in ("root", "name") and value != "???"}
        own |= {key: value for key, value in self.reader.items() if key != "type"}
        choice = {"manifest": self.name, "leave_out": None}
        content: dict[str, Any] = {
            "defaults": [{"override /window": self.kind}, "_self_"],
            "source": {"type": self.reader["type"], "name": self.name, "root": "???", **choice, **own},
            "window": {"interval": self.interval},
        }
        return content | ({} if self.max_bad_share is None else {"max_bad_share": self.max_bad_share})

    def facts(self) -> dict[str, str]:
        """The facts that a build records about its dataset."""
        names = ("name", "title", "version", "licence", "publisher", "citation", "sha256")
        return {name: getattr(self, name) for name in names}

    def channel_names(self, kind: str) -> list[str]:
        """Names of the channels of "state" or "action"."""
        return [name for channels in getattr(self, kind) for name in channels.names]


def load_manifests() -> dict[str, DatasetManifest]:
    """All valid manifests by name, see `find_manifests`."""
    return find_manifests()[0]


def find_manifests() -> tuple[dict[str, DatasetManifest], dict[str, SettingsError]]:
    """All valid manifests by name, and the errors of invalid manifests of the user, by file name. Raises SettingsError
    if the user's folder does not exist, or a manifest of this package is invalid."""
    found = {manifest.name: manifest for manifest in map(read_manifest, sorted(FOLDER.glob("*.yaml")))}
    wrong: dict[str, SettingsError] = {}
    own = own_folder()
    if own and not own.is_dir():
        raise SettingsError(f"{own} is no folder of manifests; set {OWN_FOLDER} to one, or unset it")
    for path in sorted(own.glob("*.yaml")) if own else ():
        try:
            manifest = read_manifest(path)
            if manifest.name in found:
                raise SettingsError(f"{path}: the name {manifest.name} is taken; choose another")
            found[manifest.name] = manifest
        except SettingsError as error:
            wrong[path.stem] = error
    return found, wrong


def read_manifest(path: Path) -> DatasetManifest:
    """Read and check one file. Raises SettingsError if it is no valid manifest, or its reader rejects it."""
    content, raw = read_values(path)
    names = {item.name for item in fields(DatasetManifest)} - {"sha256"}
    if unknown := sorted(content.keys() - names):
        raise SettingsError(f"{path}: unknown keys {', '.join(unknown)}; allowed are {', '.join(sorted(names))}")
    if content.get("name") != path.stem:
        raise SettingsError(f"{path}: name must be that of the file, {path.stem!r}, got {content.get('name')!r:.60}")
    reader = content.get("reader")
    kind = reader.get("type") if isinstance(reader, dict) else None
    if not isinstance(kind, str) or kind not in SOURCES:
        raise SettingsError(f"{path}: reader.type must be one of {', '.join(SOURCES)}")
    try:
        _check_types(content["reader"])
        found = _validated(DatasetManifest, content | {"sha256": hashlib.sha256(raw).hexdigest()})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, line['loc'])) or 'manifest'}: {line['msg']}" for line in error.errors()]
        raise SettingsError(f"{path}: {'; '.join(lines)}") from error
    except RunError as error:
        raise SettingsError(f"{path}: reader: {error}") from error
    assert isinstance(found, DatasetManifest)
    return found


def _check_types(reader: Mapping[str, Any]) -> None:
    """Raises SettingsError for a value of another type than the reader's setting has; its limits are the reader's."""
    for setting in describe(SOURCES[reader["type"]]):
        if setting.name not in reader or (reader[setting.name] is None and setting.optional):
            continue
        value = reader[setting.name]
        if setting.name in ("state", "action") and isinstance(value, list):
            value = [{"field": part} if isinstance(part, str) else part for part in value]
        try:
            _validated(setting.kind, value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (setting.name, *first["loc"])))
            raise SettingsError(f"{where}: {first['msg']}: {setting.rule.help}") from error


def _validated(kind: Any, value: Any) -> Any:
    """As JSON, in which a list may be a tuple and a text is no number."""
    return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)


def register_manifests(manifests: Mapping[str, DatasetManifest]) -> None:
    """Make every manifest a choice of `source=`."""
    store = ConfigStore.instance()
    for manifest in manifests.values():
        store.store(group="source", name=manifest.name, node=manifest.node(), package="_global_", provider="manifests")
