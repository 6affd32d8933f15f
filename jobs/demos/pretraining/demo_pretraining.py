"""`vlajepa demo-pretraining`: world models pretrained without actions -> policies from few demonstrations -> successes.

A world model is trained on the sample world's episodes without their actions, and another with the latent actions of
other samples, as a control. Policies are fine-tuned on a few demonstrations from each and from scratch, and carry out
instructions in scenes of their own. A complete part is not run again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jobs.common.claim import claim
from jobs.common.driver_lock import DriverLock
from jobs.demos.command_runner import Command, run_commands
from jobs.demos.pretraining.commands import commands
from jobs.demos.pretraining.conditions import policies
from jobs.demos.pretraining.report import as_json, describe, make_rows
from jobs.demos.pretraining.result import make_result
from jobs.demos.pretraining.settings import DemoPretrainingConfig
from pipeline.format.settings import deciding
from pipeline.storage.atomic import write_atomic
from pipeline.storage.store import open_store


def run(settings: DemoPretrainingConfig) -> Path:
    """The report."""
    settings = replace(settings, out=settings.out.resolve())  # the parts write it down
    settings.out.mkdir(parents=True, exist_ok=True)
    trained = {f"train-{policy.name}": policy for policy in policies(settings)}

    def ended(command: Command, seconds: float) -> None:
        if command.name in trained:
            make_result(settings, trained[command.name])
            _report(settings)

    with DriverLock(open_store(settings.out)):
        claim(settings.out / "experiment.json", deciding(settings), "experiment")
        run_commands(list(commands(settings)), settings.out, settings.at_a_time, ended)
        for policy in trained.values():
            make_result(settings, policy)
        report = _report(settings)
    print("\n" + report + f"\nThis report: {settings.out / 'report.md'}")
    return settings.out / "report.md"


def _report(settings: DemoPretrainingConfig) -> str:
    """Write report.md and results.json of what there is."""
    rows = make_rows(settings)
    report = describe(settings, rows)
    content = json.dumps(as_json(settings, rows), indent=2) + "\n"
    write_atomic(settings.out / "results.json", content.encode())
    write_atomic(settings.out / "report.md", report.encode())
    return report
