"""Findings about a build, counted for each rule and capped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.format.enums import AuditLevel
from pipeline.format.text.printable import printable

RULES = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10")
"""L3, L4 and L5 are properties of the model and its losses: only level "perturb" checks them."""

LEVELS = tuple(level.value for level in AuditLevel)
"""From the cheapest to the deepest; each level includes those before it."""

MAX_FINDINGS = 100
"""Findings kept for each rule; the rest are only counted."""


@dataclass(frozen=True)
class Finding:
    """One violation. `sample` is a key, or "" when the whole file (or build) is meant."""

    rule: str
    sample: str
    file: str
    detail: str


@dataclass(frozen=True)
class Problem:
    """What a parser of one member or file reports; the caller knows the file and the sample."""

    rule: str
    detail: str


@dataclass
class Report:
    """Collects findings while the rules run.

    altered  failed checks that say no more than that a file or row is not the one that was listed, or follow from that
    changed  files that are not those that were listed
    """

    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    altered: int = 0
    changed: set[str] = field(default_factory=set)

    def check(self, rule: str, count: int = 1) -> None:
        """Count checks that were made, whatever their result."""
        self.checked[rule] += count

    def found(self, rule: str, file: str, detail: str, sample: str = "", altered: bool = False) -> None:
        """Record one violation. What a name or value of the build could do to a terminal or a page is escaped.

        Args:
            altered: it says no more than that something is not what was listed: a hash, a size, a file that is gone.
        """
        self.failed[rule] += 1
        self.altered += altered or file in self.changed
        if self.failed[rule] <= MAX_FINDINGS:
            self.findings.append(Finding(rule, printable(sample), printable(file), printable(detail)))

    def changed_file(self, file: str, detail: str) -> None:
        """Record that a file is not the one that was listed. Whatever is found in it from now on follows from that."""
        self.changed.add(file)
        self.found("L7", file, detail, altered=True)

    def merge(self, part: Report) -> None:
        """Add what was found in a part of the build, as if it had been found here."""
        kept = Counter(self.failed)
        for finding in part.findings:
            kept[finding.rule] += 1
            if kept[finding.rule] <= MAX_FINDINGS:
                self.findings.append(finding)
        self.checked.update(part.checked)
        self.failed.update(part.failed)
        self.altered += part.altered
        self.changed |= part.changed

    def problems(self, problems: tuple[Problem, ...], file: str, sample: str = "") -> None:
        """Record what a parser reported."""
        for problem in problems:
            self.found(problem.rule, file, problem.detail, sample)


@dataclass(frozen=True)
class RowChecks:
    """Checks of a batch of rows, all at once; B rows.

    file  that holds the rows
    keys  of the samples, string [B]; None when the rows are no samples
    """

    report: Report
    file: str
    keys: pa.Array | None = None

    def rows(
        self,
        rule: str,
        bad: NDArray[np.bool_],
        detail: str | Callable[[int], str],
        *columns: Any,
        altered: bool = False,
    ) -> None:
        """Count a check of every row and record the bad ones.

        Args:
            bad: bool [B] or [B, ...]; a row is bad where any of its entries is.
            detail: text with a `{}` for the value of each of `columns` in the row, or a function of the row's number.
            altered: see `Report.found`.
        """
        self.report.check(rule, len(bad))
        where = np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim))))
        room = max(0, MAX_FINDINGS - self.report.failed[rule])
        for i in where[:room].tolist():
            text = detail.format(*(column[i] for column in columns)) if isinstance(detail, str) else detail(i)
            self.report.found(rule, self.file, text, "" if self.keys is None else self.keys[i].as_py(), altered)
        hidden = max(0, len(where) - room)
        self.report.failed[rule] += hidden
        self.report.altered += altered * hidden
