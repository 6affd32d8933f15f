"""Settings of `vlajepa view`."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.settings import checked, setting


@checked
class ViewConfig:
    """`vlajepa view`."""

    what: Path = setting("folder of a finished build, audited or not, or one that `vlajepa evaluate` wrote")
    key: str | None = setting(
        "key of the sample that is shown; null: those that the verdict's findings name, and the first of each split",
        default=None,
    )
    out: Path = setting("the recording, which is replaced; open it with: rerun FILE", default=Path("vlajepa.rrd"))
    samples: int = setting("samples that are shown at most, without key=", default=16, at_least=1, at_most=1000)

    def __post_init__(self) -> None:
        if self.out.suffix != ".rrd":
            raise ValueError(f"out must end in .rrd, got {str(self.out)!r:.200}")
