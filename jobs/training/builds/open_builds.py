"""The builds of a run, opened behind the gate. Nothing here imports PyTorch, so that a refusal comes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.common.escaped import escaped_errors
from jobs.training.loop.cache_folders import cache_folder
from jobs.training.loop.settings import TrainerSettings
from jobs.training.settings import TrainConfig
from model.checkpoint.vouched import Voucher
from pipeline.audit.overlap import overlaps, read_marks
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import UNSIGNED, Passed, pass_gate
from pipeline.errors import AuditRefusedError, SettingsError
from pipeline.format.build import Build, read_build
from pipeline.format.enums import Verify
from pipeline.format.json.strict_json import parse
from pipeline.storage.download import mirror_build
from pipeline.storage.store import is_remote

SHOWN = 5
"""Episodes that a message names."""


@dataclass(frozen=True)
class AuditedBuild:
    """A build, the SHA-256 of its build.json, what let it through the gate (None for one that is stamped leaky), and
    whether its samples are compared with it."""

    build: Build
    sha256: str
    passed: Passed | None
    compared: bool

    @property
    def voucher(self) -> Voucher:
        """What a run and its checkpoints write down."""
        if self.passed is None:
            return Voucher(self.build.name, "leaky", UNSIGNED, False, self.compared)
        passed = self.passed
        return Voucher(self.build.name, passed.text, passed.signed_by, passed.signature_checked, self.compared)


def open_builds(config: TrainConfig) -> list[AuditedBuild]:
    """The audited builds of a run, each with train samples.

    Raises:
        AuditRefusedError: a build has no clean verdict, or is stamped leaky.
        SettingsError: a build has no train samples.
    """
    with escaped_errors():
        opened = [open_audited(str(path), config.allow_leaky, config.trainer) for path in config.builds]
        _require_apart([one.build for one in opened])
    for build in (one.build for one in opened):
        if not build.manifest["counts"].get("train", {"samples": 0})["samples"]:
            raise SettingsError(
                f"{build.path} has no train samples, only {', '.join(build.manifest['counts'])}; build it with a lower "
                "source.val_share or more episodes"
            )
    return opened


def _require_apart(builds: Sequence[Build]) -> None:
    """Raise AuditRefusedError when a build trains on an episode that another one of the run holds out (rule L6)."""
    if len(builds) < 2:
        return
    found = list(overlaps([read_marks(str(build.path), build.read_file("tasks.jsonl")) for build in builds]))
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AuditRefusedError(
            f"{'; '.join(overlap.text for overlap in found[:SHOWN])}{more}. Make the builds with the same "
            "source.val_share and source.split_seed, or train without one of them"
        )


def open_audited(address: str, allow_leaky: bool, settings: TrainerSettings) -> AuditedBuild:
    """Open a build that has a clean verdict; the small files of a remote one are copied here.

    build.json is read once: what the gate hashed is what is parsed. A build stamped leaky never has a clean verdict;
    with `allow_leaky` it is opened for comparison.

    Raises:
        AuditRefusedError: it has no clean verdict of `trainer.audit_level` or deeper; with `trainer.public_key` none
            that this key signed; or it is leaky.
        BuildError: it is malformed, or cannot be reached.
    """
    remote = address if is_remote(address) else None
    path = Path(address) if remote is None else mirror_build(address, cache_folder(settings) / "builds")
    files, compared = read_audited(path), settings.verify is not Verify.OFF
    if not _stamped_leaky(files.manifest):
        passed = pass_gate(files, settings.audit_level.value, settings.public_key)
        return AuditedBuild(read_build(files.manifest, path, remote), files.sha256, passed, compared)
    if not allow_leaky:
        raise AuditRefusedError(
            f"{address} is stamped leaky (encoder mode clip): its targets' context has seen the future. Train on a "
            "build of mode prefix, or say allow_leaky=true for a comparison"
        )
    if settings.public_key is not None:
        raise AuditRefusedError(
            f"{address} is stamped leaky, and no key vouches for such a build: leave out trainer.public_key for the "
            "comparison"
        )
    return AuditedBuild(read_build(files.manifest, path, remote), files.sha256, None, compared)


def _stamped_leaky(manifest: bytes) -> bool:
    try:
        content = parse(manifest)
    except ValueError:
        return False  # `read_build` says what is wrong with it
    return isinstance(content, dict) and content.get("leaky") is True
