"""Something-Something-v2: one webm a clip, official splits, one sentence a clip.

    ROOT/20bn-something-something-v2/ID.webm
    ROOT/labels/{train,validation,test,labels}.json
    ROOT/labels/test-answers.csv

The layout is that of the dataset's download (Goyal et al. 2017, arXiv 1706.04261; version 2 has 220,847 clips: 168,913
train, 24,777 validation, 27,157 test). Test clips stand in the index, without any label, so that a plan can prove that
none of them is used (rule L6). Of test-answers.csv the ids are read, never the answers: a clip with an answer is a test
clip, whatever the other files say.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RunError
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.files import check_files, folder_sizes
from pipeline.sources.metadata import has_text, own_text, read_json, sort_found
from pipeline.sources.naming import clean_name, require_clean_name
from pipeline.sources.opened import OpenedEpisode
from pipeline.sources.video.decode import Video

VIDEO_FOLDER = "20bn-something-something-v2"
LABEL_FOLDER = "labels"
VIEW = "video"
LABEL_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}
ANSWERS_FILE = "test-answers.csv"


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

        A clip that cannot be used is a LedgerEntry with reason "bad-entry", "duplicate-id", "missing-file",
        "no-instruction", or "test-clip" (it has an answer in test-answers.csv but stands in train or validation);
        `num_frames` stays None, as only opening a clip tells it.

        Raises:
            RunError: train.json, validation.json or the video folder is missing or unreadable.
        """
        entries = list(self._entries())
        sizes = folder_sizes(os.path.join(self.root, VIDEO_FOLDER))
        if not sizes:
            folder = os.path.join(self.root, VIDEO_FOLDER)
            raise RunError(f"{folder} holds no files. Set `root` to the folder that holds {VIDEO_FOLDER}/ and labels/.")
        uses = Counter(entry.clip for entry in entries if entry.clip is not None)
        answered = self._answered()
        found = [self._judge(entry, uses, sizes, answered) for entry in entries]
        refs, left_out = sort_found(found)
        listed = {f"{clip}.webm" for clip in uses}
        return SourceIndex(
            name=self.name,
            views=(VIEW,),
            state_dim=0,
            action_dim=0,
            fps=None,
            refs=refs,
            left_out=left_out,
            description={
                "type": "ssv2",
                "version": "2",
                "episodes": dict(sorted(Counter(ref.split for ref in refs).items())),
                "templates": len({ref.data["template"] for ref in refs if "template" in ref.data}),
                "test_answers": len(answered),
                "labels_unlike_template": sum(entry.is_unlike_template for entry in entries),
                "unlisted_files": len(sizes.keys() - listed),
            },
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one clip.

        Raises:
            EpisodeError: "missing-file", "changed-file", "undecodable" or "blank-camera".
        """
        check_files(self.root, ref)
        path = os.path.join(self.root, ref.files[0][0])
        return OpenedEpisode(ref, path, {VIEW: Video(path)}, lambda index: own_text(ref))

    def _answered(self) -> frozenset[str]:
        """Ids in test-answers.csv, one `id;answer` a line; none when the file is not there."""
        path = os.path.join(self.root, LABEL_FOLDER, ANSWERS_FILE)
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                ids = [line.partition(";")[0].strip() for line in file]
        except FileNotFoundError:
            return frozenset()
        return frozenset(filter(None, ids))

    def _entries(self) -> Iterator[_Entry]:
        for split, file in LABEL_FILES.items():
            path = os.path.join(self.root, LABEL_FOLDER, file)
            if split == "test" and not os.path.exists(path):
                continue
            fix = f"Set `root` to the folder that holds {VIDEO_FOLDER}/ and labels/{{train,validation}}.json."
            rows = read_json(path, fix, lenient=True)
            if not isinstance(rows, list):
                raise RunError(f"{path} holds a {type(rows).__name__}, expected a list of clips. {fix}")
            for place, row in enumerate(rows):
                yield _Entry.parse(split, f"entry {place} of {file}", row)

    def _judge(
        self, entry: _Entry, uses: Mapping[str, int], sizes: Mapping[str, int], answered: Collection[str]
    ) -> EpisodeRef | LedgerEntry:
        """The clip of an entry, or why it is left out."""
        if entry.clip is None:
            return LedgerEntry(
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
            return LedgerEntry(episode, entry.split, "index", "duplicate-id", detail)
        if entry.split != "test" and entry.clip in answered:
            detail = f"{entry.where}: {ANSWERS_FILE} has an answer for id {entry.clip}, so it is a test clip"
            return LedgerEntry(episode, entry.split, "index", "test-clip", detail)
        if size is None:
            detail = f"{entry.where}: {os.path.join(self.root, path)} does not exist"
            return LedgerEntry(episode, entry.split, "index", "missing-file", detail)
        if entry.split != "test":
            if not has_text(entry.label):
                detail = f"{entry.where}: id {entry.clip} has no text under 'label'"
                return LedgerEntry(episode, entry.split, "index", "no-instruction", detail)
            data = {"instruction": entry.label, "template": entry.template, "placeholders": list(entry.placeholders)}
        return EpisodeRef(episode, entry.split, ((path, size),), None, data)


@dataclass(frozen=True)
class _Entry:
    """One row of a label file; `clip` is None when the row names no usable id.

    placeholders  what stands for each [something] of the template, in order
    """

    split: str
    where: str
    clip: str | None
    label: object
    template: str
    placeholders: tuple[str, ...] = ()

    @property
    def is_unlike_template(self) -> bool:
        """Whether the label is not what the template says with its placeholders filled in, capitals aside."""
        if not self.template or not isinstance(self.label, str):
            return False
        parts = re.split(r"\[[^\]]*\]", self.template)
        if len(parts) != len(self.placeholders) + 1:
            return True
        filled = parts[0] + "".join(p + rest for p, rest in zip(self.placeholders, parts[1:], strict=True))
        return filled.casefold().split() != self.label.casefold().split()

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
        template, placeholders = row.get("template"), row.get("placeholders")
        return cls(
            split,
            where,
            clip,
            label.strip() if isinstance(label, str) else label,
            template if isinstance(template, str) else "",
            tuple(map(str, placeholders)) if isinstance(placeholders, list) else (),
        )
