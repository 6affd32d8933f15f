"""`python -m tests.faults commands`: commands ended before each call that changes files, as a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.stops.cases import CASES, make_given
from tests.faults.stops.every_call import Tried, try_every_call
from tests.faults.stops.stage import Stage


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults commands", description=__doc__)
    parser.add_argument("--only", default="", help="beginnings of names, separated by ;")
    parser.add_argument("--every", type=int, default=1, help="stop at every n-th call alone")
    parser.add_argument("--writes", action="store_true", help="stop in the middle of writes as well")
    options = parser.parse_args(arguments)
    results: dict[str, Tried] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, Stage(Path(folder) / "stage") as stage:
        given = prepared(stage, Path(folder))
        for case in [case for name in options.only.split(";") for case in CASES if case.name.startswith(name)]:
            started = time.monotonic()
            tried = results[case.name] = try_every_call(stage, given, case, options.writes, options.every)
            sys.stderr.write(f"{case.name}: {tried.kills} of {tried.calls}, {time.monotonic() - started:.0f} s\n")
            for problem in tried.problems:
                sys.stderr.write(f"    {problem}\n")
    sys.stdout.write(table(results))
    return 1 if any(tried.problems for tried in results.values()) else 0


def prepared(stage: Stage, folder: Path) -> Path:
    """What the commands read."""
    given = folder / "given"
    given.mkdir()
    make_given(given)
    words = ["export", f"checkpoint={given}/checkpoint", f"out={given}/exported/out", "cameras=[front,wrist]"]
    code, run = stage.run(words)
    if code:
        raise RuntimeError(run.output[-2000:])
    return given


def table(results: dict[str, Tried]) -> str:
    """One row a command."""
    lines = ["| command | calls | ended before | wrong |", "|---|---:|---:|---:|"]
    for name, tried in results.items():
        lines.append(f"| {name} | {tried.calls} | {tried.kills} | {len(tried.problems)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
