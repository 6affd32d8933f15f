"""A folder of videos with a list of texts, .csv with a header or .json. Episode ids are NAME-SHORT, SHORT the path."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.place import Place
from pipeline.audit.raw.settings import SPLITS, hashed_split, short, text_of
from pipeline.format.json.strict_json import parse_any


class RawVideos(RawSource):
    """The place of an episode is the path of its video and the text."""

    def list_episodes(self) -> None:
        settings = self.settings
        name, video, text = (text_of(settings, key) for key in ("name", "video_column", "text_column"))
        column = None if settings.get("split_column") is None else text_of(settings, "split_column")
        texts = path_inside(text_of(settings, "texts"))
        if texts is None:
            raise RawError(f"settings.source.texts leads out of {self.root}; it must be a file below it")
        for row in rows_of_list(self.root / texts):
            path = path_inside(row.get(video))
            if path is not None:
                episode = f"{name}-{short(os.path.splitext(path)[0])}"
                split = hashed_split(episode, settings) if column is None else SPLITS.get(str(row.get(column)).strip())
                self.add(episode, split, (path, usable_text(row.get(text))))

    def read(self, episode: str, split: str, place: tuple[str, str]) -> RawEpisode:
        path, text = place
        texts = (text,) if text and split != "test" else ()
        return RawEpisode(episode, split, {"video": partial(read_video, self.root / path)}, texts)


def path_inside(path: object) -> str | None:
    """A path below the root, in its shortest form."""
    if not usable_text(path):
        return None
    shortest = os.path.normpath(str(path))
    return None if os.path.isabs(shortest) or shortest.split(os.sep)[0] == os.pardir else shortest


def rows_of_list(path: Place) -> list[Mapping[str, Any]]:
    """The rows of a list of texts that are objects. Raises RawError where it cannot be read."""
    with reading(path):
        content = path.read_bytes()
        if path.suffix != ".json":
            return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")))
        rows = parse_any(content.decode("utf-8-sig", "surrogateescape"))
        if not isinstance(rows, list):
            raise ValueError("holds no list")
        return [row for row in rows if isinstance(row, dict)]
