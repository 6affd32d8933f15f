"""A build as it is pushed: what build.json lists, its verdicts, croissant.json and its card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jobs.sharing.audit_status import audit_status
from jobs.sharing.cards.dataset_card import FOLDER, dataset_card
from jobs.sharing.cards.held_out_results import results_section
from jobs.sharing.contents import CARD, Contents, SentFile, small_file
from jobs.sharing.settings import PushConfig
from pipeline.audit.files import read_inside
from pipeline.audit.verdicts.audited import AuditedFiles, read_audited
from pipeline.format.build import Build, read_build
from pipeline.format.file_names import CROISSANT, HISTORY, META_FILES, REPORT, SHARD_FILES, SIGNED_VERDICT, VERDICT


def build_contents(settings: PushConfig, address: str) -> Contents:
    """What is pushed of a build. Its logs stay.

    Raises:
        AuditRefusedError: it has no clean verdict, and `unaudited` is not set; or it is no finished build.
        BuildError: build.json cannot be used, or a small file is a link.
        RunError: the public key cannot be used, or `results` is no run.
    """
    root = settings.what
    files = read_audited(root)
    status = audit_status(files, settings)
    build = read_build(files.manifest, root)
    results = [] if settings.results is None else results_section(settings.results)
    card = dataset_card(build, files.sha256, status, results, address, settings.licence)
    return Contents(
        kind="dataset",
        what=root,
        title=f"Build {build.name}, fingerprint {build.fingerprint[:12]}",
        large=tuple(_listed(build)),
        last=(small_file(CARD, card.encode()), *map(_below, _small(root, files))),
        replaced=f"{FOLDER}/audit",
    )


def _listed(build: Build) -> Iterator[SentFile]:
    for shard in build.manifest["shards"]:
        for kind in (kind for kind in SHARD_FILES if kind in shard):
            yield _entry(build.path, shard[kind]["file"], shard[kind])
    for name in META_FILES:
        yield _entry(build.path, name, build.manifest["files"][name])


def _entry(root: Path, name: str, listed: dict[str, object]) -> SentFile:
    return SentFile(f"{FOLDER}/{name}", int(str(listed["bytes"])), str(listed["sha256"]), root / name)


def _small(root: Path, files: AuditedFiles) -> Iterator[SentFile]:
    """Read once: the verdict that let the build through is the one that is sent. build.json is the last."""
    history = root / HISTORY
    names = sorted(path.name for path in history.iterdir()) if history.is_dir() else []
    kept = [CROISSANT, *(f"{HISTORY}/{name}" for name in names if name.endswith(".json")), REPORT]
    contents = [(name, read_inside(root, name)) for name in kept]
    contents += [(VERDICT, files.verdict), (SIGNED_VERDICT, files.envelope), ("build.json", files.manifest)]
    for name, data in contents:
        if data is not None:
            yield small_file(name, data)


def _below(file: SentFile) -> SentFile:
    return replace(file, name=f"{FOLDER}/{file.name}")
