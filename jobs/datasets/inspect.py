"""`vlajepa inspect`: compares the content of a dataset folder with its manifest before a build.

Exit code 0 if everything agrees with the manifest, or without a manifest; 1 if something differs, or if a state or a
camera shows later frames.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any

from jobs.common.progress import phase, progress_bar
from jobs.datasets.manifests import DatasetManifest, load_manifests
from jobs.datasets.settings import InspectConfig
from pipeline.errors import RunError
from pipeline.inspection.checks import Inspection, Range, inspect_source, spread
from pipeline.inspection.contact_sheet import draw_contact_sheet
from pipeline.inspection.lookahead import LookaheadResult, find_lookahead
from pipeline.storage.atomic import write_atomic

SHOWN = 5
"""Printed entries and texts; inspection.json holds all."""

RATE_TOLERANCE = 0.02
"""Tolerated relative difference of the measured frame rate."""


@dataclass(frozen=True)
class Comparison:
    """One fact and the manifest's claim."""

    what: str
    expected: str
    found: str

    @property
    def agrees(self) -> bool:
        return self.expected == self.found


def run(settings: InspectConfig) -> int:
    source = settings.source.reader
    out = settings.out or Path(f"inspect-{source.name}")
    require_writable(out)
    with phase(f"reading the metadata of {source.root}"):
        index = source.index()
    chosen = spread(index.refs, settings.episodes)
    with progress_bar(total=len(chosen), unit="episode", desc=f"inspect {index.name}") as bar:
        found = inspect_source(source, index, settings.episodes, lambda: bar.update(1))
    name = settings.source.manifest
    manifest = load_manifests()[name] if name else None
    comparisons = compare(found, manifest) if manifest else []
    with phase("looking for later frames in the inputs of a sample of episodes"):
        lookahead = find_lookahead(source, index.refs)
    print(describe(found, manifest))
    for row in comparisons:
        mark = "as in the manifest" if row.agrees else f"DIFFERS, the manifest has {row.expected}"
        print(f"  {row.what:16} {row.found}  ({mark})")
    sample = f"{lookahead.episodes} episodes, {lookahead.films} with their cameras"
    print(f"  {'later frames':16} {len(lookahead.findings) or 'no'} inputs show them (of {sample})")
    for finding in lookahead.findings:
        print(f"    {finding.rule}: {finding.detail}")
    print(f"written: {write_report(found, comparisons, lookahead, out)}")
    return int(bool(lookahead.findings) or not all(row.agrees for row in comparisons))


def require_writable(out: Path) -> None:
    """Make the folder and try to write there, before anything is read. Raises RunError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RunError(f"out={out} cannot be written to: {error.strerror}; set out= to another folder") from error


def compare(found: Inspection, manifest: DatasetManifest) -> list[Comparison]:
    """The claims of the manifest and the facts."""
    index = found.index
    counts = Counter(ref.split for ref in index.refs) + Counter(entry.split for entry in index.left_out)
    rows = []
    for split, expected in (manifest.episodes or {}).items():
        number = counts.total() if split == "total" else counts[split]
        rows.append(Comparison(f"episodes {split}", f"{expected:,}", f"{number:,}"))
    rows.append(Comparison("cameras", ", ".join(c.name for c in manifest.cameras), ", ".join(index.views)))
    for kind, width in (("state", index.state_dim), ("action", index.action_dim)):
        rows.append(Comparison(f"{kind} channels", str(len(manifest.channel_names(kind))), str(width)))
    rates = [rate for facts in found.views.values() for rate in facts.fps]
    if manifest.fps and rates:
        middle = median(rates)
        same = abs(middle / manifest.fps - 1) <= RATE_TOLERANCE
        rows.append(Comparison("frame rate", f"{manifest.fps:g}", f"{manifest.fps if same else round(middle, 2):g}"))
    return rows


def describe(found: Inspection, manifest: DatasetManifest | None) -> str:
    """The findings as text."""
    index = found.index
    splits = Counter(ref.split for ref in index.refs)
    lines = [f"{index.name}: {manifest.title if manifest else index.description['type']}"]
    lines.append(f"  {'episodes':16} " + ", ".join(f"{split} {count:,}" for split, count in sorted(splits.items())))
    lines += [f"  {'note':16} {note}" for note in index.notes]
    lines.append(f"  {'opened':16} {found.opened:,}, of which {found.unusable:,} cannot be used")
    if found.lengths:
        low, middle, high = min(found.lengths), median(found.lengths), max(found.lengths)
        lines.append(f"  {'frames':16} {low} to {high}, median {middle:g}")
    for view, facts in found.views.items():
        rate = f"{min(facts.fps):.4g} to {max(facts.fps):.4g} frames/s" if facts.fps else "no rate"
        uneven = f", {facts.uneven} with uneven times" if facts.uneven else ""
        lines.append(f"  {view:16} {_counts(facts.sizes)}; {_counts(facts.codecs)}; {rate}{uneven}")
    lines += [f"  {'text':16} {text!r} ({count})" for text, count in found.texts.most_common(SHOWN)]
    for kind in ("state", "action"):
        names = manifest.channel_names(kind) if manifest else []
        lines += _ranges(kind, getattr(found, kind), names)
    reasons = Counter(entry.reason for entry in found.left_out).most_common()
    lines += [f"  {'left out':16} {reason}: {count:,}" for reason, count in reasons]
    lines += [f"    {entry.episode}: {entry.reason}: {entry.detail}" for entry in found.left_out[:SHOWN]]
    return "\n".join(lines)


def write_report(found: Inspection, comparisons: list[Comparison], lookahead: LookaheadResult, out: Path) -> Path:
    """inspection.json in `out`, and contact-sheet.png unless no episode could be opened."""
    out.mkdir(parents=True, exist_ok=True)
    index = found.index
    content: dict[str, Any] = {
        "name": index.name,
        "description": dict(index.description),
        "notes": list(index.notes),
        "episodes": dict(Counter(ref.split for ref in index.refs)),
        "opened": found.opened,
        "lengths": found.lengths,
        "views": {view: vars(facts) for view, facts in found.views.items()},
        "texts": dict(found.texts),
        "state": _range_json(found.state),
        "action": _range_json(found.action),
        "left_out": [asdict(entry) for entry in found.left_out],
        "lookahead": asdict(lookahead),
        "manifest": [asdict(row) | {"agrees": row.agrees} for row in comparisons],
    }
    write_atomic(out / "inspection.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    if found.strips:
        draw_contact_sheet(found.strips).save(out / "contact-sheet.png")
    return out


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" if len(counter) > 1 else name for name, count in counter.most_common()) or "-"


def _ranges(kind: str, values: Range, names: list[str]) -> list[str]:
    if values.low is None or values.high is None:
        return []
    labels = names if len(names) == len(values.low) else [str(i) for i in range(len(values.low))]
    cells = [f"{n} {a:.3g}..{b:.3g}" for n, a, b in zip(labels, values.low, values.high, strict=True)]
    return [f"  {kind if not at else '':16} {'  '.join(cells[at : at + 4])}" for at in range(0, len(cells), 4)]


def _range_json(values: Range) -> dict[str, list[float]] | None:
    if values.low is None or values.high is None:
        return None
    return {"min": values.low.tolist(), "max": values.high.tolist()}
