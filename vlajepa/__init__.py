"""The system in Python and notebooks: builds, samples, batches, policies, and every command with its result."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.common.policy.committed import Committed
    from jobs.common.policy.robot_interface import RobotObservation
    from jobs.serving.client import PolicyClient
    from pipeline.errors import AuditRefusedError, BuildError, CorruptError, RunError, SettingsError
    from vlajepa.batches import Batches
    from vlajepa.builds import OpenBuild, open_build
    from vlajepa.commands import run
    from vlajepa.policies import LoadedPolicy, load_policy
    from vlajepa.samples import Sample

__all__ = [
    "AuditRefusedError",
    "Batches",
    "BuildError",
    "Committed",
    "CorruptError",
    "LoadedPolicy",
    "OpenBuild",
    "PolicyClient",
    "RobotObservation",
    "RunError",
    "Sample",
    "SettingsError",
    "load_policy",
    "open_build",
    "run",
]

_HOMES = {
    "jobs.common.policy.committed": ("Committed",),
    "jobs.common.policy.robot_interface": ("RobotObservation",),
    "jobs.serving.client": ("PolicyClient",),
    "vlajepa.batches": ("Batches",),
    "vlajepa.builds": ("OpenBuild", "open_build"),
    "vlajepa.commands": ("run",),
    "vlajepa.policies": ("LoadedPolicy", "load_policy"),
    "vlajepa.samples": ("Sample",),
    "pipeline.errors": ("AuditRefusedError", "BuildError", "CorruptError", "RunError", "SettingsError"),
}


def __getattr__(name: str) -> Any:
    """A name is imported when it is first asked for: torch alone takes seconds."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {', '.join(__all__)}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
