"""The files that a gate looks at, each read once: what is parsed is what was hashed, and what was signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit.files import BUILD, read_inside
from pipeline.errors import AuditRefusedError, BuildError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT


@dataclass(frozen=True)
class AuditedFiles:
    """Contents of build.json, of the verdict and of its signature; None where there is no such file."""

    root: Path
    manifest: bytes
    verdict: bytes | None
    envelope: bytes | None

    @property
    def sha256(self) -> str:
        """Of build.json."""
        return hashlib.sha256(self.manifest).hexdigest()


def read_audited(root: Path) -> AuditedFiles:
    """Read them from a build's folder.

    Raises:
        AuditRefusedError: there is no build.json, or one of the files, or the folder audit/, is a link or no file.
    """
    try:
        manifest = read_inside(root, BUILD)
        verdict, envelope = read_inside(root, VERDICT), read_inside(root, SIGNED_VERDICT)
    except BuildError as error:
        raise AuditRefusedError(str(error)) from error
    if manifest is None:
        raise AuditRefusedError(f"{root} holds no build.json: no build, or an unfinished one; run vlajepa preprocess")
    return AuditedFiles(root, manifest, verdict, envelope)
