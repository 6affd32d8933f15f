"""The fingerprint of a build: one hash over everything that changes bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.format.text.differences import differences
from pipeline.sources.canonical_json import CANONICAL


def make_fingerprint(settings: Mapping[str, Any], tasks: bytes | Iterable[bytes]) -> str:
    """SHA-256 over settings and tasks, as `docs/formats.md` defines it.

    Args:
        tasks: the content of tasks.jsonl, at once or line by line.
    """
    digest = hashlib.sha256()
    for part in [tasks] if isinstance(tasks, bytes) else tasks:
        digest.update(part)
    return fingerprint_of(settings, digest.hexdigest())


def fingerprint_of(settings: Mapping[str, Any], tasks_sha256: str) -> str:
    """The same, by the SHA-256 of tasks.jsonl in hex."""
    content = {"settings": settings, "tasks": tasks_sha256}
    return hashlib.sha256(CANONICAL.encode(content).encode()).hexdigest()


def setting_differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Settings that differ, among the wanted sections."""
    return [str(found) for found in differences({section: stored.get(section) for section in wanted}, wanted)]
