"""`vlajepa sources [NAME]`: lists the datasets that have a manifest, or prints one manifest."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.common.manifest_folders import OWN_FOLDER
from jobs.datasets.manifests import DatasetManifest, find_manifests
from jobs.datasets.settings import SourcesConfig
from pipeline.errors import SettingsError

FACTS = ("title", "version", "kind", "licence", "terms", "publisher", "citation", "episodes", "splits")


def run(settings: SourcesConfig) -> tuple[DatasetManifest, ...]:
    """All manifests, or the one that is named."""
    manifests, wrong = find_manifests()
    if settings.name is None:
        print(list_manifests(manifests.values()))
        print("".join(f"\nleft out: {error}" for error in wrong.values()))
        return tuple(manifests.values())
    if settings.name in wrong:
        raise wrong[settings.name]
    if settings.name not in manifests:
        raise SettingsError(
            f"no manifest is called {settings.name!r}; there are {', '.join(manifests)} (and source=lerobot, rlds and "
            "videos for your own data)"
        )
    print(describe(manifests[settings.name]))
    return (manifests[settings.name],)


def list_manifests(manifests: Iterable[DatasetManifest]) -> str:
    """One line per dataset."""
    rows = [("source", "reader", "kind", "version", "episodes", "licence", "what")]
    for m in manifests:
        count = f"{sum(m.episodes.values()):,}" if m.episodes else "-"
        rows.append((m.name, m.reader["type"], m.kind, m.version, count, m.licence[:24], m.title))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[-1]}" for row in rows
    ]
    lines += ["", "vlajepa sources NAME shows one. Your own data: source=lerobot, source=rlds or source=videos,"]
    return "\n".join([*lines, f"or your own manifest in the folder that {OWN_FOLDER} names (manifests/README.md)."])


def describe(manifest: DatasetManifest) -> str:
    """The content of one manifest."""
    counts = manifest.episodes
    facts = {name: getattr(manifest, name) for name in FACTS}
    facts["episodes"] = ", ".join(f"{split} {n:,}" for split, n in counts.items()) if counts else "not stated"
    facts["rate"] = f"{manifest.fps:g} frames a second" if manifest.fps else "differs by file"
    facts["interval"] = f"{manifest.interval} frames between two sampled ones"
    lines = [f"source={manifest.name} source.root=FOLDER", *(f"  {name:10} {text}" for name, text in facts.items())]
    lines += ["cameras, in order", *(f"  {camera.name}: {camera.shows}" for camera in manifest.cameras)]
    for kind in ("state", "action"):
        if getattr(manifest, kind):
            lines.append(f"{kind} ({len(manifest.channel_names(kind))})")
            lines += [f"  {', '.join(c.names)} [{c.units}]: {c.meaning}" for c in getattr(manifest, kind)]
    if manifest.defects:
        lines += ["known defects", *(f"  - {text}" for text in manifest.defects)]
    lines += ["reader", *(f"  {key}: {value}" for key, value in manifest.reader.items())]
    lines += ["evidence", *(f"  - {item.claim}: {item.source}" for item in manifest.evidence)]
    return "\n".join(lines)
