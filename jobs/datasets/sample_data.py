"""`vlajepa sample-data`: a small tabletop world as a real SSv2 folder and a real LeRobot v2.1 folder."""

from __future__ import annotations

from pathlib import Path

from jobs.common.progress import progress_bar
from jobs.datasets.settings import SampleDataConfig
from pipeline.errors import RunError
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2


def run(settings: SampleDataConfig) -> tuple[Path, Path]:
    """The SSv2 root and the LeRobot root."""
    roots = write_sample_data(settings)
    print(f"sample data in {settings.out}: ssv2/ and lerobot/")
    return roots


def write_sample_data(settings: SampleDataConfig) -> tuple[Path, Path]:
    """Write both folders. Returns the SSv2 root and the LeRobot root. Raises RunError if one of them exists."""
    ssv2, lerobot = settings.out / "ssv2", settings.out / "lerobot"
    for root in (ssv2, lerobot):
        if root.exists():
            raise RunError(f"{root} exists; choose another out= or delete it")
    for root, number, unit, desc, write in (
        (ssv2, settings.clips, "clip", "human clips", write_ssv2),
        (lerobot, settings.episodes, "episode", "robot episodes", write_lerobot),
    ):
        with progress_bar(total=number + 2 * settings.twins, unit=unit, desc=desc) as bar:
            write(
                root,
                number,
                settings.seed,
                settings.size,
                progress=lambda done, _total, bar=bar: bar.update(done - bar.n),  # type: ignore[misc]
                variety=settings.variety,
                twins=settings.twins,
            )
    return ssv2, lerobot
