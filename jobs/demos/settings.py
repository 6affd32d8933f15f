"""Settings of the demonstrations."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.settings import checked, setting


@checked
class DemoConfig:
    """`vlajepa demo`."""

    out: Path = setting("folder that is made", default=Path("demo-out"))
    clips: int = setting("clips of the sample data", default=1000)
    episodes: int = setting("robot episodes of the sample data", default=1000)
    twins: int = setting(
        "held-out scenes of clips and of episodes, each under two instructions", default=100, at_least=1
    )
    steps: int = setting("training steps; trainer=demo warms up for 50", default=3200, at_least=50)
    seed: int = setting("of sample data and training", default=0)


@checked
class DemoSteeringConfig:
    """`vlajepa demo-steering`."""

    out: Path = setting("folder of a finished `vlajepa demo`", default=Path("demo-out"))
    steps: int = setting("training steps of each baseline; as the demonstration's", default=3200, at_least=50)
    seed: int = setting("of their training", default=0)
    at_a_time: int = setting("commands at a time, among which the processor cores are divided", default=2, at_least=1)


@checked
class DemoLeakConfig:
    """`vlajepa demo-leak`."""

    out: Path = setting("folder that is made", default=Path("demo-leak-out"))
    episodes: int = setting("robot episodes of the sample data", default=32, at_least=8)
    steps: int = setting(
        "training steps on each of the two builds; trainer=demo warms up for 50", default=300, at_least=50
    )
    samples: int = setting("episodes in which the future is replaced", default=24, at_least=1)
    seed: int = setting("of sample data and training", default=0)
