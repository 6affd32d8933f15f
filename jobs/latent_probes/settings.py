"""Settings of `vlajepa probe-latents`."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.enums import Device
from pipeline.format.settings import checked, setting


@checked
class ProbeLatentsConfig:
    """`vlajepa probe-latents`."""

    run: Path = setting("folder of a training run")
    builds: tuple[str, ...] = setting(
        "folders of the run's builds, if they were moved since run.json was written", default=()
    )
    truth: tuple[Path, ...] = setting(
        'files of JSON lines {"episode": "000012", "named_x": 0.1, …}, one a build in the order of run.json: numbers '
        "of each episode (sample data with twins: truth.jsonl); none: the robot's motion alone is probed",
        default=(),
    )
    samples: int = setting(
        "train samples of each build that probes are fitted on, spread over the split", default=1000, at_least=20
    )
    held_out: int = setting("validation samples that they are tried on", default=1000, at_least=2)
    device: Device = setting("where the student runs", default=Device.CPU)
