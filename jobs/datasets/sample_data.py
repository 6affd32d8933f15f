"""`vlajepa sample-data`: a small tabletop world as a real SSv2 folder and a real LeRobot v2.1 folder."""

from __future__ import annotations

from pathlib import Path

from jobs.common.progress import progress_bar
from jobs.datasets.settings import SampleDataConfig
from pipeline.errors import RunError
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2


def run(settings: SampleDataConfig) -> None:
    write_sample_data(settings)
    print(f"sample data in {settings.out}: ssv2/ and lerobot/")


def write_sample_data(settings: SampleDataConfig) -> tuple[Path, Path]:
    """Write both folders. Returns the SSv2 root and the LeRobot root. Raises RunError if one of them exists."""
    ssv2, lerobot = settings.out / "ssv2", settings.out / "lerobot"
    for root in (ssv2, lerobot):
        if root.exists():
            raise RunError(f"{root} exists; choose another out= or delete it")
    with progress_bar(total=settings.clips, unit="clip", desc="human clips") as bar:
        write_ssv2(ssv2, settings.clips, settings.seed, progress=lambda done, _total: bar.update(done - bar.n))
    with progress_bar(total=settings.episodes, unit="episode", desc="robot episodes") as bar:
        write_lerobot(lerobot, settings.episodes, settings.seed, progress=lambda done, _total: bar.update(done - bar.n))
    return ssv2, lerobot
