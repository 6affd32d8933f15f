"""`python -m tests.leakage`: the gallery as Markdown, by rule and level, then one line a mutant."""

from __future__ import annotations

import sys
from collections import Counter

from pipeline.audit.finding import LEVELS, RULES
from tests.leakage.mutants import MUTANTS
from tests.leakage.pipelines import FORGED_PIPELINES, LEAKY_CODE, LEAKY_PIPELINES

GALLERY = (*MUTANTS, *LEAKY_PIPELINES, *FORGED_PIPELINES, *LEAKY_CODE)


def summary() -> str:
    """How many mutants each level catches first, by rule."""
    count = Counter((mutant.rule, mutant.level) for mutant in GALLERY)
    lines = ["| rule | " + " | ".join(LEVELS) + " |", "|---|" + "---:|" * len(LEVELS)]
    for rule in RULES:
        lines.append(f"| {rule} | " + " | ".join(str(count[rule, level] or "-") for level in LEVELS) + " |")
    totals = [str(sum(mutant.level == level for mutant in GALLERY)) for level in LEVELS]
    return "\n".join([*lines, f"| all {len(GALLERY)} | " + " | ".join(totals) + " |"])


def main() -> None:
    names = [f"| {m.level} | {m.rule} | {m.name.replace('_', ' ')} |" for m in GALLERY]
    sys.stdout.write("\n".join([summary(), "", "| caught at | rule | mutant |", "|---|---|---|", *names]) + "\n")


if __name__ == "__main__":
    main()
