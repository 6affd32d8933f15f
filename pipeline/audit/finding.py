"""Findings about a build, counted for each rule and capped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

RULES = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10")
"""L3, L4 and L5 are properties of the model and its losses: only level "perturb" checks them."""

LEVELS = ("manifest", "shards", "source", "perturb")
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


class Report:
    """Collects findings while the rules run."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.checked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def check(self, rule: str, count: int = 1) -> None:
        """Count checks that were made, whatever came of them."""
        self.checked[rule] += count

    def found(self, rule: str, file: str, detail: str, sample: str = "") -> None:
        """Record one violation."""
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}; add it to RULES or use one of {', '.join(RULES)}")
        self.failed[rule] += 1
        if self.failed[rule] <= MAX_FINDINGS:
            self.findings.append(Finding(rule, sample, file, detail))

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
    keys: pa.Array | None

    def rows(self, rule: str, bad: NDArray[np.bool_], describe: Callable[[int], str]) -> None:
        """Count a check of every row and record the bad ones.

        Args:
            bad: bool [B].
            describe: gives the detail of row i; only called for findings that are kept.
        """
        self.report.check(rule, len(bad))
        where = np.flatnonzero(bad)
        room = max(0, MAX_FINDINGS - self.report.failed[rule])
        for i in where[:room].tolist():
            self.report.found(rule, self.file, describe(i), "" if self.keys is None else self.keys[i].as_py())
        self.report.failed[rule] += max(0, len(where) - room)
