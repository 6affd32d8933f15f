"""Bytes can be compared only by the libraries that wrote them. Where others are installed, there is no verdict."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from pipeline.audit.build import ClaimedBuild
from pipeline.errors import BuildError


def require_libraries(build: ClaimedBuild, names: Iterable[str]) -> None:
    """Raise BuildError (exit code 2) unless the libraries of these names are installed in the build's versions.

    Args:
        names: of `settings.versions`.
    """
    claimed = build.settings.get("versions")
    versions = claimed if isinstance(claimed, dict) else {}
    wrong = [name for name in names if _installed(name) is None or _installed(name) != versions.get(name)]
    if wrong:
        wanted = " ".join(f"{name}=={versions.get(name)}" for name in wrong)
        found = ", ".join(f"{name} {_installed(name) or '(none)'}" for name in wrong)
        raise BuildError(f"{build.root} could not be audited exactly: install {wanted}; installed: {found}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
