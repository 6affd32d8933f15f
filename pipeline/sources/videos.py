"""Human video: a folder of videos with a list of texts, for datasets without their own reader.

    ROOT/texts.csv      video,text,split        ROOT/texts.json     [{"video": …, "text": …, "split": …}, …]
    ROOT/any/path.mp4   …

The list names the videos. Its columns may have other names, and the split is optional.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.format.settings import checked, setting
from pipeline.sources.base import EpisodeRef, HashedSplitSettings, LedgerEntry, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.files import FileSizes, check_files
from pipeline.sources.metadata import count_splits, has_text, own_text, sort_found
from pipeline.sources.naming import SPLIT_NAMES, short_name
from pipeline.sources.text_list import read_text_list
from pipeline.sources.video.decode import Video

VIEW = "video"


@checked
class VideoFolderSource(HashedSplitSettings):
    """Reader of a folder of videos."""

    root: str = setting("folder of the list; paths in the list are relative to it", decides=False)
    texts: str = setting(
        "the list: a .csv file with a header, or a .json file with a list of objects", default="texts.csv"
    )
    video_column: str = setting("column (key) with the path of the video", default="video")
    text_column: str = setting("column (key) with its text", default="text")
    split_column: str | None = setting(
        "column (key) with train, val, validation or test; null: splits are hashed", default=None
    )

    def index(self) -> SourceIndex:
        """List the videos from the list of texts.

        A video that cannot be used is a LedgerEntry with reason "bad-entry" (no path, or an unknown split),
        "duplicate-id" (listed twice, or two names with the same letters and digits), "missing-file" or
        "no-instruction".

        Raises:
            RunError: the list is missing or lacks a column.
        """
        rows = self._rows()
        files = FileSizes(self.root)
        entries = [_Entry.parse(self, place, row) for place, row in enumerate(rows)]
        uses = Counter(entry.episode for entry in entries)
        refs, left_out = sort_found(self._judge(entry, uses, files) for entry in entries)
        description = {
            "type": "videos",
            "episodes": count_splits(refs),
            "splits_from": self.split_column or self.splits_from,
        }
        return SourceIndex(self.name, (VIEW,), 0, 0, None, refs, left_out, description)

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one video; raises as `open_video`."""
        return open_video(self.root, ref)

    def _rows(self) -> list[Mapping[str, Any]]:
        path = os.path.join(self.root, self.texts)
        fix = "Set source.texts to a .csv or .json list of videos below source.root."
        wanted = [name for name in (self.video_column, self.text_column, self.split_column) if name is not None]
        columns = "Set source.video_column, source.text_column and source.split_column, or add a header line"
        return read_text_list(path, wanted, fix, columns)

    def _judge(self, entry: _Entry, uses: Mapping[str, int], files: FileSizes) -> EpisodeRef | LedgerEntry:
        def omit(reason: str, detail: str) -> LedgerEntry:
            return LedgerEntry(entry.episode, entry.split or "train", "index", reason, f"{entry.where}: {detail}")

        if not entry.video:
            return omit("bad-entry", f"no path of a video below root under {self.video_column!r}")
        if not entry.split:
            return omit("bad-entry", f"the split must be one of {', '.join(SPLIT_NAMES)}")
        if uses[entry.episode] > 1:
            return omit("duplicate-id", f"{uses[entry.episode]} entries make the id {entry.episode}")
        size = files.size(entry.video)
        if size is None:
            return omit("missing-file", f"{os.path.join(self.root, entry.video)} does not exist")
        if entry.split == "test":
            return EpisodeRef(entry.episode, "test", ((entry.video, size),), None, {})
        if not has_text(entry.text):
            return omit("no-instruction", f"{entry.video} has no text under {self.text_column!r}")
        text = {"instruction": str(entry.text).strip()}
        return EpisodeRef(entry.episode, entry.split, ((entry.video, size),), None, text)


def open_video(root: str, ref: EpisodeRef) -> OpenedEpisode:
    """Open an episode that is one video file with one text.

    Raises:
        EpisodeError: "missing-file", "changed-file", "undecodable" or "blank-camera".
    """
    check_files(root, ref)
    path = os.path.join(root, ref.files[0][0])
    return OpenedEpisode(ref, path, {VIEW: Video(path)}, lambda index: own_text(ref))


@dataclass(frozen=True)
class _Entry:
    """One row of the list. `video` is "" without a usable path, `split` is "" if unknown."""

    where: str
    episode: str
    video: str
    text: object
    split: str

    @classmethod
    def parse(cls, source: VideoFolderSource, place: int, row: Mapping[str, Any]) -> _Entry:
        where = f"entry {place + 1} of {source.texts}"
        path = row.get(source.video_column)
        video = os.path.normpath(path) if isinstance(path, str) and path.strip() and has_text(path) else ""
        if os.path.isabs(video) or video.split(os.sep)[0] == "..":
            video = ""
        short = short_name(os.path.splitext(video)[0]) if video else f"unknown-{place:06d}"
        episode = f"{source.name}-{short}"
        if source.split_column is None:
            split = source.split_of(episode)
        else:
            split = SPLIT_NAMES.get(str(row.get(source.split_column)).strip(), "")
        return cls(where, episode, video, row.get(source.text_column), split)
