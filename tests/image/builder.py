"""An image from a Dockerfile with debootstrap and buildah: no Docker, no registry, no name space of its own.

What the Dockerfile calls python:3.11-slim-bookworm is a small Debian with Debian's Python 3.11, from where apt has its
packages here. Needs root, network, and 15 GB; `apt-get install debootstrap buildah` brings the tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.image.pip_settings import PipSettings

BASE = "python:3.11-slim-bookworm"
TOOLS = ("debootstrap", "buildah")

_SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "python3.11", "python3.11-venv", "python3-distutils")
_NAMES = {"python3": "python3.11", "python": "python3.11"}
"""In /usr/local/bin, as in the image that this stands for."""


class ImageError(Exception):
    """A step of building or using the image failed; the message ends with what it printed last."""


def missing_tool() -> str | None:
    """Why no image can be built here; None: it can."""
    lost = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lost:
        return f"{' and '.join(lost)} not installed; on Debian: apt-get install {' '.join(TOOLS)}"
    return None if os.geteuid() == 0 else "debootstrap and buildah's isolation chroot need root"


@dataclass(frozen=True)
class Builder:
    """Images in a folder of their own, which holds everything that is made."""

    folder: Path

    def base(self) -> None:
        """Make `BASE`.

        Raises:
            ImageError: debootstrap failed.
        """
        root = self.folder / "base"
        included = f"--include={','.join(_PACKAGES)}"
        run(["debootstrap", "--variant=minbase", included, _SUITE, str(root), *_mirror()])
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        for name, target in _NAMES.items():
            (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
        container = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", container, str(root), "/")
        self.buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self.buildah("commit", "--quiet", "--rm", container, f"localhost/{BASE}")
        shutil.rmtree(root)

    def build(self, source: Path, image: str, pip: PipSettings) -> None:
        """Build the Dockerfile of a folder on `BASE`, with this machine's settings of pip while it builds.

        Raises:
            ImageError: a step failed.
        """
        settings = self.folder / "pip.conf"
        settings.write_text(pip.text)
        mounts = [f"--volume={path}:{path}:ro" for path in pip.paths]
        words = ["--isolation=chroot", "--network=host", "--pull-never", "--format=docker", f"--tag={image}"]
        self.buildah("build", *words, *mounts, f"--volume={settings}:/etc/pip.conf:ro", str(source))

    def start(self, image: str) -> str:
        """A container to run commands in."""
        return self.buildah("from", "--pull-never", image)

    def run(self, container: str, *command: str) -> str:
        """What a command prints in a container as its own user. Raises ImageError when it fails."""
        return self.buildah("run", "--isolation=chroot", "--network=host", container, "--", *command)

    def settings(self, image: str) -> dict[str, Any]:
        """What the image says of itself: `Config` of Docker's format."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", image))["Docker"]["config"]
        return found

    def buildah(self, *words: str) -> str:
        """Output of a command. Raises ImageError when it fails."""
        own = [f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}", "--storage-driver=vfs"]
        return run(["buildah", *own, *words])


def run(command: Sequence[str]) -> str:
    """Standard output of a command, without the last line's end. Raises ImageError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ImageError(f"{' '.join(command)} ended with {done.returncode}; it printed last:\n{said}")
    return done.stdout.rstrip("\n")


def _mirror() -> list[str]:
    """The address that apt has Debian's packages from, if it has one; else debootstrap takes its own."""
    if shutil.which("apt-get") is None:
        return []
    wanted = [f"Codename: {_SUITE}", "Component: main", "Created-By: Packages"]
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]).split()
    return found[:1]
