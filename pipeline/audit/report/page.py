"""`audit/report.html`: a verdict as one self-contained page.

No script, nothing fetched: styles and plots are inline, images are data URIs, and a content security policy forbids
the rest, so that a hostile build cannot make the page do anything.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import LEDGER, read_regular, replace_whole
from pipeline.audit.finding import RULES
from pipeline.audit.report.evidence import Evidence, Sheet
from pipeline.audit.report.offsets import StepOffsets, support_offsets
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.errors import BuildError
from pipeline.format.file_names import REPORT
from pipeline.format.json.strict_json import canonical, parse
from pipeline.format.text.printable import printable

MAX_SHEETS = 40
MAX_FINDINGS = 200
"""Shown; verdict.json holds up to 100 a rule."""

RULE_TEXTS = {
    "L1": ("inputs", "Every byte of a sample's inputs is a function of frames up to now."),
    "L2": ("latents", "The latent of step k depends only on frames up to the end of step k."),
    "L3": ("student", "The student's outputs do not change when every target of a batch does."),
    "L4": ("predictor", "The prediction of a step depends on earlier steps only."),
    "L5": ("loss only", "Targets reach nothing but losses, and carry no gradient."),
    "L6": ("splits", "No episode and no near-duplicate is in two splits; statistics come from train only."),
    "L7": ("join", "Inputs and targets meet by key; nothing is missing, extra, shifted or mixed."),
    "L8": ("time", "State is that of now, actions start there, and nothing after the end is invented."),
    "L9": ("text", "The instruction is the episode's own."),
    "L10": ("smuggling", "A file holds what its name says and nothing else."),
}


def write_report(build: ClaimedBuild, verdict: Verdict, evidence: Evidence) -> Path:
    """Write the page whole or not at all. Returns its path."""
    return replace_whole(build.root, REPORT, render(build, verdict, evidence).encode("utf-8", "backslashreplace"))


def render(build: ClaimedBuild, verdict: Verdict, evidence: Evidence) -> str:
    """The page as text. Never raises on account of what the build holds."""
    environment = Environment(loader=PackageLoader("pipeline.audit.report", "."), autoescape=True, trim_blocks=True)
    environment.filters["uri"] = lambda jpeg: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    environment.filters["short"] = _short
    shown = verdict.findings[:MAX_FINDINGS]
    sheets: dict[str, list[Sheet]] = defaultdict(list)
    for sheet in evidence.sheets:
        sheets[sheet.sample].append(sheet)
    flagged = {finding.sample: finding for finding in reversed(shown) if finding.sample in sheets}
    illustrated = list(dict.fromkeys(finding.sample for finding in shown if finding.sample in flagged))[:MAX_SHEETS]
    low, high, plots = _plots(build)
    return environment.get_template("page.html.jinja").render(
        build=build,
        verdict=verdict,
        rules=[
            (rule, *RULE_TEXTS[rule], verdict.rules[rule], [proof for proof in verdict.proofs if proof.rule == rule])
            for rule in RULES
            if rule in verdict.rules
        ],
        failed=sum(count.failed for count in verdict.rules.values()),
        shown=len(shown),
        groups=[(rule, own) for rule in RULES if (own := [f for f in shown if f.rule == rule])],
        sheets={sample: sheets[sample] for sample in illustrated},
        illustrated={flagged[sample] for sample in illustrated},
        random_sheets=[sheets[sample] for sample in sheets if sample not in flagged][:MAX_SHEETS],
        duplicates=evidence.duplicates[:MAX_SHEETS],
        hidden_duplicates=max(0, len(evidence.duplicates) - MAX_SHEETS),
        plots=plots,
        axis=(low, high),
        ledger=_ledger(build),
        splits=_splits(build),
        settings=[(section, _canonical_or_text(value)) for section, value in sorted(build.settings.items())],
    )


def _plots(build: ClaimedBuild) -> tuple[int, int, list[StepOffsets]]:
    """First and last offset of the axis, and the counts of each step between them."""
    try:
        steps = support_offsets(build)
    except BuildError:
        return 0, 0, []
    offsets = [offset for step in steps for offset, _ in step.counts] or [0]
    reach = 2 * (build.sizes.steps + 1) * build.window.interval + 2
    low, high = max(min(offsets), -reach), min(max(offsets), 4 * reach)
    plots = []
    for step in steps:
        near = tuple((offset, count) for offset, count in step.counts if low <= offset <= high)
        far = sum(count for offset, count in step.counts if not low <= offset <= high)
        plots.append(replace(step, counts=near, other=step.other + far))
    return low - 1, high + 1, plots


def _ledger(build: ClaimedBuild) -> list[tuple[str, int, int | None, list[str]]]:
    """(reason, episodes, windows lost if all are known, a few entries as text), the most frequent first."""
    count: Counter[str] = Counter()
    windows: dict[str, int | None] = {}
    examples: dict[str, list[str]] = defaultdict(list)
    try:
        lines = read_regular(build.root / LEDGER).splitlines()
    except BuildError:
        return []
    for line in lines:
        try:
            entry = parse(line)
            reason, text = str(entry["reason"]), f"{entry['episode']} ({entry['stage']}): {entry.get('detail', '')}"
            lost = entry.get("windows")
        except (ValueError, KeyError, TypeError, AttributeError):
            reason, text, lost = "not a ledger entry (see findings)", repr(line[:80]), None
        count[reason] += 1
        before = windows.get(reason, 0)
        windows[reason] = None if before is None or not isinstance(lost, int) else before + lost
        examples[reason] += [text] if len(examples[reason]) < 10 else []
    return [(reason, number, windows[reason], examples[reason]) for reason, number in count.most_common()]


def _splits(build: ClaimedBuild) -> list[tuple[str, int, int, int, int]]:
    """(split, samples, episodes, shards, bytes)."""
    size: Counter[str] = Counter()
    for shard in build.shards:
        size[shard.split] += sum(file.bytes for file in shard.files)
    return [(name, c.samples, c.episodes, c.shards, size[name]) for name, c in sorted(build.counts.items())]


def _canonical_or_text(value: Any) -> str:
    """Canonical JSON if the value has one, else its repr."""
    try:
        return canonical(value)
    except (TypeError, ValueError):
        return repr(value)


def _short(text: object, limit: int = 400) -> str:
    """One line with what is not visible escaped, of bounded length."""
    plain = printable(str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[:limit] + "…"
