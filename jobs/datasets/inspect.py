"""`vlajepa inspect`: what is in a dataset folder, what is wrong with it, and what differs from its manifest.

Exit code 1 if something differs from the manifest, units among it, or a state or camera shows later frames; 3 if
nothing but fewer episodes are found than the manifest lists, as in a sample of the set; else 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from jobs.common.progress import phase, progress_bar
from jobs.common.text import two_columns
from jobs.datasets.comparison import Comparison, channel_facts, compare
from jobs.datasets.inspection_facts import facts_of
from jobs.datasets.inspection_files import LEAVE_OUT, write_files
from jobs.datasets.inspection_page import PageContent, render, summary_rows
from jobs.datasets.manifests import DatasetManifest, load_manifests
from jobs.datasets.settings import InspectConfig
from pipeline.errors import RunError, SettingsError
from pipeline.inspection.checks import Inspection, inspect_source, sampled
from pipeline.inspection.flag import Flag
from pipeline.inspection.lookahead import LookaheadResult, find_lookahead
from pipeline.inspection.quality.survey import Survey
from pipeline.inspection.quality.worst import illustrate
from pipeline.sources.base import SourceIndex
from pipeline.storage.atomic import write_atomic

PAGE = "inspection.html"
WRONG_UNIT = "wrong-unit"
PART = 3
"""Exit code of an inspection that found a part of the set, and nothing else that differs."""


@dataclass(frozen=True)
class Inspected:
    """What `inspect` found.

    out          folder of the page and its files
    comparisons  with the manifest, fact by fact; empty without one
    flags        of the quality checks
    lookahead    inputs that show later frames
    left_out     episodes that leave-out.jsonl lists
    """

    out: Path
    comparisons: tuple[Comparison, ...]
    flags: tuple[Flag, ...]
    lookahead: LookaheadResult
    left_out: int

    @property
    def exit_code(self) -> int:
        """1 if an input shows later frames, a unit is another one, or a fact is not the manifest's; 3 if nothing but
        fewer episodes are found than the manifest lists: a part of the set."""
        differ = [row for row in self.comparisons if not row.agrees]
        units = any(flag.check == WRONG_UNIT for flag in self.flags)
        if self.lookahead.findings or units or not all(row.fewer for row in differ):
            return 1
        return PART if differ else 0


def run(settings: InspectConfig) -> Inspected:
    source = settings.source.reader
    out = settings.out or Path(f"inspect-{source.name}")
    require_writable(out)
    _keep_filter(settings, out / LEAVE_OUT)
    with phase(f"reading the metadata of {source.root}"):
        index = source.index()
    if settings.source.leave_out is not None:
        index = settings.source.leave_out.apply(index)
    name = settings.source.manifest
    manifest = load_manifests()[name] if name else None
    found = _open(settings, index, manifest)
    comparisons = compare(found, manifest) if manifest else []
    with phase("looking for later frames in the inputs of a sample of episodes"):
        lookahead = find_lookahead(source, index.refs)
    flags = found.survey.flags(_lengths(index, found))
    left_out = write_files(out, found, flags, comparisons, lookahead, settings.seed)
    with phase("drawing the worst findings"):
        refs, survey = {ref.id: ref for ref in index.refs}, found.survey
        names = {kind: survey.channel_names(kind) for kind in ("state", "action")}
        worst = illustrate(source, refs, flags, index.views, names)
    facts = [*facts_of(found), *_lookahead_facts(lookahead)]
    page = render(found, PageContent(flags, worst, facts, comparisons, len(left_out), settings.seed))
    write_atomic(out / PAGE, page.encode("utf-8", "backslashreplace"))
    print(describe(found, manifest, facts, comparisons, flags))
    print(f"written: {out} ({PAGE}; {len(left_out):,} episodes in {LEAVE_OUT})")
    result = Inspected(out, tuple(comparisons), tuple(flags), lookahead, len(left_out))
    if result.exit_code == PART:
        print(f"a part of the set: but for fewer episodes, all is as the manifest says (exit code {PART})")
    return result


def _keep_filter(settings: InspectConfig, written: Path) -> None:
    """Raise SettingsError when the filter that is applied would be overwritten by the one that is proposed."""
    used = settings.source.leave_out
    if used is not None and written.exists() and written.samefile(used.where):
        raise SettingsError(
            f"source.leave_out={used.where} would be overwritten by what this inspection finds; give another out=, or "
            "move the file"
        )


def require_writable(out: Path) -> None:
    """Make the folder and try to write there, before anything is read. Raises RunError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RunError(f"out={out} cannot be written to: {error.strerror}; set out= to another folder") from error


def describe(
    found: Inspection,
    manifest: DatasetManifest | None,
    facts: Sequence[tuple[str, str]],
    comparisons: Sequence[Comparison],
    flags: Sequence[Flag],
) -> str:
    """The findings as text."""
    index = found.index
    rows = list(facts)
    for row in comparisons:
        mark = "as in the manifest" if row.agrees else f"DIFFERS, the manifest has {row.expected}"
        rows.append((row.what, f"{row.found}  ({mark})"))
    alarms = [flag for flag in flags if not flag.note]
    for own in summary_rows(alarms):
        who = f"{own.episodes:,} episodes, " if own.episodes else ""
        where = f"{own.worst.episode}: " if own.worst.episode else ""
        rows.append((own.check, f"{who}{'worst ' if own.count > 1 else ''}{where}{own.worst.detail}"))
    rows.append(("findings", f"{len(alarms) or 'none'} in {found.opened:,} of {len(index.refs):,} episodes"))
    return f"{index.name}: {manifest.title if manifest else index.description['type']}\n{two_columns(rows)}"


def _open(settings: InspectConfig, index: SourceIndex, manifest: DatasetManifest | None) -> Inspection:
    survey = Survey(
        index.views,
        channel_facts(manifest, "state", index.state_names),
        channel_facts(manifest, "action", index.action_names),
    )
    total = len(sampled(index.refs, settings.episodes, settings.seed))
    with progress_bar(total=total, unit="episode", desc=f"inspect {index.name}") as bar:
        return inspect_source(
            settings.source.reader, index, settings.episodes, survey, settings.seed, lambda: bar.update(1)
        )


def _lengths(index: SourceIndex, found: Inspection) -> dict[str, int]:
    """Frames of every episode whose length the metadata has, or that was opened."""
    return {ref.id: ref.num_frames for ref in index.refs if ref.num_frames is not None} | found.lengths


def _lookahead_facts(lookahead: LookaheadResult) -> list[tuple[str, str]]:
    sample = f"{lookahead.episodes} episodes, {lookahead.films} with their cameras"
    rows = [("later frames", f"{len(lookahead.findings) or 'no'} inputs show them (of {sample})")]
    return rows + [("", f"{finding.rule}: {finding.detail}") for finding in lookahead.findings]
