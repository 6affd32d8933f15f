"""Timed runs and how they are shown: medians and spread over repeats, ratios within one run, targets beside them."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

PACKAGES = ("numpy", "pyarrow", "pillow", "torch", "ray", "webdataset")


@dataclass(frozen=True)
class Series:
    """Values of one quantity over the repeats, in the order measured."""

    name: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError(f"{self.name}: measurements must be finite numbers, at least one, got {self.values}")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: Series, name: str) -> Series:
        """This divided by `other`, repeat by repeat: what disturbs the machine for a while disturbs both."""
        return Series(name, tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def row(self, unit: str) -> str:
        low, high = min(self.values), max(self.values)
        return f"  {self.name:58} {self.median:9.3f}  {low:9.3f} .. {high:9.3f}  {unit}"


@dataclass(frozen=True)
class Target:
    """A ratio and the bound it has to keep: at least `bound`, or at most with `at_most`."""

    ratio: Series
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.ratio.median <= self.bound if self.at_most else self.ratio.median >= self.bound

    @property
    def wanted(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"

    def row(self) -> str:
        return self.ratio.row(f"target {self.wanted}: {'met' if self.met else 'NOT MET'}")


@dataclass(frozen=True)
class Shown:
    """A target and the title of the table that shows it."""

    title: str
    target: Target


_collecting: list[list[Shown]] = []

Table = dict[str, Any]
"""Title, unit, notes, and by name the values of quantities and ratios; of targets their bound too."""

_listening: list[Callable[[Table], object]] = []


@contextlib.contextmanager
def collected_targets() -> Iterator[list[Shown]]:
    """Every target that tables show meanwhile, in order."""
    targets: list[Shown] = []
    _collecting.append(targets)
    try:
        yield targets
    finally:
        _collecting.remove(targets)


@contextlib.contextmanager
def heard_tables(listener: Callable[[Table], object]) -> Iterator[None]:
    """Meanwhile every table that is printed is handed over too."""
    _listening.append(listener)
    try:
        yield
    finally:
        _listening.remove(listener)


def interleaved(runs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Series]:
    """Call every contender once a repeat, in turn; the values each returned."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            values[name].append(run())
    return {name: Series(name, tuple(found)) for name, found in values.items()}


def seconds_of(work: Callable[[], object], rounds: int = 1) -> float:
    """Mean seconds of so many calls."""
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    return (time.perf_counter() - started) / rounds


def print_machine(seconds: float = 2.0) -> list[str]:
    """Processors, memory, load and versions: without them no figure below means anything."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"{_processor()}, {cores()} cores, {pages / 2**30:.0f} GiB; load over 1, 5, 15 min: {load}",
        f"other programs take {busy_share(seconds):.0%} of the processors just now",
        f"{platform.platform()}, Python {platform.python_version()}",
        ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    ]
    print("\n".join(lines))
    return lines


def busy_share(seconds: float = 2.0) -> float:
    """Share of all processors that was busy while this process slept."""
    before = _processor_ticks()
    time.sleep(seconds)
    after = _processor_ticks()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def print_table(
    title: str, unit: str, series: Sequence[Series], ratios: Sequence[Series | Target] = (), notes: Sequence[str] = ()
) -> None:
    """One table: quantities in `unit`, then ratios; a target stands beside those that have one."""
    print(f"\n{title}")
    for note in notes:
        print(f"  {note}")
    print(f"  {'':58} {'median':>9}  {'lowest':>9}    {'highest':>9}")
    for one in series:
        print(one.row(unit))
    shown = [(one.ratio, one) if isinstance(one, Target) else (one, None) for one in ratios]
    bounds = {ratio.name: target.wanted for ratio, target in shown if target}
    values = {one.name: one.values for one in (*series, *(ratio for ratio, _ in shown))}
    for listener in _listening:
        listener({"title": title, "unit": unit, "notes": list(notes), "values": values, "targets": bounds})
    for targets in _collecting:
        targets += [Shown(title, ratio) for ratio in ratios if isinstance(ratio, Target)]
    for ratio in ratios:
        print(ratio.row() if isinstance(ratio, Target) else ratio.row("no target"))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop what a command prints, so that the tables stay together."""
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def _processor_ticks() -> tuple[int, int]:
    """Busy and all clock ticks since the machine started (first line of /proc/stat: user nice system idle iowait …)."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()
