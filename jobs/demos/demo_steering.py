"""`vlajepa demo-steering`: what the latent actions of the demonstration are worth, beside what stands for them.

On the builds of `vlajepa demo` it trains the same predictor on true motion (a ceiling), a constant (the floor) and the
instruction's words alone, probes the demonstration's latent actions, and writes a table and the run's page again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.common.text import duration_text, markdown_table
from jobs.demos.command_runner import Command, command_words, run_commands
from jobs.demos.demo import MODEL
from jobs.demos.held_out_tables import COUNTS, measure_rows
from jobs.demos.settings import DemoSteeringConfig
from jobs.latent_probes.probe_latents import PROBES_FILE, READING, Probe, probe_table
from jobs.report.reliance import STEERED_BY
from pipeline.errors import RunError
from pipeline.storage.atomic import write_atomic

BASELINES = {"true_motion": ("robot",), "words": ("robot", "ssv2"), "constant": ("robot", "ssv2")}
"""Builds that each is trained on: human video has no true motion."""

CONCLUSIONS = (
    "Latent actions between floor and words alone carry no more than the instruction; a predictor can find the named "
    "thing in the present latents by itself. What speaks for the student is reliance above the words alone, and a "
    "probe of place above that of the untrained student."
)


def run(settings: DemoSteeringConfig) -> Path:
    """The report."""
    if not (settings.out / "run" / "held_out.json").exists():
        raise RunError(f"{settings.out} holds no finished demonstration; run vlajepa demo out={settings.out} first")
    timed: list[tuple[str, str]] = []
    run_commands(
        commands(settings),
        settings.out,
        settings.at_a_time,
        lambda command, seconds: timed.append((f"`{command.text}`", duration_text(seconds))),
    )
    report = "\n".join(make_report(settings.out, timed)) + "\n"
    path = settings.out / "steering.md"
    write_atomic(path, report.encode())
    print("\n" + report + f"\nThis report: {path}; the run's page: {settings.out}/run/report.html")
    return path


def commands(settings: DemoSteeringConfig) -> list[Command]:
    """The trainings, the probes and the page."""
    out, runs = settings.out, [f"run-{kind}" for kind in BASELINES]
    found = []
    for kind, builds in BASELINES.items():
        folders = ",".join(f"{{out}}/builds/{name}" for name in builds)
        words = (
            f"train builds=[{folders}] out={{out}}/run-{kind} {MODEL} model.predictor.steered_by={kind} "
            "model.freeze=[student,action_head] trainer.steps={s.steps} trainer.seed={s.seed} model.seed={s.seed}"
        )
        found.append(Command(f"run-{kind}", command_words(words, out=out, s=settings), f"run-{kind}/held_out.json"))
    probe = "probe-latents {out}/run truth=[{out}/data/lerobot/truth.jsonl,{out}/data/ssv2/truth.jsonl]"
    found.append(Command("probes", command_words(probe, out=out), f"run/{PROBES_FILE}"))
    page = f"report {{out}}/run baselines=[{','.join(f'{{out}}/{name}' for name in runs)}]"
    results = tuple(f"{name}/held_out.json" for name in runs)
    return [*found, Command("report", command_words(page, out=out), "run/report.html", results)]


def make_report(out: Path, timed: list[tuple[str, str]]) -> Iterator[str]:
    """Lines of the summary, as Markdown; every number is read from what the commands wrote."""
    yield "# What steers the world model of the demonstration\n"
    rows = [
        (name, STEERED_BY[kind], *row)
        for kind in ("latent_actions", *BASELINES)
        for name, numbers in _held_out(out, kind).items()
        for row in measure_rows({**numbers, "image_reliance": {}})
    ]
    rows.sort(key=lambda row: (row[0], row[2]))
    yield markdown_table(("build", "steered by", "measure", "value (interval)", *COUNTS), rows)
    yield f"\n{CONCLUSIONS}\n"
    yield probe_table([Probe(**row) for row in json.loads((out / "run" / PROBES_FILE).read_bytes())])
    yield f"\n{READING}\n"
    yield markdown_table(("command", "time"), timed)


def _held_out(out: Path, kind: str) -> Mapping[str, Any]:
    name = "run" if kind == "latent_actions" else f"run-{kind}"
    content: dict[str, Any] = json.loads((out / name / "held_out.json").read_bytes())
    return content
