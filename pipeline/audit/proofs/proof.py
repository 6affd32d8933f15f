"""A statement of a verdict: what was checked for a rule, by which mechanism, and with what power."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mechanism(StrEnum):
    """How a statement was checked.

    DERIVED      computed again and equal to the last bit, wherever it applies
    BOUNDED      computed again and equal within bounds, as the auditor allowed (inexact=true)
    STATISTICAL  by numbers that chance may give too; the power says what would have been found
    EXPERIMENT   by changing what may not matter and looking at what moves
    NOTHING      the build has nothing of the kind
    NOT_CHECKED  a deeper level checks it
    """

    DERIVED = "derived"
    BOUNDED = "within bounds"
    STATISTICAL = "statistical"
    EXPERIMENT = "experiment"
    NOTHING = "nothing to check"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Proof:
    """What was checked for a rule at a verdict's level.

    power  of a statistical check or a random share, in words; for what was not checked, the level that does
    """

    rule: str
    what: str
    mechanism: Mechanism
    power: str = ""


@dataclass(frozen=True)
class Share:
    """A random share of the samples.

    samples  looked at, of `total`
    draws    drawn independently: a piece of samples that are encoded together counts as one, of `of`
    """

    samples: int
    total: int
    draws: int
    of: int

    @property
    def power(self) -> str:
        """Which leak would have been met with 99 % certainty."""
        looked = f"{self.samples:,} of {self.total:,} samples"
        if self.draws >= self.of:
            return f"all {self.total:,} samples"
        if self.draws == 0:
            return f"{looked}: none"
        part = 100 * min(1.0, 1 - 0.01 ** (1 / self.draws))
        unit = "samples" if self.of == self.total else "pieces that are encoded together"
        return f"{looked}; a leak in {part:.2g} % of all {unit} would have been met with 99 % certainty (share=1: all)"
