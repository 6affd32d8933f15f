"""Settings of `vlajepa report`."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.enums import Device
from pipeline.format.settings import checked, setting


@checked
class ReportConfig:
    """`vlajepa report`."""

    run: Path = setting("folder of a training run; a step-… folder in it: futures are those of this checkpoint")
    out: Path | None = setting("the page; null: report.html in the run's folder", default=None)
    builds: tuple[str, ...] = setting(
        "folders of the run's builds, if they were moved since run.json was written", default=()
    )
    baselines: tuple[Path, ...] = setting(
        "folders of other runs, whose reliance stands beside this one's: model.predictor.steered_by=true_motion, "
        "constant, words",
        default=(),
    )
    samples: int = setting(
        "held-out samples of each build whose predictions are shown; 0: none, and no model is loaded",
        default=4,
        at_least=0,
        at_most=64,
    )
    device: Device = setting("where they are predicted", default=Device.CPU)
