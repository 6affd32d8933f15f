"""Settings of `vlajepa push`."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.format.enums import AuditLevel
from pipeline.format.settings import checked, setting


@checked
class PushConfig:
    """`vlajepa push`."""

    what: Path = setting("folder of a finished build, of a run (its newest checkpoint) or of a checkpoint")
    out: str = setting(
        "hf://datasets/OWNER/NAME (a build), hf://OWNER/NAME (a checkpoint), or a bucket's s3:// or gs://"
    )
    level: AuditLevel = setting(
        "the least depth of audit of a build that is accepted, above manifest", default=AuditLevel.SHARDS
    )
    public_key: Path | None = setting(
        "PEM file of the ed25519 key that must have signed a build's verdict; null: no signature is checked",
        default=None,
    )
    unaudited: bool = setting(
        "push a build without a clean verdict, or a checkpoint of one; its card says so", default=False
    )
    results: Path | None = setting(
        "folder of a run whose held-out numbers stand on the card; null: a checkpoint's own run, none for a build",
        default=None,
    )
    licence: str | None = setting(
        "licence in the card's header by the Hub's own short name, as apache-2.0; null: that of the dataset, or other",
        default=None,
    )
    private: bool = setting("a repository that has to be made is seen by its owner alone", default=True)

    def __post_init__(self) -> None:
        if self.level == AuditLevel.MANIFEST:
            raise ValueError("level must be one of shards, source, perturb, got 'manifest'")
        if self.licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", self.licence):
            raise ValueError(
                f"licence must be a short name of lower-case letters, digits, . and -, got {self.licence!r:.80}"
            )
