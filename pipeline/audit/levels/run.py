"""Runs the rules on a build. To add a rule, write its file and enter it in one of the two lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.audit.build import ClaimedBuild, open_build
from pipeline.audit.canonical.libraries import require_libraries
from pipeline.audit.entries import FileEntry
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.finding import LEVELS, RULES, Report
from pipeline.audit.levels.perturb import PerturbOptions
from pipeline.audit.levels.perturb import check as check_perturb
from pipeline.audit.levels.source import SourceOptions, SourceRule
from pipeline.audit.parsers.shard import Shard, ShardRule
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.rules.ancestry import check as check_ancestry
from pipeline.audit.rules.documents import check as check_documents
from pipeline.audit.rules.files import Hashes, check_inventory
from pipeline.audit.rules.identity import check as check_chain
from pipeline.audit.rules.int8 import check as check_latents
from pipeline.audit.rules.members import Members
from pipeline.audit.rules.order import check as check_order
from pipeline.audit.rules.rewritten import LIBRARIES, Rewritten, check_samples
from pipeline.audit.rules.splits import check as check_splits
from pipeline.audit.rules.statistics import Statistics, check_claims
from pipeline.audit.rules.supports import check as check_supports
from pipeline.audit.rules.targets import TargetValues
from pipeline.audit.rules.tubelets import TubeletReferences
from pipeline.audit.rules.vectors import check as check_vectors
from pipeline.audit.rules.windows import check as check_windows
from pipeline.audit.samples import ShardRows, open_samples
from pipeline.audit.verdict import RuleCount, Verdict
from pipeline.errors import BuildError, RunError

Progress = Callable[[int, int], None]
"""Called with (bytes audited, bytes in all) after every step."""


@dataclass(frozen=True)
class BuildRule:
    """A check of the build as a whole. `file` is named when the check itself fails with an exception."""

    level: str
    file: str
    check: Callable[[ClaimedBuild, Report], None]


BUILD_RULES = (
    BuildRule("manifest", "build.json", check_documents),
    BuildRule("manifest", "build.json", check_chain),
    BuildRule("manifest", "build.json", check_ancestry),
    BuildRule("manifest", "build.json", check_latents),
    BuildRule("manifest", "build.json", check_vectors),
    BuildRule("manifest", "samples.parquet", check_supports),
    BuildRule("manifest", "samples.parquet", check_windows),
    BuildRule("manifest", "tasks.jsonl", check_splits),
    BuildRule("manifest", "samples.parquet", check_order),
    BuildRule("manifest", "stats.json", check_claims),
    BuildRule("shards", "the folder", check_inventory),
    BuildRule("shards", "samples.parquet", check_samples),
)

SHARD_RULES: tuple[type[ShardRule], ...] = (Hashes, Members, TargetValues, TubeletReferences, Rewritten, Statistics)
"""All of level "shards"; each sees one shard at a time."""


def audit_build(
    path: Path | str,
    level: str = "shards",
    progress: Progress | None = None,
    source: SourceOptions | None = None,
    perturb: PerturbOptions | None = None,
    evidence: Evidence | None = None,
    fetcher: ShardFetcher | None = None,
) -> Verdict:
    """Audit the build in a folder. `write_verdict` stores the result.

    Args:
        source: needed from level "source" on;  perturb: needed by level "perturb".
        evidence: collects images for the report.
        fetcher: fetches the shards when the folder holds only the small files.

    Raises:
        BuildError: the build cannot be audited (no build.json, unreadable manifest, unknown schema), or a rule raised
            an exception. Never a clean verdict.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    depth = LEVELS.index(level)
    if (depth >= LEVELS.index("source") and source is None) or (level == "perturb" and perturb is None):
        raise ValueError(f"level {level} needs the raw data: give source= (and perturb=)")
    build = open_build(Path(path), fetcher)
    if level != "manifest":
        require_libraries(build, LIBRARIES)
    with open_samples(build) as file:
        samples = file.metadata.num_rows
    report, meter = Report(), _Meter(progress, build, depth)
    for rule in BUILD_RULES:
        if LEVELS.index(rule.level) <= depth:
            with _named(rule.check, rule.file):
                rule.check(build, report)
    meter.advance(build.files)
    if level != "manifest":
        _audit_shards(build, report, meter)
    deep: dict[str, Any] = {}
    if source is not None and depth >= LEVELS.index("source"):
        deep = _audit_source(build, samples, source, report, evidence or Evidence(), meter)
    if perturb is not None and level == "perturb":
        with _named(check_perturb, "the raw data"):
            deep["coverage"] |= check_perturb(build, samples, perturb, report)
    rules = {rule: RuleCount(report.checked[rule], report.failed[rule]) for rule in RULES}
    return Verdict(build.fingerprint, build.sha256, level, rules, tuple(report.findings), samples, **deep)


def _audit_source(
    build: ClaimedBuild, samples: int, options: SourceOptions, report: Report, evidence: Evidence, meter: _Meter
) -> dict[str, Any]:
    """Level "source". The fields of the verdict that deep levels fill."""
    with _named(SourceRule, "the raw data"):
        rule = SourceRule(build, samples, options, report, evidence)
        rule.run(meter.advance)
        found = {"coverage": rule.coverage, "tolerance": rule.tolerance}
        return found | {"nonce": options.nonce, "exact": rule.exact, "claims": rule.claims}


def _audit_shards(build: ClaimedBuild, report: Report, meter: _Meter) -> None:
    rows = ShardRows(build)
    rules = [kind(build) for kind in SHARD_RULES]
    for entry in build.shards:
        with build.present(entry):
            _audit_shard(Shard(build, entry, rows.take(entry.split, entry.index, entry.samples)), rules, report)
        meter.advance(entry.files)
    for rule in rules:
        with _named(type(rule), "the build as a whole"):
            rule.finish(report)


def _audit_shard(shard: Shard, rules: Sequence[ShardRule], report: Report) -> None:
    """A separate function: on return the shard and its memory maps are freed, before its files are removed."""
    for rule in rules:
        with _named(type(rule), f"{shard.entry.inputs.path} and {shard.entry.targets.path}"):
            rule.check(shard, report)


class _Meter:
    def __init__(self, progress: Progress | None, build: ClaimedBuild, depth: int) -> None:
        self._progress, self._done = progress, 0
        shards = sum(file.bytes for entry in build.shards for file in entry.files)
        self._total = sum(entry.bytes for entry in build.files) + min(depth, 2) * shards  # read once or twice

    def advance(self, files: Iterable[FileEntry]) -> None:
        self._done += sum(file.bytes for file in files)
        if self._progress is not None:
            self._progress(self._done, self._total)


@contextmanager
def _named(rule: Callable[..., object] | type, file: str) -> Iterator[None]:
    """A rule that raises an exception must never count as passed."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        name = f"{rule.__module__}.{getattr(rule, '__qualname__', rule)}"
        what = f"the audit rule {name} broke down on {file}: {error!r}"
        raise BuildError(f"{what}. There is no verdict on the build") from error
