"""The verdict: the audit's result as a file, which one stands, and why one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audit.files import alone_in, read_inside, remove_inside, replace_whole
from pipeline.audit.finding import LEVELS, RULES, Finding
from pipeline.audit.proofs.proof import Proof
from pipeline.audit.verdicts.history import archive, signer_of
from pipeline.format.file_names import MANIFEST_VERDICT, REPORT, SIGNED_VERDICT, VERDICT
from pipeline.format.json.strict_json import parse
from pipeline.format.libraries import library_versions
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.format.text.printable import printable

SHARES = ("samples_encoded", "samples_perturbed")
"""Parts of the coverage that are a random share of the samples."""


@dataclass(frozen=True)
class RuleCount:
    """How many checks a rule made, and how many failed (also those whose findings were not kept)."""

    checked: int
    failed: int


def audit_versions(deep: bool = False) -> dict[str, str]:
    """Of what the audit runs on. deep: with the libraries that decode and encode, of levels "source" and "perturb"."""
    own = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
    return {**own, **library_versions()} if deep else own


@dataclass(frozen=True)
class Verdict:
    """What an audit found. The same build, level and nonce give the same verdict: it holds no times and no paths.

    build_sha256  of build.json, which lists the SHA-256 of every other file
    samples       in the build
    nonce         drawn by the auditor; with build_sha256 it gives the random share (`share_seed`). None below level
                  "source", where everything is checked
    coverage      what levels "source" and "perturb" checked: counts of episodes and samples by name
    tolerance     what a comparison of numbers allowed, by name
    exact         nothing was compared within bounds because libraries or devices were not those of the build
    claims        what a filter left out, and how images and latents were compared, as sentences
    proofs        what was checked for each rule at this level, by which mechanism, with what power
    out_of_reach  what no audit of one build can show
    altered       failed checks that say no more than that something is not what was listed
    """

    fingerprint: str
    build_sha256: str
    level: str
    rules: dict[str, RuleCount]
    findings: tuple[Finding, ...]
    samples: int
    nonce: str | None = None
    coverage: dict[str, int] = field(default_factory=dict)
    tolerance: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    claims: tuple[str, ...] = ()
    proofs: tuple[Proof, ...] = ()
    out_of_reach: tuple[str, ...] = ()
    altered: int = 0
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=audit_versions)

    @property
    def status(self) -> str:
        """ "clean" or "leak"."""
        return "leak" if any(count.failed for count in self.rules.values()) else "clean"

    @property
    def headline(self) -> str:
        """The status for people. Where nothing but hashes fail, bytes have changed, and none show a leak."""
        failed = sum(count.failed for count in self.rules.values())
        return "DAMAGED OR ALTERED" if failed and failed == self.altered else self.status.upper()

    @property
    def exit_code(self) -> int:
        """0 for a clean build, 1 for any finding. (2, "cannot be audited", is BuildError.)"""
        return 0 if self.status == "clean" else 1


@dataclass(frozen=True)
class Written:
    """What became of a verdict.

    path     where it stands, or where the one stands that was kept
    kept     why another verdict was kept in its place; "" when this one stands
    unseats  id of the key that claims to have signed the verdict before, whose signature is in the history alone now
    """

    path: Path
    kept: str = ""
    unseats: str = ""


def write_verdict(build: Path, verdict: Verdict) -> Written:
    """Write the verdict whole or not at all, and keep it in the history; the same verdict gives the same bytes.

    Levels from "shards" on write audit/verdict.json, which opens the gate of training. A manifest-level verdict goes
    to audit/verdict-manifest.json. A verdict that `_reason_to_keep` another stands in the history alone. The signature
    of a replaced verdict goes, to the history.

    Raises:
        BuildError: audit/ or something in it is a link, or another audit is writing there and does not end.
    """
    data = verdict_bytes(verdict)
    if verdict.level == "manifest":
        return Written(replace_whole(build, MANIFEST_VERDICT, data))
    with alone_in(build, os.path.dirname(VERDICT)):
        return _written(build, verdict, data)


def _written(build: Path, verdict: Verdict, data: bytes) -> Written:
    before, envelope = read_inside(build, VERDICT), read_inside(build, SIGNED_VERDICT)
    now = datetime.now(UTC)
    unseats = ""
    if before is not None and before != data:
        kept = _reason_to_keep(before, verdict)
        if kept:
            archive(build, data, None, now)
            return Written(build / VERDICT, kept)
        if verdict.status != "clean":
            for clean in (VERDICT, REPORT):  # on a full disk too, neither must outlive what was found
                remove_inside(build, clean)
        archive(build, before, envelope, now)
        unseats = signer_of(envelope)
    if before != data:
        for belongs in (SIGNED_VERDICT, REPORT):  # both go before their verdict changes
            remove_inside(build, belongs)
    path = replace_whole(build, VERDICT, data)
    archive(build, data, envelope if before == data else None, now)
    return Written(path, "", unseats)


def verdict_bytes(verdict: Verdict) -> bytes:
    """The verdict's file."""
    document = {**asdict(verdict), "status": verdict.status}
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _reason_to_keep(before: bytes, verdict: Verdict) -> str:
    """Why the verdict before stays in spite of a new one; "" when it goes.

    Of the same build.json: the deeper one stays, unless a shallower audit found a leak where the deeper found none. A
    leak that a random share may have found stays until that share, or every sample, is found clean. What levels from
    "source" on found exactly is not cleared within bounds.
    """
    try:
        old = parse(before)
        if old["schema_version"] != SCHEMA_VERSION or old["build_sha256"] != verdict.build_sha256:
            return ""
        depth, leak = LEVELS.index(old["level"]), old["status"] != "clean"
        if depth > LEVELS.index(verdict.level) and (leak or verdict.status == "clean"):
            return f"of level {old['level']}, deeper than this one"
        weaker = old["exact"] and not verdict.exact and depth >= LEVELS.index("source")
        if weaker and verdict.status == "clean" and (leak or depth == LEVELS.index(verdict.level)):
            return f"of level {old['level']} and exact, which this one is not"
        if leak and verdict.status == "clean" and not _covers(verdict, old):
            nonce = printable(old["nonce"])
            return f"a LEAK, which stands until nonce={nonce} with as large a share, or share=1, finds none"
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return ""


def _covers(verdict: Verdict, old: Mapping[str, Any]) -> bool:
    """Whether an audit looked at all that an older one of no greater depth did."""
    looked = {name: count for name, count in old["coverage"].items() if name in SHARES}
    if verdict.nonce is not None and verdict.nonce == old["nonce"]:
        return all(verdict.coverage.get(name, 0) >= count for name, count in looked.items())
    return all(verdict.coverage.get(name, 0) == verdict.samples for name in looked)


def refusal(manifest: bytes, verdict: Mapping[str, Any], level: str) -> str:
    """Why a verdict does not open the gate; "" when it does.

    Args:
        manifest: content of build.json.
        verdict: as parsed; may be anything.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no verdict.
    """
    if verdict["schema_version"] != SCHEMA_VERSION:
        return f"schema_version is {verdict['schema_version']}, this version needs {SCHEMA_VERSION}"
    found = hashlib.sha256(manifest).hexdigest()
    if verdict["build_sha256"] != found:
        return f"it is about a build.json with SHA-256 {verdict['build_sha256']}, this one has {found}"
    if verdict["fingerprint"] != parse(manifest)["fingerprint"]:
        return f"it is about the fingerprint {verdict['fingerprint']}, not this build's"
    failed = {rule: count["failed"] for rule, count in verdict["rules"].items() if count["failed"]}
    if set(verdict["rules"]) != set(RULES):
        return f"it is by another version: its rules are {', '.join(verdict['rules'])}"
    if verdict["status"] != "clean" or failed or verdict["findings"]:
        counts = ", ".join(f"{rule}: {count}" for rule, count in failed.items()) or "none"
        return (
            f"the build was not found clean, failed checks by rule: {counts} (findings: audit/report.html). Damaged "
            "files can be fetched again; otherwise the build must be made again"
        )
    if LEVELS.index(verdict["level"]) < LEVELS.index(level):
        return f"its level is {verdict['level']!r}, {str(level)!r} is needed"
    return ""
