"""Runs the rules on a build. To add a rule, write its file and enter it here, or in `bench.shard_rules`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.audit.build import ClaimedBuild, open_build
from pipeline.audit.entries import FileEntry
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.finding import LEVELS, RULES, Report
from pipeline.audit.levels.bench import Bench, OneAfterTheOther, Runner, named
from pipeline.audit.levels.options import DeepOptions
from pipeline.audit.levels.perturb import check as check_perturb
from pipeline.audit.levels.shards import audit_shards
from pipeline.audit.levels.source import SourceRule, exactness_of
from pipeline.audit.levels.unchanged import require_unchanged, stamps
from pipeline.audit.proofs.proof import Share
from pipeline.audit.proofs.statements import OUT_OF_REACH, Facts, proofs_of
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.rules.ancestry import check as check_ancestry
from pipeline.audit.rules.documents import check as check_documents
from pipeline.audit.rules.files import check_inventory
from pipeline.audit.rules.identity import check as check_chain
from pipeline.audit.rules.order import check as check_order
from pipeline.audit.rules.rewritten import check_samples
from pipeline.audit.rules.shards.int8 import check as check_latents
from pipeline.audit.rules.shards.statistics import check_claims
from pipeline.audit.rules.splits import check as check_splits
from pipeline.audit.rules.supports import check as check_supports
from pipeline.audit.rules.vectors import check as check_vectors
from pipeline.audit.rules.windows import check as check_windows
from pipeline.audit.samples import open_samples
from pipeline.audit.selection.episode_filter import check as check_filter
from pipeline.audit.selection.episode_filter import claims as filter_claims
from pipeline.audit.verdicts.verdict import RuleCount, Verdict, audit_versions

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
    BuildRule("manifest", "ledger.jsonl", check_filter),
    BuildRule("manifest", "samples.parquet", check_order),
    BuildRule("manifest", "stats.json", check_claims),
    BuildRule("shards", "the folder", check_inventory),
    BuildRule("shards", "samples.parquet", check_samples),
)


def audit_build(
    path: Path | str,
    level: str = "shards",
    progress: Progress | None = None,
    deep: DeepOptions | None = None,
    evidence: Evidence | None = None,
    fetcher: ShardFetcher | None = None,
    runner: Runner | None = None,
) -> Verdict:
    """Audit the build in a folder. `write_verdict` stores the result.

    Args:
        deep: needed from level "source" on.
        evidence: collects images for the report.
        fetcher: fetches the shards when the folder holds only the small files.
        runner: runs the units of the levels above "manifest"; None: this process does.

    Raises:
        BuildError: the build cannot be audited (no build.json, unreadable manifest, unknown schema), or a rule raised
            an exception, or a file changed meanwhile. Never a clean verdict.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    depth = LEVELS.index(level)
    if depth >= LEVELS.index("source") and deep is None:
        raise ValueError(f"level {level} needs the raw data: give deep=")
    build = open_build(Path(path), fetcher)
    bench = Bench(build, level, deep, ahead=runner is None)
    before = stamps(build)
    with contextlib.closing(bench):
        verdict = _audit(bench, level, runner or OneAfterTheOther(bench), progress, evidence or Evidence())
    require_unchanged(build, before)
    return verdict


def _audit(bench: Bench, level: str, runner: Runner, progress: Progress | None, evidence: Evidence) -> Verdict:
    build, depth = bench.build, LEVELS.index(level)
    exactness, facts = None, Facts(state=build.sizes.state > 0)
    if depth >= LEVELS.index("source"):
        exactness = next(runner.map(exactness_of, (0,)))  # what is not there is worth knowing before the shards
    with open_samples(build) as file:
        samples = file.metadata.num_rows
    report, meter = Report(), _Meter(progress, build, depth)
    for rule in BUILD_RULES:
        if LEVELS.index(rule.level) <= depth:
            with named(rule.check, rule.file):
                rule.check(build, report)
    meter.advance(build.files)
    if level != "manifest":
        audit_shards(build, runner, report, meter.advance)
    found: dict[str, Any] = {"claims": filter_claims(build)}
    if exactness is not None:
        with named(SourceRule, "the raw data"):
            source = SourceRule(bench, samples, exactness, runner, report, evidence)
            source.run(meter.advance)
        found |= {"coverage": source.coverage, "tolerance": source.tolerance, "nonce": bench.deep.nonce}
        found |= {"exact": source.exact, "claims": (*found["claims"], *source.claims)}
        facts = source.facts
    if level == "perturb":
        with named(check_perturb, "the raw data"):
            found["coverage"] |= check_perturb(bench, samples, runner, report)
        done = found["coverage"]["samples_perturbed"]
        facts = replace(facts, perturbed=Share(done, samples, done, samples))
    rules = {rule: RuleCount(report.checked[rule], report.failed[rule]) for rule in RULES}
    found |= {"proofs": proofs_of(level, facts), "out_of_reach": OUT_OF_REACH, "altered": report.altered}
    found["versions"] = audit_versions(deep=exactness is not None)
    if exactness is not None:
        found["versions"]["encoder"] = str(exactness.machine or "not that of the build: see claims")
    return Verdict(build.fingerprint, build.sha256, level, rules, tuple(report.findings), samples, **found)


class _Meter:
    def __init__(self, progress: Progress | None, build: ClaimedBuild, depth: int) -> None:
        self._progress, self._done = progress, 0
        shards = sum(file.bytes for entry in build.shards for file in entry.files)
        self._total = sum(entry.bytes for entry in build.files) + min(depth, 2) * shards  # read once or twice

    def advance(self, files: Iterable[FileEntry]) -> None:
        self._done += sum(file.bytes for file in files)
        if self._progress is not None:
            self._progress(self._done, self._total)
