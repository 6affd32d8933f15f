"""Something-Something-v2: one webm a clip, official splits, one sentence a clip.

    ROOT/20bn-something-something-v2/ID.webm
    ROOT/labels/{train,validation,test,labels}.json

The layout is that of the dataset's download (Goyal et al. 2017, arXiv 1706.04261; version 2 has 220,847 clips: 168,913
train, 24,777 validation, 27,157 test). Test clips stand in the index, without any label, so that a plan can prove that
none of them is used (rule L6).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.decode import Video
from pipeline.errors import EpisodeError, RunError
from pipeline.sources.base import EpisodeRef, Fault, SourceIndex, check_files, clean_name
from pipeline.sources.metadata import folder_sizes, has_text, read_json, require_clean_name, sort_faults

VIDEO_FOLDER = "20bn-something-something-v2"
LABEL_FOLDER = "labels"
VIEW = "video"
LABEL_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}


@dataclass(frozen=True)
class SSv2Source:
    """Reader of a Something-Something-v2 folder.

    root  folder that holds `20bn-something-something-v2` and `labels`
    name  first part of every episode id
    """

    root: str
    name: str = "ssv2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.fspath(self.root))
        require_clean_name(self.name)

    def index(self) -> SourceIndex:
        """List all clips from the label files and one scan of the video folder.

        A clip that cannot be used is a Fault with reason "bad-entry", "duplicate-id", "missing-file" or
        "no-instruction"; `num_frames` stays None, as only opening a clip tells it.

        Raises:
            RunError: train.json, validation.json or the video folder is missing or unreadable.
        """
        entries = list(self._entries())
        sizes = folder_sizes(os.path.join(self.root, VIDEO_FOLDER))
        if not sizes:
            folder = os.path.join(self.root, VIDEO_FOLDER)
            raise RunError(f"{folder} holds no files. Set `root` to the folder that holds {VIDEO_FOLDER}/ and labels/.")
        uses = Counter(entry.clip for entry in entries if entry.clip is not None)
        found = [self._judge(entry, uses, sizes) for entry in entries]
        refs = sorted((ref for ref in found if isinstance(ref, EpisodeRef)), key=lambda ref: (ref.split, ref.id))
        listed = {f"{clip}.webm" for clip in uses}
        return SourceIndex(
            name=self.name,
            views=(VIEW,),
            state_dim=0,
            action_dim=0,
            fps=None,
            refs=tuple(refs),
            faults=sort_faults(fault for fault in found if isinstance(fault, Fault)),
            description={
                "type": "ssv2",
                "version": "2",
                "episodes": dict(sorted(Counter(ref.split for ref in refs).items())),
                "templates": len({ref.data["template"] for ref in refs if "template" in ref.data}),
                "unlisted_files": len(sizes.keys() - listed),
            },
        )

    def open(self, ref: EpisodeRef) -> SSv2Episode:
        """Open one clip.

        Raises:
            EpisodeError: "missing-file", "changed-file" or "undecodable".
        """
        check_files(self.root, ref)
        return SSv2Episode(ref, Video(os.path.join(self.root, ref.files[0][0])))

    def _entries(self) -> Iterator[_Entry]:
        for split, file in LABEL_FILES.items():
            path = os.path.join(self.root, LABEL_FOLDER, file)
            if split == "test" and not os.path.exists(path):
                continue
            fix = f"Set `root` to the folder that holds {VIDEO_FOLDER}/ and labels/{{train,validation}}.json."
            rows = read_json(path, fix)
            if not isinstance(rows, list):
                raise RunError(f"{path} holds a {type(rows).__name__}, expected a list of clips. {fix}")
            for place, row in enumerate(rows):
                yield _Entry.parse(split, f"entry {place} of {file}", row)

    def _judge(self, entry: _Entry, uses: Mapping[str, int], sizes: Mapping[str, int]) -> EpisodeRef | Fault:
        """The clip of an entry, or why it is left out."""
        if entry.clip is None:
            return Fault(
                f"{self.name}-unknown-{clean_name(entry.where)}",
                entry.split,
                "index",
                "bad-entry",
                f"{entry.where} has no usable id",
            )
        episode = f"{self.name}-{entry.clip}"
        path = f"{VIDEO_FOLDER}/{entry.clip}.webm"
        size = sizes.get(f"{entry.clip}.webm")
        data: dict[str, Any] = {}
        if uses[entry.clip] > 1:
            detail = f"{entry.where}: id {entry.clip} is listed {uses[entry.clip]} times over all splits"
            return Fault(episode, entry.split, "index", "duplicate-id", detail)
        if size is None:
            detail = f"{entry.where}: {os.path.join(self.root, path)} does not exist"
            return Fault(episode, entry.split, "index", "missing-file", detail)
        if entry.split != "test":
            if not has_text(entry.label):
                detail = f"{entry.where}: id {entry.clip} has no text under 'label'"
                return Fault(episode, entry.split, "index", "no-instruction", detail)
            data = {"instruction": entry.label, "template": entry.template}
        return EpisodeRef(episode, entry.split, ((path, size),), None, data)


@dataclass(frozen=True)
class _Entry:
    """One row of a label file; `clip` is None when the row names no usable id."""

    split: str
    where: str
    clip: str | None
    label: object
    template: str

    @classmethod
    def parse(cls, split: str, where: str, row: object) -> _Entry:
        if not isinstance(row, dict):
            return cls(split, where, None, None, "")
        clip = row.get("id")
        if isinstance(clip, int):
            clip = str(clip)
        if not isinstance(clip, str) or not clip or clean_name(clip) != clip:
            clip = None
        label = row.get("label")
        template = row.get("template")
        return cls(
            split,
            where,
            clip,
            label.strip() if isinstance(label, str) else label,
            template if isinstance(template, str) else "",
        )


class SSv2Episode:
    """One open clip: a single view, no state, no actions."""

    def __init__(self, ref: EpisodeRef, video: Video) -> None:
        self._ref = ref
        self._video = video

    @property
    def id(self) -> str:
        return self._ref.id

    @property
    def num_frames(self) -> int:
        return self._video.num_frames

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3]. Raises EpisodeError like `Video.frames`."""
        if view != VIEW:
            raise ValueError(f"episode {self.id} has the view {VIEW!r}, {view!r} was asked for")
        return self._video.frames(indices)

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times, seconds, float64 [len(indices)]."""
        return self._video.timestamps(indices)

    def instruction(self, index: int) -> str:
        """The clip's own label, the same at every frame.

        Raises:
            EpisodeError: "no-instruction" for a test clip, which has no label; "out-of-range".
        """
        self._video.timestamps([index])
        text = self._ref.data.get("instruction")
        if not isinstance(text, str):
            raise EpisodeError("no-instruction", f"{self.id} of split {self._ref.split} has no label")
        return text

    def state(self, index: int) -> NDArray[np.float32] | None:
        """None: human video has no robot state."""
        return None

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """None: human video has no actions."""
        return None

    def close(self) -> None:
        self._video.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
