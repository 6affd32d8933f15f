"""A study: its parts are run, each once, and its report is written anew whenever an evaluation has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.common.claim import claim
from jobs.common.driver_lock import DriverLock
from jobs.common.json_lines import JsonLines
from jobs.common.text import duration_text, markdown_table
from jobs.demos.command_runner import Command, is_complete, run_commands
from jobs.demos.libero.parts import Part
from jobs.demos.libero.prediction import Timed, describe_prediction
from jobs.demos.libero.settings import LiberoStudyConfig
from pipeline.format.settings import deciding
from pipeline.storage.atomic import write_atomic
from pipeline.storage.store import open_store

Report = Callable[[], str]
"""What there is so far, as Markdown."""


def run_study(settings: LiberoStudyConfig, parts: Sequence[Part], make_report: Report) -> Path:
    """Run what is not complete. Returns report.md.

    Args:
        settings: with an absolute `out`: the parts write it down.
    """
    out, by_name = settings.out, {part.command.name: part for part in parts}
    out.mkdir(parents=True, exist_ok=True)
    with DriverLock(open_store(out)) as lock:
        claim(out / "experiment.json", deciding(settings), "experiment")
        log = JsonLines(out / "parts.jsonl", Timed, "part", lock.check)
        left = [part for part in parts if not is_complete(part.command, out)]
        print(describe_prediction(parts, left, log.read(), settings.at_a_time), flush=True)

        def ended(command: Command, seconds: float) -> None:
            part = by_name[command.name]
            log.add(Timed(command.text, part.kind, part.amount, round(seconds, 1)))
            if command.words[0] == "evaluate":
                write()

        def write() -> str:
            rows = [(f"`{part.command}`", duration_text(part.seconds)) for part in log.read()]
            report = make_report() + "\n" + markdown_table(("command", "time"), rows) + "\n"
            write_atomic(out / "report.md", report.encode())
            return report

        run_commands([part.command for part in parts], out, settings.at_a_time, ended)
        report = write()
    print("\n" + report + f"\nThis report: {out / 'report.md'}")
    return out / "report.md"
