"""LeRobot v2.0 and v2.1: one parquet file an episode, one mp4 an episode and camera.

    ROOT/meta/{info.json, tasks.jsonl, episodes.jsonl}
    ROOT/data/chunk-000/episode_000000.parquet
    ROOT/videos/chunk-000/observation.images.CAMERA/episode_000000.mp4

The index trusts the files on disk over what info.json declares: declared cameras without files, counts, splits and path
templates are wrong in published sets. What an episode holds is read, and compared, when it is opened: see
`lerobot_episode.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import RunError, SettingsError
from pipeline.sources.base import EpisodeRef, Fault, SourceIndex, check_files, clean_name, hashed_split
from pipeline.sources.lerobot_episode import TASKS_FILE, LeRobotEpisode
from pipeline.sources.metadata import folder_sizes, read_json, read_json_lines, require_clean_name, sort_faults

INFO_FILE = "meta/info.json"
EPISODES_FILE = "meta/episodes.jsonl"
IMAGE_PREFIX = "observation.images."
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "test": "test"}
ROOT_FIX = "Set `root` to a LeRobot v2.0 or v2.1 dataset folder."


@dataclass(frozen=True)
class LeRobotSource:
    """Reader of a LeRobot v2.x folder.

    root        folder that holds meta/, data/ and videos/
    name        first part of every episode id
    cameras     view names or feature keys, in the order wanted; None: every declared colour camera, as declared
    state_key   parquet column of the robot state; None: no state is read
    action_key  parquet column of the actions; None: no actions are read
    val_share   share of the episodes that `hashed_split` sends to "val" when the set has no usable splits of its own
    """

    root: str
    name: str
    cameras: tuple[str, ...] | None = None
    state_key: str | None = "observation.state"
    action_key: str | None = "action"
    val_share: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.fspath(self.root))
        require_clean_name(self.name)
        if isinstance(self.cameras, str) or (self.cameras is not None and not self.cameras):
            raise SettingsError(f"cameras must be a list of at least one name, or null for all, got {self.cameras!r}")
        if self.cameras is not None:
            object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 0 <= self.val_share < 1:
            raise SettingsError(f"val_share must be at least 0 and below 1, got {self.val_share}")

    def index(self) -> SourceIndex:
        """List all episodes from the metadata and the sizes of their files; no parquet and no video is opened.

        An episode that cannot be used is a Fault with reason "bad-entry", "duplicate-id" or "missing-file".

        Raises:
            RunError: not a v2.x dataset, or metadata that cannot be read.
            SettingsError: a camera or column that the dataset does not declare.
        """
        info = _Info.read(self.root)
        cameras = self._cameras(info)
        rows = read_json_lines(os.path.join(self.root, EPISODES_FILE), ROOT_FIX)
        state_dim, action_dim = info.width(self.state_key, "state_key"), info.width(self.action_key, "action_key")
        listing = _Listing(
            uses=Counter(number for number in map(_episode_number, rows) if number is not None),
            splits=_official_splits(info.splits, len(rows)),
            files=_Files(self.root, info),
            cameras=cameras,
            columns={
                "state_key": self.state_key,
                "action_key": self.action_key,
                "state_dim": state_dim,
                "action_dim": action_dim,
            },
        )
        found = [self._judge(place, row, listing) for place, row in enumerate(rows)]
        refs = sorted((ref for ref in found if isinstance(ref, EpisodeRef)), key=lambda ref: (ref.split, ref.id))
        return SourceIndex(
            name=self.name,
            views=tuple(cameras),
            state_dim=state_dim or 0,
            action_dim=action_dim or 0,
            fps=info.fps,
            refs=tuple(refs),
            faults=sort_faults(fault for fault in found if isinstance(fault, Fault)),
            description=self._describe(info, refs, listing),
        )

    def open(self, ref: EpisodeRef) -> LeRobotEpisode:
        """Open one episode: read its table and compare its length with every camera's.

        Raises:
            EpisodeError: see `LeRobotEpisode`, and "missing-file" or "changed-file".
        """
        check_files(self.root, ref)
        return LeRobotEpisode(self.root, ref)

    def _describe(self, info: _Info, refs: Sequence[EpisodeRef], listing: _Listing) -> dict[str, Any]:
        return {
            "type": "lerobot",
            "version": info.version,
            "robot": info.robot,
            "episodes": dict(sorted(Counter(ref.split for ref in refs).items())),
            "declared_episodes": info.total_episodes,
            "declared_splits": dict(info.splits),
            "splits_from": "info.json" if listing.splits else f"hash of the id, val_share {self.val_share}",
        }

    def _judge(self, place: int, row: Any, listing: _Listing) -> EpisodeRef | Fault:
        """The episode of a line of episodes.jsonl, or why it is left out."""
        number = _episode_number(row)
        if number is None:
            detail = f"line {place + 1} of {EPISODES_FILE} is no JSON object with an episode_index"
            return Fault(f"{self.name}-unknown-{place:06d}", "train", "index", "bad-entry", detail)
        episode = f"{self.name}-{number:06d}"
        split = (listing.splits or {}).get(number) or hashed_split(episode, self.val_share)
        if listing.uses[number] > 1:
            detail = f"episode_index {number} stands {listing.uses[number]} times in {EPISODES_FILE}"
            return Fault(episode, split, "index", "duplicate-id", detail)
        table, videos = listing.files.of_episode(number, listing.cameras)
        sizes = {path: listing.files.size(path) for path in (table, *videos.values(), TASKS_FILE)}
        missing = [os.path.join(self.root, path) for path, size in sizes.items() if size is None]
        if missing:
            return Fault(episode, split, "index", "missing-file", f"not found: {', '.join(missing)}")
        files = tuple((path, size) for path, size in sizes.items() if size is not None)
        own = {"episode_index": number, "table": table, "videos": videos, "tasks": _tasks_of(row)}
        return EpisodeRef(episode, split, files, _length_of(row), {**listing.columns, **own})

    def _cameras(self, info: _Info) -> dict[str, str]:
        """View name -> feature key, in order."""
        declared = {clean_name(key.removeprefix(IMAGE_PREFIX)): key for key in info.cameras}
        if len(declared) < len(info.cameras):
            raise RunError(f"{info.path}: camera names {info.cameras} are not distinct once cleaned for use in keys")
        wanted = declared
        if self.cameras is not None:
            by_key = {key: view for view, key in declared.items()}
            unknown = [camera for camera in self.cameras if camera not in declared and camera not in by_key]
            if unknown:
                raise SettingsError(f"cameras {unknown} are not in {info.path}; allowed are {', '.join(declared)}")
            views = [by_key.get(camera, camera) for camera in self.cameras]
            wanted = {view: declared[view] for view in views}
        if not wanted:
            raise RunError(f"{info.path} declares no camera (a feature of dtype video)")
        images = [key for key in wanted.values() if info.cameras[key] == "image"]
        if images:
            raise RunError(
                f"{info.path}: {', '.join(images)} are stored as images inside parquet, which is not supported yet; "
                "choose cameras of dtype video with `cameras`, or convert the set to videos with lerobot"
            )
        return wanted


@dataclass(frozen=True)
class _Info:
    """What info.json declares. `cameras`: feature key -> "video" or "image", in declared order, depth maps left out."""

    path: str
    version: str
    robot: str | None
    fps: float | None
    chunks_size: int
    data_path: str
    video_path: str
    total_episodes: int | None
    features: Mapping[str, Any]
    splits: Mapping[str, str]
    cameras: Mapping[str, str]

    @classmethod
    def read(cls, root: str) -> _Info:
        path = os.path.join(root, INFO_FILE)
        raw = read_json(path, ROOT_FIX)
        if not isinstance(raw, dict) or not isinstance(raw.get("features"), dict):
            raise RunError(f"{path} declares no features. {ROOT_FIX}")
        version = str(raw.get("codebase_version", "missing"))
        if version.startswith("v3"):
            raise RunError(
                f"{path}: LeRobot {version} is not yet readable; v2.0 and v2.1 are. Use the set's v2.1 branch."
            )
        if version not in ("v2.0", "v2.1"):
            raise RunError(f"{path}: codebase_version is {version}, expected v2.0 or v2.1. {ROOT_FIX}")
        features = raw["features"]
        splits = raw.get("splits")
        return cls(
            path=path,
            version=version,
            robot=raw.get("robot_type"),
            fps=float(raw["fps"]) if raw.get("fps") else None,
            chunks_size=int(raw.get("chunks_size") or 1000),
            data_path=str(raw.get("data_path") or DATA_PATH),
            video_path=str(raw.get("video_path") or VIDEO_PATH),
            total_episodes=raw.get("total_episodes"),
            features=features,
            splits=splits if isinstance(splits, dict) else {},
            cameras={key: value["dtype"] for key, value in features.items() if _is_camera(value)},
        )

    def width(self, key: str | None, setting: str) -> int | None:
        """Channels of a state or action column; None when the setting is null."""
        if key is None:
            return None
        shape = self.features.get(key, {}).get("shape")
        if not isinstance(shape, list) or len(shape) != 1:
            vectors = [name for name, value in self.features.items() if str(value.get("dtype")).startswith("float")]
            raise SettingsError(
                f"{setting}={key!r} is no vector in {self.path}; allowed are {', '.join(vectors)} or null"
            )
        return int(shape[0])


@dataclass
class _Files:
    """Where the files of an episode lie, from one listing of each folder."""

    root: str
    info: _Info
    _folders: dict[str, dict[str, int]] = field(default_factory=dict)

    def size(self, path: str) -> int | None:
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = folder_sizes(os.path.join(self.root, folder))
        return self._folders[folder].get(name)

    def of_episode(self, number: int, cameras: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Path of the table, and of each view's video; the files need not exist."""
        table = self._find(self.info.data_path, DATA_PATH, number, "")
        videos = {view: self._find(self.info.video_path, VIDEO_PATH, number, key) for view, key in cameras.items()}
        return table, videos

    def _find(self, declared: str, standard: str, number: int, key: str) -> str:
        """Path by the declared template, else by LeRobot's standard one if a file lies there."""
        values = {"episode_chunk": number // self.info.chunks_size, "episode_index": number, "video_key": key}
        try:
            path = declared.format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise RunError(f"{self.info.path}: cannot fill in the path template {declared!r}: {error!r}") from error
        fallback = standard.format(**values)
        return fallback if self.size(path) is None and self.size(fallback) is not None else path


@dataclass(frozen=True)
class _Listing:
    """What is known about the whole set while its episodes are judged. cameras: view name -> feature key."""

    uses: Mapping[int, int]
    splits: Mapping[int, str] | None
    files: _Files
    cameras: Mapping[str, str]
    columns: Mapping[str, Any]


def _is_camera(feature: Any) -> bool:
    if not isinstance(feature, dict) or feature.get("dtype") not in ("video", "image"):
        return False
    facts = feature.get("info") or feature.get("video_info") or {}
    return not facts.get("video.is_depth_map", False)


def _episode_number(row: object) -> int | None:
    number = row.get("episode_index") if isinstance(row, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def _length_of(row: Mapping[str, Any]) -> int | None:
    length = row.get("length")
    return length if isinstance(length, int) else None


def _tasks_of(row: Mapping[str, Any]) -> list[str]:
    tasks = row.get("tasks")
    return [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []


def _official_splits(declared: Mapping[str, str], episodes: int) -> dict[int, str] | None:
    """Episode number -> split from ranges such as {"train": "0:80", "val": "80:100"}.

    Used only when they hold out something and are consistent: known names, no overlap, every episode in one range, none
    past the end. Published sets declare "0:100" for five episodes.
    """
    found: dict[int, str] = {}
    for name, text in declared.items():
        split = SPLIT_NAMES.get(name)
        first, _, last = str(text).partition(":")
        if split is None or not (first.isdecimal() and last.isdecimal()) or int(last) > episodes:
            return None
        numbers = range(int(first), int(last))
        if any(number in found for number in numbers):
            return None
        found.update(dict.fromkeys(numbers, split))
    if len(found) != episodes or set(found.values()) <= {"train"}:
        return None
    return found
