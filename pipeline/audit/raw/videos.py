"""A folder of videos with a list of texts, .csv with a header or .json. Episode ids are NAME-SHORT, SHORT the path."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.audit.raw.base import RawEpisode, RawError, read_bytes, usable_text
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.settings import SPLITS, hashed_split, short, text_of


class RawVideos:
    """The list of texts, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._root = root
        name = text_of(settings, "name")
        video, text = text_of(settings, "video_column"), text_of(settings, "text_column")
        split = None if settings.get("split_column") is None else text_of(settings, "split_column")
        self._entries: dict[str, tuple[str | None, str, str]] = {}
        self._twice: set[str] = set()
        for row in _rows(root / text_of(settings, "texts")):
            path = _inside(row.get(video))
            if path is None:
                continue
            episode = f"{name}-{short(os.path.splitext(path)[0])}"
            if episode in self._entries:
                self._twice.add(episode)
            where = hashed_split(episode, settings) if split is None else SPLITS.get(str(row.get(split)).strip())
            self._entries[episode] = (where, path, usable_text(row.get(text)))

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        return self._entries[episode][0] if episode in self._entries else None

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        if episode not in self._entries:
            raise RawError(f"the list of texts has no {episode!r}")
        split, path, text = self._entries[episode]
        if split is None or episode in self._twice:
            raise RawError(f"{path} is in no known split, or more than once in the list of texts")
        texts = (text,) if text and split != "test" else ()
        return RawEpisode(episode, split, {"video": partial(read_video, self._root / path)}, texts)


def _inside(path: object) -> str | None:
    """A path below the root, in its shortest form."""
    if not usable_text(path):
        return None
    shortest = os.path.normpath(str(path))
    return None if os.path.isabs(shortest) or shortest.split(os.sep)[0] == os.pardir else shortest


def _rows(path: Path) -> list[Mapping[str, Any]]:
    content = read_bytes(path)
    try:
        if path.suffix == ".json":
            rows = json.loads(content.decode("utf-8", "surrogateescape"))
            if not isinstance(rows, list):
                raise RawError(f"{path} holds no list")
            return [row for row in rows if isinstance(row, dict)]
        text = content.decode("utf-8-sig", "surrogateescape")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        raise RawError(f"{path}: {error}") from error
