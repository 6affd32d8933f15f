"""Something-Something-v2: label files give split and sentence, ID.webm is the clip. Episode ids are NAME-ID.

A clip with an answer in test-answers.csv (`id;answer` lines) is a test clip, whatever the other files list.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.place import Place
from pipeline.audit.raw.settings import clean, text_of
from pipeline.format.json.strict_json import parse_any

_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}


class RawSSv2(RawSource):
    """The place of an episode is the id of its clip and the sentence."""

    def list_episodes(self) -> None:
        name, labels = text_of(self.settings, "name"), self.root / "labels"
        answered = _answered(labels / "test-answers.csv")
        for split, file in _FILES.items():
            if split == "test" and not (labels / file).exists():
                continue
            for row in _rows(labels / file):
                clip = str(row.get("id"))
                usable = type(row.get("id")) in (int, str) and clip and clean(clip) == clip
                if usable and clip not in answered:
                    self.add(f"{name}-{clip}", split, (clip, usable_text(row.get("label"))))
        for clip in answered:
            self.add(f"{name}-{clip}", "test", (clip, ""))

    def read(self, episode: str, split: str, place: tuple[str, str]) -> RawEpisode:
        clip, label = place
        video = self.root / "20bn-something-something-v2" / f"{clip}.webm"
        return RawEpisode(episode, split, {"video": partial(read_video, video)}, (label,) if label else ())


def _rows(path: Place) -> list[dict[str, Any]]:
    with reading(path):
        rows = parse_any(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _answered(path: Place) -> set[str]:
    """Ids of the clips that have an answer; none when there is no such file. The answers are not read."""
    if not path.exists():
        return set()
    with reading(path):
        lines = re.split("[\r\n]+", path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    found = {line.partition(";")[0].strip().strip('"') for line in lines} - {""}
    if any(clean(clip) != clip for clip in found):
        raise RawError(f"{path} holds a line that is no `id;answer`, so the clips of the test set are unknown")
    return found
