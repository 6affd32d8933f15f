"""Addresses on the Hugging Face Hub: `hf://datasets/OWNER/NAME` and `hf://OWNER/NAME` (or `hf://models/OWNER/NAME`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.format.text.printable import shown

SCHEME = "hf://"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"hf://(?:(datasets|models)/)?({_PART}/{_PART})/?", re.ASCII)


_KINDS = ("datasets/", "models/", "spaces/", "kernels/", "buckets/")
"""What stands before OWNER/NAME, and is the name of no owner."""


@dataclass(frozen=True)
class HubAddress:
    """A repository. repo: OWNER/NAME;  kind: "dataset" or "model"."""

    repo: str
    kind: str

    @property
    def text(self) -> str:
        return f"{SCHEME}{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"


def read_hub_address(text: str) -> HubAddress:
    """Raises SettingsError for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None or found[2].startswith(_KINDS) or "--" in text or ".." in text:
        raise SettingsError(
            f"{shown(text)} is no repository of the Hub; write hf://datasets/OWNER/NAME for a build, hf://OWNER/NAME "
            "for a checkpoint"
        )
    return HubAddress(found[2], "dataset" if found[1] == "datasets" else "model")
