"""The verdict: the audit's result as a file, and the gate that training passes through."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audit.files import is_regular
from pipeline.audit.finding import LEVELS, RULES, Finding
from pipeline.errors import AuditRefusedError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.format.strict_json import parse


@dataclass(frozen=True)
class RuleCount:
    """How many checks a rule made, and how many failed (also those whose findings were not kept)."""

    checked: int
    failed: int


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}


@dataclass(frozen=True)
class Verdict:
    """What an audit found. The same build, level and seed give the same verdict: it holds no times and no paths.

    build_sha256  of build.json, which lists the SHA-256 of every other file
    samples       in the build
    seed          of the random share; None below level "source", where everything is checked
    coverage      what levels "source" and "perturb" checked: counts of episodes and samples by name
    tolerance     what a comparison of numbers allowed, by name
    exact         nothing was compared within bounds because libraries or devices were not those of the build
    claims        how images and latents were compared, as sentences
    """

    fingerprint: str
    build_sha256: str
    level: str
    rules: dict[str, RuleCount]
    findings: tuple[Finding, ...]
    samples: int
    seed: int | None = None
    coverage: dict[str, int] = field(default_factory=dict)
    tolerance: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    claims: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def status(self) -> str:
        """ "clean" or "leak"."""
        return "leak" if any(count.failed for count in self.rules.values()) else "clean"

    @property
    def exit_code(self) -> int:
        """0 for a clean build, 1 for any finding. (2, "cannot be audited", is BuildError.)"""
        return 0 if self.status == "clean" else 1


def write_verdict(build: Path, verdict: Verdict) -> Path:
    """Write the verdict whole or not at all; the same verdict gives the same bytes. Returns its path.

    Levels from "shards" on write audit/verdict.json, which opens the gate of training. A manifest-level verdict goes
    to audit/verdict-manifest.json. A clean verdict does not replace a deeper clean one of the same
    build.json. The signature of a replaced verdict is removed.
    """
    path = build / VERDICT
    manifest = verdict.level == "manifest"
    if manifest:
        path = path.with_name("verdict-manifest.json")
    path.parent.mkdir(exist_ok=True)
    if not manifest and verdict.status == "clean" and _holds_deeper(build, path, verdict.level):
        return path
    data = verdict_bytes(verdict)
    if not manifest and not (is_regular(path) and path.read_bytes() == data):
        (build / SIGNED_VERDICT).unlink(missing_ok=True)
    replace_whole(path, data)
    return path


def verdict_bytes(verdict: Verdict) -> bytes:
    """The verdict's file."""
    document = {**asdict(verdict), "status": verdict.status}
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def verdict_level(path: Path) -> str:
    """The level of a verdict that `write_verdict` left at a path."""
    return str(parse(path.read_bytes())["level"])


def _holds_deeper(build: Path, path: Path, level: str) -> bool:
    """Whether there is already a clean verdict of this build.json at a deeper level than `level`."""
    deeper = LEVELS.index(level) + 1
    if deeper == len(LEVELS) or not is_regular(path):
        return False
    try:
        return _refusal(build, parse(path.read_bytes()), LEVELS[deeper]) == ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def require_clean_verdict(build: Path, level: str = "shards") -> None:
    """The gate of training.

    Args:
        level: the least depth of audit that is accepted. At level "manifest" no shard was read.

    Raises:
        AuditRefusedError: there is no verdict; it is not clean; or it is of other bytes, another schema or too shallow.
    """
    path = build / VERDICT
    fix = f"Run `vlajepa audit` on {build} (level {level})"
    if not is_regular(path):
        raise AuditRefusedError(f"{build} has not been audited: there is no {VERDICT}. {fix}")
    try:
        reason = _refusal(build, parse(path.read_bytes()), level)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditRefusedError(f"{path} is not a verdict of this version: {error!r}. {fix}") from error
    if reason:
        raise AuditRefusedError(f"{path}: {reason}. {fix}")


def _refusal(build: Path, verdict: dict[str, Any], level: str) -> str:
    """Why a verdict does not open the gate; "" when it does."""
    if verdict["schema_version"] != SCHEMA_VERSION:
        return f"schema_version is {verdict['schema_version']}, this version needs {SCHEMA_VERSION}"
    if not is_regular(build / "build.json"):
        return "the build has no build.json"
    raw = (build / "build.json").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if verdict["build_sha256"] != found:
        return f"it is about a build.json with SHA-256 {verdict['build_sha256']}, this one has {found}"
    if verdict["fingerprint"] != parse(raw)["fingerprint"]:
        return f"it is about the fingerprint {verdict['fingerprint']}, not this build's"
    failed = {rule: count["failed"] for rule, count in verdict["rules"].items() if count["failed"]}
    if set(verdict["rules"]) != set(RULES):
        return f"it is by another version: its rules are {', '.join(verdict['rules'])}"
    if verdict["status"] != "clean" or failed or verdict["findings"]:
        return f"status is {verdict['status']!r}, failed checks by rule: {failed}"
    if LEVELS.index(verdict["level"]) < LEVELS.index(level):
        return f"its level is {verdict['level']!r}, {level!r} is needed"
    return ""
