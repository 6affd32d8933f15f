"""Settings of `vlajepa report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportConfig:
    """`vlajepa report`.

    run      folder of a training run
    out      the page; null: report.html in it
    builds   folders of the run's builds, if they no longer lie where run.json says
    samples  held-out samples of each build whose predictions are shown; 0: none, and no model is loaded
    device   "cpu" or "cuda", that predicts them
    """

    run: Path
    out: Path | None = None
    builds: tuple[str, ...] = ()
    samples: int = 4
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.samples <= 64:
            raise ValueError(f"samples must be 0..64 (the page holds all pictures), got {self.samples}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be one of cpu, cuda, got {self.device!r}")
