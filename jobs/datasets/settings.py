"""Settings of the commands about raw datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.samples.windows import WindowPolicy


@dataclass(frozen=True)
class SourcesConfig:
    """`vlajepa sources`. name: of one manifest; null: list them all."""

    name: str | None = None


@dataclass(frozen=True)
class InspectConfig:
    """`vlajepa inspect`. `window` and `max_bad_share` come with a source and are of no use here.

    episodes  opened, spread over the dataset; null: all
    out       folder for contact-sheet.png and inspection.json; null: inspect-NAME
    """

    source: dict[str, Any]
    window: WindowPolicy
    episodes: int | None = 24
    out: Path | None = None
    max_bad_share: float | None = None

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be null or at least 1, got {self.episodes}")


@dataclass(frozen=True)
class SampleDataConfig:
    """`vlajepa sample-data`: a small tabletop world as an SSv2 folder and a LeRobot v2.1 folder."""

    out: Path
    clips: int = 120
    episodes: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "episodes"):
            if getattr(self, name) < 4:
                raise ValueError(f"{name} must be at least 4, got {getattr(self, name)}")
