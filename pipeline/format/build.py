"""A finished build, read from its build.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError
from pipeline.format.build_settings import BuildSettings
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.schema import SCHEMA_VERSION, Sizes


@dataclass(frozen=True)
class Build:
    """A finished build. `manifest` is the content of build.json.

    remote  URL of its shards, if `path` holds a copy of the small files alone
    """

    path: Path
    manifest: Mapping[str, Any]
    sizes: Sizes
    views: tuple[str, ...]
    remote: str | None = None

    @cached_property
    def settings(self) -> BuildSettings:
        """The settings it was made with."""
        return BuildSettings.read(self.manifest["settings"])

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def has_actions(self) -> bool:
        return self.sizes.action > 0

    @property
    def shares_latents(self) -> bool:
        """Whether latents are in separate files, each tubelet's once (encoder mode "tubelet")."""
        return self.settings.encoder.mode == EncoderMode.TUBELET

    @property
    def latents(self) -> LatentDtype:
        """Element type of the stored latents."""
        return self.settings.latents.dtype


def load_build(path: Path) -> Build:
    """Read build.json.

    Raises:
        BuildError: there is none (the build is unfinished), or it is of another schema version.
    """
    try:
        raw = (path / "build.json").read_bytes()
    except FileNotFoundError as error:
        raise BuildError(
            f"{path} holds no build.json: no build, or an unfinished one; run vlajepa preprocess"
        ) from error
    except OSError as error:
        raise BuildError(f"{path}/build.json cannot be read: {error}") from error
    return read_build(raw, path)


def read_build(raw: bytes, path: Path, remote: str | None = None) -> Build:
    """A build from the content of its build.json. Raises BuildError when it cannot be used."""
    where = remote or path
    try:
        manifest = json.loads(raw)
        version = manifest["schema_version"]
        build = Build(path, manifest, Sizes(**manifest["sizes"]), tuple(manifest["views"]), remote)
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{where}/build.json cannot be read: {error}") from error
    if version != SCHEMA_VERSION:
        raise BuildError(f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}; build it again")
    return build
