"""Settings of the commands that audit a build."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.cluster.settings import ClusterSettings
from pipeline.format.enums import AuditLevel, Device
from pipeline.format.settings import checked, setting


@checked
class AuditConfig:
    """`vlajepa audit`. What follows `sign_key` serves levels source and perturb."""

    build: Path | str = setting("folder of the build, or its URL; its shards are then fetched one by one", default="")
    builds: tuple[str, ...] = setting(
        "in place of build: builds that are to be trained together, which are compared with each other", default=()
    )
    roots: tuple[Path | str, ...] = setting(
        "raw data of each of builds: near-duplicates and test sets are compared too; none: raw files alone",
        default=(),
    )
    level: AuditLevel = setting("how deep the audit goes", default=AuditLevel.SHARDS)
    sign_key: Path | None = setting("PEM file of an ed25519 private key that signs the verdict", default=None)
    root: Path | str | None = setting("folder of the raw data, or its URL: s3:// or gs://", default=None)
    encoder_path: str = setting(
        "name, folder or file of the encoder the build was made with; its weights are compared with build.json",
        default="facebook/vjepa2-vitl-fpc64-256",
    )
    device: Device = setting("where the encoder runs", default=Device.AUTO)
    nonce: str | None = setting(
        "gives the random share, with the hash of build.json; null draws one, which the verdict names. Give it to "
        "repeat an audit, never one that the maker of the build could know",
        default=None,
    )
    share: float = setting(
        "part of the samples that is encoded again and perturbed", default=0.02, at_least=0, at_most=1
    )
    least: int = setting("samples that are encoded again and perturbed at least", default=16, at_least=1)
    workers: int = setting("threads that decode", default=2, at_least=1)
    inexact: bool = setting(
        "where libraries or devices are not those that made the build, compare within bounds and by statistics; false: "
        "the audit ends and names what to install",
        default=False,
    )
    ray: bool = setting(
        "audit shards, episodes and films on the Ray cluster of section cluster; false: in this process. The verdict "
        "is the same",
        default=False,
    )
    cluster: ClusterSettings = setting("where Ray runs", default_factory=ClusterSettings)
    checkpoint: Path | None = setting("a step-… folder whose model is perturbed; null: the tiny model", default=None)

    def __post_init__(self) -> None:
        if self.nonce is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", self.nonce):
            raise ValueError(f"nonce must be a letter and up to 63 letters and digits, got {self.nonce!r:.80}")
        if bool(str(self.build)) == bool(self.builds) or len(self.builds) == 1:
            raise ValueError("give one build, or builds=[A,B] with two or more that are compared with each other")
        if self.roots and len(self.roots) != len(self.builds):
            raise ValueError(f"roots must be one folder for each of builds ({len(self.builds)}), got {len(self.roots)}")
        if not self.ray and self.cluster != ClusterSettings():
            raise ValueError("settings of cluster are used with ray=true alone; add it, or leave them out")
        if self.ray and (self.level == AuditLevel.MANIFEST or self.builds):
            raise ValueError("ray=true needs one build and level shards, source or perturb; leave it out")
        if self.sign_key is not None and self.level == AuditLevel.MANIFEST:
            raise ValueError("sign_key needs level shards, source or perturb (it signs verdict.json), got 'manifest'")


@checked
class VerifyConfig:
    """`vlajepa verify`."""

    build: Path | str = setting("folder of the build, or its URL")
    public_key: Path | None = setting("PEM file of an ed25519 public key; null: no signature is checked", default=None)
    level: AuditLevel = setting("the least depth of audit that is accepted, above manifest", default=AuditLevel.SHARDS)
    hash_files: bool = setting("hash every file that build.json lists", default=True)
    workers: int = setting("threads that hash", default=2, at_least=1)

    def __post_init__(self) -> None:
        if self.level == AuditLevel.MANIFEST:
            raise ValueError("level must be one of shards, source, perturb, got 'manifest'")
