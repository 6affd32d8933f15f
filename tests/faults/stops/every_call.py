"""A command that is ended before its n-th call, for every n, and what the same command makes of that."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.stops.cases import Case
from tests.faults.stops.stage import Stage, Stop

KILLED = -9


@dataclass
class Tried:
    """calls: that an undisturbed run makes;  kills: how many of them were tried;  problems: with the call's number."""

    calls: int = 0
    kills: int = 0
    problems: list[str] = field(default_factory=list)


def try_every_call(
    stage: Stage, given: Path, case: Case, writes: bool = False, every: int = 1, most: int = 10**9
) -> Tried:
    """End the command before each `every`-th call, from the first on, and run it again.

    Args:
        writes: stop in the middle of writes as well.
        most: of all calls, evenly spread, if they are more.

    Raises:
        RuntimeError: undisturbed it fails.
    """
    tried = Tried()
    folder = _prepared(stage, given, case)
    code, run = stage.run(case.words(given, folder), Stop(folder, writes=writes))
    if code:
        raise RuntimeError(f"{case.name} failed undisturbed: {run.output[-2000:]}")
    wanted, calls = case.result(folder), run.counted()
    tried.calls = len(calls)
    shutil.rmtree(folder)
    chosen = range(1, len(calls) + 1, every)
    places = {chosen[number * len(chosen) // min(most, len(chosen))] for number in range(min(most, len(chosen)))}
    for at in sorted(places):
        for problem in _try(stage, given, case, Stop(folder, at, writes), wanted):
            tried.problems.append(f"{case.name}, call {at} ({calls[at - 1][:120]}): {problem}")
        tried.kills += 1
    return tried


def _try(stage: Stage, given: Path, case: Case, stop: Stop, wanted: dict[str, Any]) -> list[str]:
    folder = _prepared(stage, given, case)
    code, run = stage.run(case.words(given, folder), Stop(folder, stop.at, stop.writes))
    if code != KILLED:
        return [f"not killed, exit code {code}: {run.output[-200:]}"]
    problems = [f"half-written: {what}" for what in case.half(folder)]
    done = case.again and any(folder.glob("out*"))
    code, run = stage.run(case.words(given, folder), Stop(folder))
    if code and not (code == case.again and done):
        problems.append(f"run again, exit code {code}: {run.output[-300:]}")
    else:
        found = case.result(folder)
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        problems += [f"another {name}" for name in names]
    shutil.rmtree(folder)
    return problems


def _prepared(stage: Stage, given: Path, case: Case) -> Path:
    folder = stage.folder / f"stopped-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    case.prepare(given, folder)
    return folder
