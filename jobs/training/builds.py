"""The builds of a run: opened behind the gate, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.common.escaped import escaped_errors
from jobs.training.loop.data import cache_folder
from jobs.training.loop.settings import TrainerSettings
from jobs.training.settings import TrainConfig
from model.checkpoint.vouched import Voucher
from model.normalize import BuildStats, merge_stats
from pipeline.audit.overlap import overlaps, read_marks
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import UNSIGNED, Passed, pass_gate
from pipeline.errors import AuditRefusedError, SettingsError
from pipeline.format.build import Build, read_build
from pipeline.format.enums import Verify
from pipeline.format.json.strict_json import parse
from pipeline.format.schema import Sizes
from pipeline.format.text.differences import first_difference
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


def common_sizes(builds: Sequence[Build]) -> tuple[Sizes, BuildStats | None]:
    """Sizes and statistics of the model: those of the robot builds together, or sizes alone if none has actions.

    Raises:
        SettingsError: builds differ in encoder, steps or latent sizes, or two robot builds differ in state or action.
    """
    first = builds[0]
    names = [build.name for build in builds]
    if len(set(names)) < len(names):
        raise SettingsError(f"two builds have the same name ({', '.join(names)}); give source.name when building")
    for other in builds[1:]:
        for key in ("steps", "tokens", "width", "image_size"):
            _require_equal(f"sizes.{key}", first, other, getattr(first.sizes, key), getattr(other.sizes, key))
        difference = first_difference(_encoder(first), _encoder(other))
        if difference:
            raise SettingsError(f"{first.path} and {other.path} have targets of different encoders: {difference}")
    robots = [build for build in builds if build.has_actions]
    if not robots:
        return replace(first.sizes, state=0, chunk=0, action=0), None
    for other in robots[1:]:
        for key in ("state", "chunk", "action"):
            _require_equal(f"sizes.{key}", robots[0], other, getattr(robots[0].sizes, key), getattr(other.sizes, key))
    views = max(build.sizes.views for build in builds)
    return replace(robots[0].sizes, views=views), merge_stats(
        [BuildStats.parse(robot.read_file("stats.json"), robot.path / "stats.json") for robot in robots]
    )


def _encoder(build: Build) -> dict[str, Any]:
    """What two builds' encoders must have in common: all but how the work was cut up, and the kernels of a device."""
    encoder: dict[str, Any] = build.manifest["settings"]["encoder"]
    apart = ("batch", "cpu_threads", "device", "compile", "forward")
    return {key: value for key, value in encoder.items() if key not in apart}


def _require_equal(name: str, first: Build, other: Build, a: int, b: int) -> None:
    if a != b:
        raise SettingsError(f"{name} is {a} in {first.path} and {b} in {other.path}; build them with the same settings")
