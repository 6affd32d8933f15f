"""Something-Something-v2: label files give split and sentence, ID.webm is the clip. Episode ids are NAME-ID.

A clip with an answer in test-answers.csv (`id;answer` lines) is a test clip, whatever the other files list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.audit.raw.base import RawEpisode, RawError, read_bytes, usable_text
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.settings import text_of

_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}
_ANSWERS = "labels/test-answers.csv"


class RawSSv2:
    """All label files, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._root = root
        self._prefix = text_of(settings, "name") + "-"
        self._labels: dict[str, tuple[str, str]] = {}
        self._twice: set[str] = set()
        for split, file in _FILES.items():
            path = root / "labels" / file
            if split == "test" and not path.exists():
                continue
            for row in _rows(path):
                clip = str(row.get("id"))
                if clip in self._labels:
                    self._twice.add(clip)
                self._labels[clip] = (split, usable_text(row.get("label")))
        self._labels |= dict.fromkeys(_answered(root / _ANSWERS), ("test", ""))

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        entry = self._labels.get(episode.removeprefix(self._prefix))
        return entry[0] if entry and episode.startswith(self._prefix) else None

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        clip = episode.removeprefix(self._prefix)
        if self.split_of(episode) is None:
            raise RawError(f"no label file lists {clip!r}")
        if clip in self._twice:
            raise RawError(f"{clip} appears more than once in the label files")
        split, label = self._labels[clip]
        video = self._root / "20bn-something-something-v2" / f"{clip}.webm"
        return RawEpisode(episode, split, {"video": partial(read_video, video)}, (label,) if label else ())


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(read_bytes(path).decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise RawError(f"{path}: {error}") from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _answered(path: Path) -> set[str]:
    """Ids of the clips that have an answer; none when there is no such file. The answers are not read."""
    if not path.exists():
        return set()
    lines = read_bytes(path).decode("utf-8-sig", "surrogateescape").splitlines()
    return {line.partition(";")[0].strip() for line in lines} - {""}
