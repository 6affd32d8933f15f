"""audit/history/: every verdict on a build, with its date, the tool's version and who signed it.

Nothing reads it but people: the gates look at audit/verdict.json alone.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.audit.files import names_inside, read_inside, replace_whole
from pipeline.audit.finding import LEVELS
from pipeline.audit.verdicts.envelope import read_envelope
from pipeline.errors import AuditRefusedError
from pipeline.format.file_names import HISTORY
from pipeline.format.json.strict_json import parse

TOOL = "vlajepa"


def archive(root: Path, verdict: bytes, envelope: bytes | None, when: datetime) -> str:
    """Keep a verdict, and the envelope of its signature, unless they are kept already. What is no verdict is not kept.

    Returns:
        Name of the entry below `root`; "" where nothing was kept.

    Raises:
        BuildError: audit/ or audit/history/ is a link.
    """
    try:
        content = parse(verdict)
        level, status = content["level"], content["status"]
        text = verdict.decode()
        signature = None if envelope is None else envelope.decode()
    except (ValueError, KeyError, TypeError):
        return ""
    if level not in LEVELS or status not in ("clean", "leak"):
        return ""
    ending = f"-{level}-{status}-{hashlib.sha256(verdict).hexdigest()[:12]}"
    name = f"{when:%Y%m%dT%H%M%SZ}{ending}"
    number = 0
    for known in names_inside(root, HISTORY):
        if ending not in known or known.startswith("."):  # what an audit that was killed was writing
            continue
        number += 1
        entry = _entry(root, known)
        if entry.get("verdict") == text and (signature is None or entry.get("signature") in (signature, None)):
            if signature is None or entry.get("signature") == signature:
                return f"{HISTORY}/{known}"
            return _write(root, known, entry | {"signed_by": signer_of(envelope), "signature": signature})
    return _write(
        root,
        f"{name}{f'-{number + 1}' if number else ''}.json",
        {
            "date": when.isoformat(timespec="seconds"),
            "tool_version": _tool_version(),
            "level": level,
            "status": status,
            "signed_by": signer_of(envelope),
            "verdict": text,
            "signature": signature,
        },
    )


def signer_of(envelope: bytes | None) -> str:
    """The id of the key that an envelope names, unchecked; "" without one."""
    try:
        return "" if envelope is None else read_envelope(envelope, "").signer
    except AuditRefusedError:
        return ""


def _entry(root: Path, name: str) -> dict[str, Any]:
    try:
        entry = parse(read_inside(root, f"{HISTORY}/{name}") or b"")
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _write(root: Path, name: str, entry: dict[str, Any]) -> str:
    path = f"{HISTORY}/{name}"
    replace_whole(root, path, (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode())
    return path


def _tool_version() -> str:
    try:
        return version(TOOL)
    except PackageNotFoundError:
        return "unknown"
