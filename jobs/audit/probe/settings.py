"""Settings of `vlajepa probe`."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.settings import checked, setting


@checked
class ProbeConfig:
    """`vlajepa probe`. Clips come from `root`, or from `cache` with its `reader`."""

    function: str = setting("package.module:name of (frames uint8 [F, H, W, 3], now) -> (context, targets)")
    root: Path | None = setting("folder of videos", default=None)
    cache: Path | None = setting("folder of cached latents", default=None)
    reader: str | None = setting(
        "package.module:name of path -> (frames, now, context, targets), or None for a file that is no entry",
        default=None,
    )
    cache_tolerance: float = setting(
        "largest relative difference of a cache from what the function makes", default=0.01, at_least=0
    )
    clips: int = setting("clips, spread over the folder", default=4, at_least=1)
    frames: int = setting("frames of a clip, from the middle of its video", default=32, at_least=2)
    now: int | None = setting("the present frame in each clip; null: its middle", default=None, at_least=0)
    horizon: int = setting("later frames that are replaced one at a time", default=8, at_least=1)
    out: Path | None = setting("folder for probe.json; null: it is not written", default=None)

    def __post_init__(self) -> None:
        if (self.root is None) == (self.cache is None):
            raise ValueError("give root=FOLDER of videos, or cache=FOLDER with reader=, and not both")
        if (self.cache is None) != (self.reader is None):
            raise ValueError("cache and reader go together; give both or neither")
