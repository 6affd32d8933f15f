"""An evaluation as results.json and results.md, beside what others published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.closed_loop.evaluate.plus_report import plus_numbers, plus_tables
from jobs.closed_loop.evaluate.plus_tasks import PlusRow
from jobs.closed_loop.outcomes import Outcome, Rate, rate_text, rates_by_task, swapped_instruction_rate, total
from jobs.closed_loop.published import published
from jobs.common.policy.image_ablation import ImageAblation
from jobs.common.text import markdown_table
from model.checkpoint.vouched import VOUCHED, Voucher
from pipeline.storage.atomic import write_atomic


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation and its outcomes.

    settings  of the command;  policy  which, and its interface;  versions  of the simulator's packages
    benchmark  "libero", "libero_plus" or "simpler_env"
    tasks     index -> instruction
    outcomes  by task and start
    plus      of libero_plus: all tasks, played or not
    """

    settings: Mapping[str, Any]
    policy: Mapping[str, Any]
    versions: Mapping[str, str]
    benchmark: str
    tasks: Mapping[int, str]
    outcomes: tuple[Outcome, ...]
    plus: tuple[PlusRow, ...] = ()

    @property
    def rates(self) -> dict[int, Rate]:
        """By task."""
        return rates_by_task(self.outcomes)

    @property
    def total(self) -> Rate:
        """All episodes together."""
        return total(self.rates)


def write_report(report: EvaluationReport, out: Path) -> str:
    """Write both files. Returns the text of results.md."""
    swapped = swapped_instruction_rate(report.outcomes)
    content = {
        "total": _numbers(report.total),
        "tasks": [
            {"task": task, "instruction": report.tasks[task], **_numbers(rate)} for task, rate in report.rates.items()
        ],
        "swapped_instruction_success": _numbers(swapped) if report.settings["swap"] else None,
        "crashes": sum(outcome.crashes for outcome in report.outcomes),
        "policy": report.policy,
        "settings": report.settings,
        "versions": report.versions,
        "benchmark": report.benchmark,
        "episodes": [asdict(outcome) for outcome in report.outcomes],
    }
    if report.plus:
        content["categories"] = plus_numbers(report.plus, report.outcomes)
    write_atomic(out / "results.json", (json.dumps(content, indent=2) + "\n").encode())
    text = describe(report)
    write_atomic(out / "results.md", text.encode())
    return text


def describe(report: EvaluationReport) -> str:
    """The tables, as Markdown."""
    settings = report.settings
    title = f"# {settings['suite']}: {report.policy['policy']}"
    notes = [f"Perturbed along {settings['perturb']}, level {settings['level']}.\n"] if settings["perturb"] else []
    notes += ["Control: images are grey.\n"] if settings["image_ablation"] == ImageAblation.GREY else []
    notes += ["Control: each task has the next one's instruction.\n"] if settings["swap"] else []
    crashes = sum(outcome.crashes for outcome in report.outcomes)
    notes += [f"Trained on {Voucher(**entry).text}\n" for entry in report.policy.get(VOUCHED, ())]
    lines = [title, "", *notes, *(plus_tables(report.plus, report.outcomes) if report.plus else _task_table(report))]
    if settings["swap"]:
        swapped = rate_text(swapped_instruction_rate(report.outcomes))
        lines += [f"Swapped-instruction success, where the scene allows it: {swapped}", ""]
    lines += [f"Simulator crashes: {crashes}; each cost an episode that was then begun again.", ""]
    suite = settings["suite"].removesuffix("_visual_matching")
    perturbed = ("libero_plus", settings["perturb"])
    others = published(*perturbed) if settings["perturb"] else published(report.benchmark, suite)
    if others:
        lines += [
            "Published, 50 episodes a task unless the source has another number:",
            "",
            markdown_table(("system", "percent", "source"), [(o.name, f"{o.percent:.1f}", o.source) for o in others]),
            "",
        ]
    return "\n".join(lines)


def _task_table(report: EvaluationReport) -> list[str]:
    rows = [(report.tasks[task], *_row(rate)) for task, rate in report.rates.items()]
    rows.append(("all", *_row(report.total)))
    return [markdown_table(("task", "successes", "percent", "95 % interval (Wilson)"), rows), ""]


def _row(rate: Rate) -> tuple[str, str, str]:
    interval = f"{100 * rate.low:.1f}-{100 * rate.high:.1f}"
    return (f"{rate.successes}/{rate.episodes}", f"{100 * rate.share:.1f}", interval)


def _numbers(rate: Rate) -> dict[str, Any]:
    return {**asdict(rate), "share": rate.share if rate.episodes else None, "text": rate_text(rate)}
