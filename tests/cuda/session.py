"""`python -m tests.cuda.session`: what needs a GPU, in order of worth, within the minutes that there is one.

Each part is a process of its own with a limit, and writes to a file of its own as it goes: what is cut off leaves what
it has measured. A part that has no time left is not begun, which is said. `results.json` has what all parts measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 480
LEAST = 15.0
"""Seconds without which a part is not begun: PyTorch alone takes ten to be imported."""

NEW_TESTS = ("step_graph", "act_graph", "training", "encoder", "model")
"""Modules of tests/cuda in order: what has run on the fewest GPUs first."""


@dataclass(frozen=True)
class Part:
    """What is run: words after `python`, and how many seconds it may take."""

    name: str
    words: tuple[str, ...]
    limit: float


@dataclass(frozen=True)
class Outcome:
    """Of a part: exit code, None where it was cut off or not begun, and what became of it."""

    name: str
    code: int | None
    seconds: float
    said: str


def parts(tiny: bool) -> list[Part]:
    """In order of worth. tiny: on the CPU, tests are collected alone."""
    tests = [f"tests/cuda/test_{name}.py" for name in NEW_TESTS]
    pytest = ("-m", "pytest", "-m", "cuda", *(["--collect-only"] if tiny else []))
    benchmark = ("-m", "tests.benchmarks", *(["--tiny", "--repeats", "1"] if tiny else []))
    return [
        Part("step", (*benchmark, "cuda"), 150),
        Part("tests", (*pytest, *tests), 130),
        Part("encoder", (*benchmark, "cuda-encoder"), 100),
        Part("latency", (*benchmark, "latency"), 100),
        Part("kernels", (*pytest, "tests/cuda/test_attention.py"), 60),
        Part("whole-way", (*benchmark, "cuda-run"), 400),
    ]


def run_parts(wanted: Sequence[Part], out: Path, seconds: float) -> list[Outcome]:
    """Run them one after the other; after each `summary.json` has the outcomes, and `results.json` the tables too."""
    out.mkdir(parents=True, exist_ok=True)
    until, found = time.monotonic() + seconds, list[Outcome]()
    for number, part in enumerate(wanted, 1):
        left = until - time.monotonic()
        file = out / f"{number}-{part.name}.txt"
        if left < LEAST:
            found.append(Outcome(part.name, None, 0.0, f"not begun: {left:.0f} of {seconds:g} seconds were left"))
        else:
            found.append(_run(part, file, min(part.limit, left)))
        sys.stdout.write(f"{part.name}: {found[-1].said}\n")
        sys.stdout.flush()
        outcomes = [asdict(one) for one in found]
        (out / "summary.json").write_text(json.dumps(outcomes, indent=2) + "\n")
        tables = {part.name: _tables(out / f"{number}-{part.name}.json") for number, part in enumerate(wanted, 1)}
        (out / "results.json").write_text(json.dumps({"outcomes": outcomes, "parts": tables}, indent=2) + "\n")
    return found


def _tables(file: Path) -> Any:
    """What a part's benchmark wrote; None for one that wrote none, or was cut off while it did."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def _run(part: Part, file: Path, limit: float) -> Outcome:
    began = time.monotonic()
    table = file.with_suffix(".json").absolute()
    table.unlink(missing_ok=True)
    words = [*part.words, "--json", str(table)] if "tests.benchmarks" in part.words else part.words
    with open(file, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-u", *words],
            cwd=REPOSITORY,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    took = time.monotonic() - began
    said = f"cut off after {took:.0f} s" if code is None else f"exit code {code} after {took:.0f} s"
    return Outcome(part.name, code, round(took, 1), f"{said}; {file}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda.session", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("cuda-out"), help="folder of the results (default cuda-out)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of all parts together (default {SECONDS})")
    parser.add_argument("--only", help="names of parts, with commas between them")
    parser.add_argument("--tiny", action="store_true", help="on the CPU: shows that it works, the numbers mean nothing")
    options = parser.parse_args(arguments)
    wanted = parts(options.tiny)
    names = [part.name for part in wanted]
    chosen = options.only.split(",") if options.only else names
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(names)}")
    found = run_parts([part for part in wanted if part.name in chosen], options.out, options.seconds)
    return max(int(bool(one.code)) for one in found)


if __name__ == "__main__":
    sys.exit(main())
