"""The claims of a manifest beside the facts of a folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median

from jobs.datasets.manifests import DatasetManifest
from pipeline.inspection.checks import Inspection
from pipeline.inspection.quality.survey import ChannelFacts

RATE_TOLERANCE = 0.02
"""Tolerated relative difference of the measured frame rate."""


@dataclass(frozen=True)
class Comparison:
    """One fact and the manifest's claim. fewer: it is a smaller number of episodes, as a part of the set has."""

    what: str
    expected: str
    found: str
    fewer: bool = False

    @property
    def agrees(self) -> bool:
        return self.expected == self.found


def compare(found: Inspection, manifest: DatasetManifest) -> list[Comparison]:
    """The claims of the manifest and the facts."""
    index = found.index
    counts = Counter(ref.split for ref in index.refs) + Counter(entry.split for entry in index.left_out)
    rows = []
    for split, expected in (manifest.episodes or {}).items():
        number = counts.total() if split == "total" else counts[split]
        rows.append(Comparison(f"episodes {split}", f"{expected:,}", f"{number:,}", number < expected))
    rows.append(Comparison("cameras", ", ".join(c.name for c in manifest.cameras), ", ".join(index.views)))
    for kind, width in (("state", index.state_dim), ("action", index.action_dim)):
        rows.append(Comparison(f"{kind} channels", str(len(manifest.channel_names(kind))), str(width)))
    rates = [rate for facts in found.views.values() for rate in facts.fps]
    if manifest.fps and rates:
        middle = median(rates)
        same = abs(middle / manifest.fps - 1) <= RATE_TOLERANCE
        rows.append(Comparison("frame rate", f"{manifest.fps:g}", f"{manifest.fps if same else round(middle, 2):g}"))
    return rows


def channel_facts(manifest: DatasetManifest | None, kind: str, declared: tuple[str, ...]) -> ChannelFacts:
    """Names and units of the channels of "state" or "action"; without a manifest the names that the set declares."""
    if manifest is None:
        return ChannelFacts(declared, ("",) * len(declared))
    groups = getattr(manifest, kind)
    names = tuple(name for group in groups for name in group.names)
    return ChannelFacts(names, tuple(group.units for group in groups for _ in group.names))
