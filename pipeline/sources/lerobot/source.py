"""LeRobot v2.0, v2.1 and v3.0: a table of numbers and videos (or images in the table), in the folders that
`lerobot_layout.py` shows.

The index trusts the files on disk over what info.json declares: declared cameras without files, counts, splits and path
templates are wrong in published sets. What an episode holds is read, and compared, when it is opened: see
`lerobot_episode.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RunError, SettingsError
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.files import check_files
from pipeline.sources.lerobot.episode import open_lerobot_episode
from pipeline.sources.lerobot.info import IMAGE_PREFIX, Files, Info, official_splits
from pipeline.sources.lerobot.layout import Row, list_episodes, tasks_file
from pipeline.sources.metadata import sort_found
from pipeline.sources.naming import clean_name, hashed_split, require_clean_name, require_share
from pipeline.sources.opened import OpenedEpisode
from pipeline.sources.vectors import VectorField, parse_vectors, vector_width


@dataclass(frozen=True)
class LeRobotSource:
    """Reader of a LeRobot folder.

    root              folder that holds meta/, data/ and videos/
    name              first part of every episode id
    cameras           view names or feature keys, in the order wanted; None: every declared colour camera that has files
    state, action     columns that make these vectors: see `vectors.VectorField`; empty: none is read
    not_instructions  task texts that say nothing ("valid"): a frame with one has no instruction (rule L9)
    val_share         share of the episodes that `hashed_split` sends to "val" when the set has no usable splits
    """

    root: str
    name: str
    cameras: tuple[str, ...] | None = None
    state: tuple[VectorField, ...] = ("observation.state",)  # type: ignore[assignment]
    action: tuple[VectorField, ...] = ("action",)  # type: ignore[assignment]
    not_instructions: tuple[str, ...] = ()
    val_share: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.fspath(self.root))
        require_clean_name(self.name)
        require_share(self.val_share)
        if isinstance(self.cameras, str) or (self.cameras is not None and not self.cameras):
            raise SettingsError(f"cameras must be a list of at least one name, or null for all, got {self.cameras!r}")
        for name in ("cameras", "not_instructions"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, fields in parse_vectors(self.state, self.action).items():
            object.__setattr__(self, name, fields)

    def index(self) -> SourceIndex:
        """List all episodes from the metadata and the sizes of their files; no data table and no video is opened.

        An episode that cannot be used is a LedgerEntry with reason "bad-entry", "duplicate-id" or "missing-file".

        Raises:
            RunError: not a dataset of these versions, or metadata that cannot be read.
            SettingsError: a camera or column that the dataset does not declare.
        """
        info = Info.read(self.root)
        files = Files(self.root, info)
        cameras = self._cameras(info)
        rows = list_episodes(files, _of_kind("video", cameras, info))
        absent = self._absent(cameras, rows, files, info)
        cameras = {view: key for view, key in cameras.items() if view not in absent}
        widths = {"state": vector_width(self.state, info.widths, "state", info.path),
                  "action": vector_width(self.action, info.widths, "action", info.path)}  # fmt: skip
        listing = _Listing(
            uses=Counter(row.number for row in rows if row.number is not None),
            splits=official_splits(info.splits, len(rows)),
            files=files,
            cameras=cameras,
            columns=self._columns(cameras, info),
        )
        found = [self._judge(place, row, listing) for place, row in enumerate(rows)]
        refs, left_out = sort_found(found)
        return SourceIndex(
            name=self.name,
            views=tuple(cameras),
            state_dim=widths["state"],
            action_dim=widths["action"],
            fps=info.fps,
            refs=refs,
            left_out=left_out,
            description=self._describe(info, refs, listing, absent),
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one episode: read its table and compare its length with every camera's.

        Raises:
            EpisodeError: see `open_lerobot_episode`, and "missing-file" or "changed-file".
        """
        check_files(self.root, ref)
        return open_lerobot_episode(self.root, ref, self.state, self.action, self.not_instructions)

    def _columns(self, cameras: Mapping[str, str], info: Info) -> dict[str, Any]:
        """What every episode's reader needs of info.json."""
        fields = dict.fromkeys(
            name for field in (*self.state, *self.action) for name in (field.field, field.base) if name
        )
        columns: dict[str, Any] = {
            "version": info.version,
            "views": list(cameras),
            "tasks_file": tasks_file(info.version),
            "widths": {name: info.widths[name] for name in names},
        }
        images = _of_kind("image", cameras, info)
        if images:
            if info.fps is None:
                raise RunError(f"{info.path} declares no fps, which images in tables need; set fps there")
            columns |= {"images": images, "fps": info.fps}
        return columns

    def _describe(
        self, info: Info, refs: Sequence[EpisodeRef], listing: _Listing, absent: Sequence[str]
    ) -> dict[str, Any]:
        return {
            "type": "lerobot",
            "version": info.version,
            "robot": info.robot,
            "episodes": dict(sorted(Counter(ref.split for ref in refs).items())),
            "declared_episodes": info.total_episodes,
            "declared_splits": dict(info.splits),
            "cameras_without_files": list(absent),
            "splits_from": "info.json" if listing.splits else f"hash of the id, val_share {self.val_share}",
        }

    def _judge(self, place: int, row: Row, listing: _Listing) -> EpisodeRef | LedgerEntry:
        """The episode of an entry, or why it is left out."""
        if row.number is None:
            detail = f"{row.where} is no entry with an episode_index"
            return LedgerEntry(f"{self.name}-unknown-{place:06d}", "train", "index", "bad-entry", detail)
        episode = f"{self.name}-{row.number:06d}"
        split = (listing.splits or {}).get(row.number) or hashed_split(episode, self.val_share)
        if listing.uses[row.number] > 1:
            detail = f"episode_index {row.number} stands {listing.uses[row.number]} times in the metadata"
            return LedgerEntry(episode, split, "index", "duplicate-id", detail)
        if row.problem:
            return LedgerEntry(episode, split, "index", "bad-entry", f"{row.where}: {row.problem}")
        videos = {view: video for view, video in row.videos.items() if view in listing.cameras}
        paths = (row.table, *(video.path for video in videos.values()), listing.columns["tasks_file"])
        sizes = {path: listing.files.size(path) for path in paths}
        missing = [os.path.join(self.root, path) for path, size in sizes.items() if size is None]
        if missing:
            return LedgerEntry(episode, split, "index", "missing-file", f"not found: {', '.join(missing)}")
        files = tuple((path, size) for path, size in sizes.items() if size is not None)
        segments = {
            view: [v.path] if v.from_s is None else [v.path, v.from_s, v.start, v.total] for view, v in videos.items()
        }
        own = {"episode_index": row.number, "table": row.table, "videos": segments, "tasks": list(row.tasks)}
        own |= {} if row.rows is None else {"rows": list(row.rows)}
        return EpisodeRef(episode, split, files, row.length, {**listing.columns, **own})

    def _cameras(self, info: Info) -> dict[str, str]:
        """View name -> feature key, in order."""
        declared = {clean_name(key.removeprefix(IMAGE_PREFIX)): key for key in info.cameras}
        if len(declared) < len(info.cameras):
            raise RunError(f"{info.path}: camera names {info.cameras} are not distinct once cleaned for use in keys")
        wanted = declared
        if self.cameras is not None:
            by_key = {key: view for view, key in declared.items()}
            unknown = [camera for camera in self.cameras if camera not in declared and camera not in by_key]
            if unknown:
                raise SettingsError(
                    f"source.cameras: {', '.join(unknown)} not in {info.path}; allowed are {', '.join(declared)}"
                )
            views = [by_key.get(camera, camera) for camera in self.cameras]
            wanted = {view: declared[view] for view in views}
        if not wanted:
            raise RunError(f"{info.path} declares no camera (a feature of dtype video or image)")
        return wanted

    def _absent(self, cameras: Mapping[str, str], rows: Sequence[Row], files: Files, info: Info) -> list[str]:
        """Declared cameras of which no episode has a file. Those that were asked for by name must have some."""
        videos = _of_kind("video", cameras, info)
        absent = [
            view for view in videos
            if rows and not any(view in row.videos and files.size(row.videos[view].path) is not None for row in rows)
        ]  # fmt: skip
        if absent and (self.cameras is not None or len(absent) == len(cameras)):
            raise RunError(
                f"{info.path} declares the cameras {', '.join(absent)}, but there is no video of them below "
                f"{self.root}; choose others with cameras, or restore the files"
            )
        return absent


@dataclass(frozen=True)
class _Listing:
    """What is known about the whole set while its episodes are judged. cameras: view name -> feature key."""

    uses: Mapping[int, int]
    splits: Mapping[int, str] | None
    files: Files
    cameras: Mapping[str, str]
    columns: Mapping[str, Any]


def _of_kind(kind: str, cameras: Mapping[str, str], info: Info) -> dict[str, str]:
    return {view: key for view, key in cameras.items() if info.cameras[key] == kind}
