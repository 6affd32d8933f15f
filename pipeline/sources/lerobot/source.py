"""LeRobot v2.0, v2.1 and v3.0: a table of numbers, and videos or images in the table. See `layout.py` for the folders.

The index trusts the files on disk more than info.json: published datasets declare cameras without files, and wrong
counts, splits and path templates. The content of an episode is read and compared when it is opened: see `episode.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RunError, SettingsError
from pipeline.format.settings import checked, setting
from pipeline.sources.base import EpisodeRef, LedgerEntry, SharedData, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import VectorField, VectorSettings, channel_names, vector_width
from pipeline.sources.field_names import refuse_cameras
from pipeline.sources.files import check_files
from pipeline.sources.lerobot.episode import open_lerobot_episode
from pipeline.sources.lerobot.footers import Footers
from pipeline.sources.lerobot.info import IMAGE_PREFIX, Files, Info, official_splits
from pipeline.sources.lerobot.layout import Row, lacks_list, list_episodes, tasks_file
from pipeline.sources.lerobot.lost_lists import require_all_listed
from pipeline.sources.lerobot.numbering import is_unnumbered
from pipeline.sources.metadata import count_splits, sort_found
from pipeline.sources.naming import clean_name


@checked
class LeRobotSource(VectorSettings):
    """Reader of a LeRobot folder."""

    root: str = setting("folder that holds meta/, data/ and videos/", decides=False)
    cameras: tuple[str, ...] | None = setting(
        "view names or feature keys, in order; null: every declared colour camera that has files",
        default=None,
        nonempty=True,
    )
    state: tuple[VectorField, ...] = setting(
        "columns that make the state; empty: no state", default=("observation.state",)
    )
    action: tuple[VectorField, ...] = setting("columns that make the action; empty: no actions", default=("action",))
    not_instructions: tuple[str, ...] = setting(
        "task texts without content, such as valid: a frame with one has no instruction (rule L9)", default=()
    )

    def index(self) -> SourceIndex:
        """List all episodes from the metadata and the sizes of their files, without opening a data table or a video.

        An episode that cannot be used is a LedgerEntry with reason "bad-entry", "duplicate-id" or "missing-file".

        Raises:
            RunError: not a dataset of these versions, unreadable metadata, or a list of episodes that lost a file.
            SettingsError: a camera or column that is not declared.
        """
        info = Info.read(self.root)
        files = Files(self.root, info)
        cameras = self._cameras(info)
        if info.version == "v3.0" and info.fps is None:
            raise RunError(f"{info.path} declares no fps, which places in shared videos need; set fps there")
        footers = Footers(files)
        rows = list_episodes(files, footers, _of_kind("video", cameras, info))
        if info.version == "v3.0":
            require_all_listed(footers, rows)
        unnumbered = is_unnumbered(footers, rows)
        absent = self._absent(cameras, rows, files, info)
        cameras = {view: key for view, key in cameras.items() if view not in absent}
        state_dim, action_dim = (
            vector_width(getattr(self, name), info.widths, name, info.path) for name in ("state", "action")
        )
        listing = _Listing(
            uses=Counter(row.number for row in rows if row.number is not None),
            splits=official_splits(info.splits, {row.number for row in rows if row.number is not None}),
            files=files,
            cameras=cameras,
            shared=SharedData(self._columns(cameras, info) | {"by_place": unnumbered}),
        )
        refs, left_out = sort_found(self._judge(place, row, listing) for place, row in enumerate(rows))
        description = self._describe(info, refs, listing, absent)
        notes = _notes(info, unnumbered, lacks_list(files))
        return SourceIndex(
            self.name,
            tuple(cameras),
            state_dim,
            action_dim,
            info.fps,
            refs,
            left_out,
            description,
            notes,
            *self.channel_names(info),
        )

    def channel_names(self, info: Info | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of state and action, as the metadata declares them. info: where it has been read. Raises RunError."""
        info = info or Info.read(self.root)
        state, action = (channel_names(fields, info.widths, info.names) for fields in (self.state, self.action))
        return state, action

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one episode: read its table and compare its length with every camera's.

        Raises:
            EpisodeError: see `open_lerobot_episode`, and "missing-file" or "changed-file".
        """
        check_files(self.root, ref)
        return open_lerobot_episode(self.root, ref, self.state, self.action, self.not_instructions)

    def _columns(self, cameras: Mapping[str, str], info: Info) -> dict[str, Any]:
        """The declarations that the reader of an episode needs."""
        names = dict.fromkeys(
            name for field in (*self.state, *self.action) for name in (field.field, field.base) if name
        )
        columns: dict[str, Any] = {
            "version": info.version,
            "views": list(cameras),
            "sizes": {view: list(info.sizes[key]) for view, key in cameras.items() if key in info.sizes},
            "tasks_file": tasks_file(info.version),
            "widths": {name: info.widths[name] for name in names},
        }
        columns |= {} if info.fps is None else {"fps": info.fps}
        images = _of_kind("image", cameras, info)
        if images:
            if info.fps is None:
                raise RunError(f"{info.path} declares no fps, which images in tables need; set fps there")
            columns |= {"images": images}
        return columns

    def _describe(
        self, info: Info, refs: Sequence[EpisodeRef], listing: _Listing, absent: Sequence[str]
    ) -> dict[str, Any]:
        return {
            "type": "lerobot",
            "version": info.version,
            "robot": info.robot,
            "episodes": count_splits(refs),
            "declared_episodes": info.total_episodes,
            "declared_splits": dict(info.splits),
            "cameras_without_files": list(absent),
            "splits_from": "info.json" if listing.splits else self.splits_from,
        }

    def _judge(self, place: int, row: Row, listing: _Listing) -> EpisodeRef | LedgerEntry:
        """The episode of an entry, or why it is left out."""
        if row.number is None:
            detail = f"{row.where} has no episode_index"
            return LedgerEntry(f"{self.name}-unknown-{place:06d}", "train", "index", "bad-entry", detail)
        episode = f"{self.name}-{row.number:06d}"
        split = (listing.splits or {}).get(row.number) or self.split_of(episode)
        if listing.uses[row.number] > 1:
            detail = f"episode_index {row.number} occurs {listing.uses[row.number]} times in the metadata"
            return LedgerEntry(episode, split, "index", "duplicate-id", detail)
        if row.problem:
            return LedgerEntry(episode, split, "index", "bad-entry", f"{row.where}: {row.problem}")
        videos = {view: video for view, video in row.videos.items() if view in listing.cameras}
        paths = (row.table, *(video.path for video in videos.values()), listing.shared.data["tasks_file"])
        sizes = {path: listing.files.size(path) for path in paths}
        missing = [os.path.join(self.root, path) for path, size in sizes.items() if size is None]
        if missing:
            return LedgerEntry(episode, split, "index", "missing-file", f"not found: {', '.join(missing)}")
        files = tuple((path, size) for path, size in sizes.items() if size is not None)
        segments = {
            view: [v.path] if v.from_s is None else [v.path, v.from_s, v.to_s, v.start, v.total]
            for view, v in videos.items()
        }
        own = {"episode_index": row.number, "table": row.table, "videos": segments, "tasks": list(row.tasks)}
        own |= {} if row.rows is None else {"rows": list(row.rows)}
        return EpisodeRef(episode, split, files, row.length, own, shared=listing.shared)

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
                deep = f" ({', '.join(info.depth)} hold depth, which is no view)" if info.depth else ""
                names = (
                    view if key == IMAGE_PREFIX + view else f"{view} (feature {key})" for view, key in declared.items()
                )
                raise SettingsError(
                    f"source.cameras: {info.path} has no {', '.join(unknown)}; allowed are {', '.join(names)}{deep}"
                )
            views = [by_key.get(camera, camera) for camera in self.cameras]
            wanted = {view: declared[view] for view in views}
        refuse_cameras(wanted.values(), f"set source.cameras to others of {info.path}")
        if not wanted:
            raise RunError(f"{info.path} declares no camera (a feature of dtype video or image)")
        return wanted

    def _absent(self, cameras: Mapping[str, str], rows: Sequence[Row], files: Files, info: Info) -> list[str]:
        """Declared cameras without any file. RunError if `cameras` names one of them, or if none is left."""
        videos = _of_kind("video", cameras, info)
        present = {view for row in rows for view, video in row.videos.items() if files.size(video.path) is not None}
        absent = [view for view in videos if rows and view not in present]
        if absent and (self.cameras is not None or len(absent) == len(cameras)):
            raise RunError(
                f"{info.path} declares the cameras {', '.join(absent)}, but there is no video of them below "
                f"{self.root}; set source.cameras to others, or restore the files"
            )
        return absent


@dataclass(frozen=True)
class _Listing:
    """Facts about the whole dataset, for `_judge`. cameras: view name -> feature key."""

    uses: Mapping[int, int]
    splits: Mapping[int, str] | None
    files: Files
    cameras: Mapping[str, str]
    shared: SharedData


def _notes(info: Info, unnumbered: bool, unlisted: bool) -> tuple[str, ...]:
    """What a user has to know of how the dataset is read."""
    notes = [f"{key} is a depth map and no view" for key in info.depth]
    if unnumbered:
        notes.append("episode_index of the tables is another episode's throughout: rows are found by their place alone")
    if unlisted:
        notes.append("there is no meta/episodes.jsonl: the episodes are those that have a table")
    return tuple(notes)


def _of_kind(kind: str, cameras: Mapping[str, str], info: Info) -> dict[str, str]:
    return {view: key for view, key in cameras.items() if info.cameras[key] == kind}
