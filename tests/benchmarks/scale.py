"""The table "scale": what preprocessing, audit and training must bear as data and machines grow, in one place.

Its rows are targets that the benchmarks below have measured; nothing is measured a second time.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from tests.benchmarks.report import Shown


@dataclass(frozen=True)
class Problem:
    """What grows, and the targets that say how it is borne: those whose name contains one of `names`; (): all."""

    title: str
    benchmark: str
    names: tuple[str, ...] = ()

    def rows(self, shown: Sequence[Shown]) -> list[Shown]:
        """Its targets. Raises LookupError when the benchmark has none of a name."""
        names = self.names or ("",)
        if lost := [name for name in names if not any(name in one.target.ratio.name for one in shown)]:
            raise LookupError(f"benchmark {self.benchmark} measured no target named {lost[0] or self.title!r}")
        return [one for one in shown if any(name in one.target.ratio.name for name in names)]


PROBLEMS = (
    Problem("scheduling tasks on 500 nodes (simulated)", "scheduler"),
    Problem("preprocessing: decoding and encoding over wall time", "preprocessing"),
    Problem("plan of a million episodes; ten times as many windows", "growth"),
    Problem("room in TMPDIR for a shard of a build in a bucket", "bucket"),
    Problem("commit of 19 million windows", "commit"),
    Problem("audit of a manifest of 10 million samples", "audit"),
    Problem("start of a rank on 19 million samples", "rank-start"),
    Problem("reading samples that were verified before", "streaming", ("verified once",)),
)

BENCHMARKS = tuple(problem.benchmark for problem in PROBLEMS)


def print_scale(measured: Mapping[str, Sequence[Shown]]) -> None:
    """Print the table. measured: targets of each benchmark, all of `BENCHMARKS` among them."""
    print(f"\nScale\n  {'':82} {'measured':>10} {'target':>10}")
    for problem in PROBLEMS:
        print(f"{problem.title}: python -m tests.benchmarks {problem.benchmark}")
        for title, rows in itertools.groupby(problem.rows(measured[problem.benchmark]), attrgetter("title")):
            print(f"  {title}")
            for target in (row.target for row in rows):
                verdict = "met" if target.met else "NOT MET"
                print(f"    {target.ratio.name:80} {target.ratio.median:10.3f} {target.wanted:>10}  {verdict}")
