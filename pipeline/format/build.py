"""A finished build, read from its build.json."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from pipeline.errors import BuildError, CorruptError
from pipeline.format.build_settings import BuildSettings
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.json.manifest import read_manifest, read_sizes
from pipeline.format.schema import Sizes

_PIECE = 2**22
"""Bytes copied at a time."""


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

    def read_file(self, name: str) -> bytes:
        """A file that build.json lists in `files`: the bytes that were hashed are those returned.

        Raises:
            CorruptError: it is not the file of the audited build.
            BuildError: it is missing or cannot be read.
        """
        with _opened(self.path, name) as file:
            self._require_size(name, file)
            data = file.read()
        self._require(name, hashlib.sha256(data).hexdigest(), len(data))
        return data

    def copy_file(self, name: str, target: IO[bytes]) -> None:
        """Copy a file that build.json lists, hashing what is copied. See `read_file` for what is raised; OSError when
        the target cannot be written."""
        digest, size = hashlib.sha256(), 0
        with _opened(self.path, name) as file:
            self._require_size(name, file)
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += target.write(piece)
        self._require(name, digest.hexdigest(), size)
        target.flush()
        target.seek(0)

    def _require_size(self, name: str, file: IO[bytes]) -> None:
        """Before it is read: a hole in a file takes no room on the disk, but as much in memory."""
        found, listed = os.fstat(file.fileno()).st_size, self.manifest["files"][name]["bytes"]
        if found != listed:
            raise CorruptError(
                f"{self.path / name} has {found} bytes, build.json lists {listed}: it was changed or is damaged; copy "
                "the build again, run vlajepa audit"
            )

    def _require(self, name: str, found: str, size: int) -> None:
        listed = self.manifest["files"][name]
        if found != listed["sha256"] or size != listed["bytes"]:
            raise CorruptError(
                f"{self.path / name} has SHA-256 {found} of {size} bytes, build.json lists {listed['sha256']} of "
                f"{listed['bytes']}: it was changed or is damaged; copy the build again, run vlajepa audit"
            )

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
        BuildError: there is none (the build is unfinished), or it cannot be used; see `read_build`.
    """
    return read_build(_content(path, "build.json"), path)


def read_build(raw: bytes, path: Path, remote: str | None = None) -> Build:
    """A build from the content of its build.json. Raises BuildError when it is malformed or of another version."""
    where = remote or path
    manifest = read_manifest(raw, where)
    sizes = read_sizes(manifest, f"{where}/build.json")
    return Build(path, manifest, sizes, tuple(manifest["views"]), remote)


def _content(path: Path, name: str) -> bytes:
    with _opened(path, name) as file:
        return file.read()


def _opened(path: Path, name: str) -> IO[bytes]:
    """A file of a build, to be read. Raises BuildError if it is none."""
    try:
        if stat.S_ISREG((path / name).stat().st_mode):
            return open(path / name, "rb")
        raise BuildError(f"{path}/{name} is no regular file; copy the build again")
    except FileNotFoundError as error:
        unfinished = "no build, or an unfinished one; run vlajepa preprocess"
        fix = unfinished if name == "build.json" else "copy the build again"
        raise BuildError(f"{path} holds no {name}: {fix}") from error
    except OSError as error:
        raise BuildError(f"{path}/{name} cannot be read: {error}") from error
