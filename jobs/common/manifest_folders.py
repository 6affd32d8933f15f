"""Where manifests of datasets lie: those of this project, and a user's own."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "manifests"

OWN_FOLDER = "VLAJEPA_MANIFESTS"
"""Variable of the environment that names the user's folder."""


def own_folder() -> Path | None:
    """The user's folder, as the variable has it; None where it is unset or empty."""
    return Path(own) if (own := os.environ.get(OWN_FOLDER)) else None
