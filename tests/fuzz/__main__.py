"""`python -m tests.fuzz [--inputs N]`: spoiled files to every reader; what is wrong, one line a kind, and the seeds."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.subject import Finding, Subject, try_one
from tests.fuzz.subjects import make_subjects


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all, over the subjects by turns")
    parser.add_argument("--seed", type=int, default=0, help="the first one's")
    parser.add_argument("--only", default="", help="beginnings of names of subjects, separated by commas")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=600, help="no input is tried later")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        found: list[Finding] = []
        tried, until = 0, started + 60 * options.minutes
        ends = [options.inputs * done // options.processes for done in range(options.processes + 1)]
        with ProcessPoolExecutor(options.processes, mp_context=get_context("fork")) as pool:
            fuzzed = [
                pool.submit(fuzz_all, options.only, range(*span), options.seed, Path(folder, str(span[0])), until)
                for span in pairwise(ends)
            ]
            for findings, number in (future.result() for future in fuzzed):
                found += findings
                tried += number
    sys.stdout.write(describe(found))
    sys.stdout.write(f"{tried:,} inputs in {time.monotonic() - started:.0f} s: {len(found)} findings\n")
    return 1 if found else 0


def fuzz_all(only: str, numbers: Iterable[int], seed: int, folder: Path, until: float) -> tuple[list[Finding], int]:
    """Inputs by their number, the subjects by turns, until a time of the monotonic clock.

    Args:
        only: beginnings of names of subjects, separated by commas.
        folder: a new one.

    Returns:
        What is wrong, and how many were tried.
    """
    subjects = [each for each in make_subjects(folder / "given") if each.name.startswith(tuple(only.split(",")))]
    found: list[Finding] = []
    tried = 0
    for number in numbers:
        if time.monotonic() > until:
            break
        found += fuzz(subjects[number % len(subjects)], seed + number // len(subjects), folder)
        tried += 1
    return found, tried


def fuzz(subject: Subject, seed: int, folder: Path) -> list[Finding]:
    """What is wrong with how one input is read. What readers print is left out."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return list(try_one(subject, seed, folder))


def describe(found: list[Finding]) -> str:
    """One line a kind, with how often and one example."""
    kinds = Counter((f.reader, f.problem.split(": ")[0]) for f in found)
    first = {(f.reader, f.problem.split(": ")[0]): f for f in reversed(found)}
    lines = []
    for kind, times in kinds.most_common():
        f = first[kind]
        what = f"{f.subject} {f.seed}, {f.file}{', hashes repaired' if f.repaired else ''}"
        lines.append(f"{times:5} x {f.reader}: {f.problem}\n          first: {what}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
