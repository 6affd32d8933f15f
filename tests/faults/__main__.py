"""`python -m tests.faults [--times N] [--only NAME]`: faults brought about at random moments, as a Markdown table.

`python -m tests.faults train` kills trainings, `python -m tests.faults commands` the commands that need no cluster.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.faults import FAULTS, Fault
from tests.faults.judge import Outcome
from tests.faults.lab import Lab
from tests.faults.stops import command as commands
from tests.faults.training import command as trainings

OTHERS = {"train": trainings.main, "commands": commands.main}


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        return OTHERS[sys.argv[1]](sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--times", type=int, help="trials of each fault instead of its own number")
    parser.add_argument("--only", default="", help="names of faults, or their beginnings, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--clips", type=int, default=60, help="of the sample world: four samples each")
    parser.add_argument("--workers", type=int, default=3, help="worker nodes of the cluster")
    parser.add_argument("--minutes", type=float, default=60, help="no trial starts later")
    parser.add_argument("--out", type=Path, help="one JSON line a trial is appended here")
    options = parser.parse_args()
    chosen = [fault for name in options.only.split(",") for fault in FAULTS if fault.name.startswith(name)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # drivers inherit that a shell's `&` lets it be ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no node outlives this process
    results: dict[str, list[Outcome]] = {fault.name: [] for fault in chosen}
    until = time.monotonic() + 60 * options.minutes
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        Lab(Path(folder), options.clips, options.workers) as lab,
    ):
        # Round by round: a run that is stopped has tried all of them.
        for number in range(max(options.times or fault.times for fault in chosen)):
            for fault in chosen:
                if number < (options.times or fault.times) and time.monotonic() < until:
                    outcome = _try(lab, fault, options.seed + number)
                    results[fault.name].append(outcome)
                    _report(fault, options.seed + number, outcome, options.out)
    sys.stdout.write(table(chosen, results))
    return 0 if all(outcome.good for outcomes in results.values() for outcome in outcomes) else 1


def _try(lab: Lab, fault: Fault, seed: int) -> Outcome:
    try:
        return fault.trial(lab, random.Random(f"{fault.name} {seed}"))
    except Exception as error:
        return Outcome(problems=[f"the trial itself failed: {type(error).__name__}: {error}"])


def _report(fault: Fault, seed: int, outcome: Outcome, out: Path | None) -> None:
    state = "good" if outcome.good else "BAD"
    sys.stderr.write(f"{fault.name} {seed}: {state} {outcome.seconds:.0f} s, restarts {outcome.restarts}\n")
    for line in (*outcome.notes, *outcome.problems, *outcome.half_written):
        sys.stderr.write(f"    {line}\n")
    if out is not None:
        with open(out, "a") as file:
            file.write(json.dumps({"fault": fault.name, "seed": seed, **asdict(outcome)}) + "\n")


def table(chosen: list[Fault], results: dict[str, list[Outcome]]) -> str:
    """One row a fault that was tried."""
    lines = [
        "| Fault | Trials | Bytes identical | Audit clean | Command run again | Half-written seen | Otherwise wrong |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for fault in chosen:
        outcomes = results[fault.name]
        if not outcomes:
            continue
        n, judged = len(outcomes), [o.identical for o in outcomes if o.identical is not None]
        clean = [o.clean for o in outcomes if o.clean is not None]
        identical = f"{sum(judged)} of {len(judged)}" if judged else fault.instead if clean else "-"
        restarts = sorted(o.restarts for o in outcomes)
        again = f"{restarts[0]}" if restarts[0] == restarts[-1] else f"{restarts[0]} to {restarts[-1]}"
        wrong = "; ".join(sorted({p[:80] for o in outcomes for p in o.problems})) or "nothing"
        half = sum(len(o.half_written) for o in outcomes)
        lines.append(
            f"| {fault.text} | {n} | {identical} | {sum(clean)} of {len(clean)} | {again} | {half} | {wrong} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
