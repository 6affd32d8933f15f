"""Settings of the commands about raw datasets."""

from __future__ import annotations

from pathlib import Path

from jobs.datasets.configured_source import ConfiguredSource
from pipeline.format.build_settings import WindowPolicy
from pipeline.format.settings import checked, setting
from pipeline.sample_world.variety import Variety


@checked
class SourcesConfig:
    """`vlajepa sources`."""

    name: str | None = setting("of one manifest; null: list them all", default=None)


@checked
class InspectConfig:
    """`vlajepa inspect`."""

    source: ConfiguredSource = setting(
        "the dataset: a manifest's name, or the reader's own settings; source.leave_out=FILE leaves episodes out"
    )
    window: WindowPolicy = setting("comes with a source and is not used here", default_factory=WindowPolicy)
    episodes: int | None = setting(
        "episodes opened, one drawn from each of as many equal parts of the dataset; null: all", default=24, at_least=1
    )
    seed: int = setting("of that draw", default=0)
    out: Path | None = setting(
        "folder for inspection.html, inspection.json, leave-out.jsonl and contact-sheet.png; null: inspect-NAME",
        default=None,
    )
    max_bad_share: float | None = setting("comes with a source and is not used here", default=None)


@checked
class SampleDataConfig:
    """`vlajepa sample-data`: a small tabletop world as an SSv2 folder and a LeRobot v2.1 folder."""

    out: Path = setting("folder that is made")
    clips: int = setting("human video clips", default=120, at_least=4)
    episodes: int = setting("robot episodes", default=24, at_least=4)
    twins: int = setting(
        "scenes of the validation split of each, in two clips (episodes) that begin with the same picture and have "
        "different instructions; they come on top; 0: a share of the clips is held out",
        default=0,
        at_least=0,
    )
    size: int = setting("of a frame", default=128, unit="pixels")
    variety: Variety = setting("what differs between episodes", default_factory=Variety)
    seed: int = setting("of everything random", default=0)
