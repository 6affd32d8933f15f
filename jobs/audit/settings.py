"""Settings of the commands that audit a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AuditConfig:
    """`vlajepa audit`. Everything below `level` serves levels "source" and "perturb".

    build       folder of the build, or its URL (s3://, gs://): its shards are then fetched one by one
    root        folder of the raw data
    encoder_path  name or folder of the encoder the build was made with (its weights are compared with build.json)
    device      where it runs: "auto", "cpu" or "cuda"
    seed        of the random share; null draws one, which the verdict names
    share       part of the samples encoded again and perturbed;  least  at least so many
    workers     threads that decode
    checkpoint  a step-… folder whose model is perturbed; null: the tiny model
    sign_key    PEM file of an ed25519 private key that signs the verdict
    """

    build: Path | str
    level: str = "shards"
    root: Path | None = None
    encoder_path: str = "facebook/vjepa2-vitl-fpc64-256"
    device: str = "auto"
    seed: int | None = None
    share: float = 0.02
    least: int = 16
    workers: int = 2
    checkpoint: Path | None = None
    sign_key: Path | None = None

    def __post_init__(self) -> None:
        if self.level not in ("manifest", "shards", "source", "perturb"):
            raise ValueError(f"level must be one of manifest, shards, source, perturb, got {self.level!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be one of auto, cpu, cuda, got {self.device!r}")
        if self.sign_key is not None and self.level == "manifest":
            raise ValueError("sign_key needs level shards, source or perturb (it signs verdict.json), got 'manifest'")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be 0..1, got {self.share}")
        if self.least < 1 or self.workers < 1:
            raise ValueError(f"least and workers must be at least 1, got {self.least} and {self.workers}")


@dataclass(frozen=True)
class VerifyConfig:
    """`vlajepa verify`.

    build       folder of the build, or its URL
    public_key  PEM file of an ed25519 public key; null: no signature is checked
    level       the least depth of audit that is accepted
    hash_files  hash every file that build.json lists;  workers  threads that do
    """

    build: Path | str
    public_key: Path | None = None
    level: str = "shards"
    hash_files: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        if self.level not in ("shards", "source", "perturb"):
            raise ValueError(f"level must be one of shards, source, perturb, got {self.level!r}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
