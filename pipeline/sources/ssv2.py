"""Something-Something-v2: one webm file and one sentence per clip, official splits.

    ROOT/20bn-something-something-v2/ID.webm
    ROOT/labels/{train,validation,test,labels}.json
    ROOT/labels/test-answers.csv

The layout is that of the download (Goyal et al. 2017, arXiv 1706.04261; version 2 has 220,847 clips: 168,913 train,
24,777 validation, 27,157 test). The index lists test clips without labels, so that a plan can prove that it uses none
of them (rule L6). From test-answers.csv only the ids are read, never the answers: a clip with an answer is a test clip,
even if another file lists it under another split.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RunError
from pipeline.format.settings import checked, setting
from pipeline.format.text.printable import printable
from pipeline.sources.base import EpisodeRef, LedgerEntry, ReaderSettings, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.files import folder_sizes
from pipeline.sources.metadata import count_splits, has_text, open_text, read_json, sort_found
from pipeline.sources.naming import clean_name
from pipeline.sources.videos import VIEW, open_video
from pipeline.storage.raw.places import raw_path

VIDEO_FOLDER = "20bn-something-something-v2"
LABEL_FOLDER = "labels"
LABEL_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}
ANSWERS_FILE = "test-answers.csv"


@checked
class SSv2Source(ReaderSettings):
    """Reader of a Something-Something-v2 folder."""

    root: str = setting("folder that holds 20bn-something-something-v2/ and labels/", decides=False)
    name: str = setting("first part of every episode id", default="ssv2")

    def index(self) -> SourceIndex:
        """List all clips from the label files and one scan of the video folder.

        A clip that cannot be used is a LedgerEntry with reason "bad-entry", "duplicate-id", "missing-file",
        "no-instruction", or "test-clip" (listed in train or validation, but with an answer in test-answers.csv).
        `num_frames` is None, because no file is opened.

        Raises:
            RunError: train.json, validation.json or the video folder is missing or unreadable.
        """
        entries = list(self._entries())
        folder = os.path.join(self.root, VIDEO_FOLDER)
        sizes = folder_sizes(folder)
        if not sizes:
            raise RunError(f"{folder} holds no files. Set `root` to the folder that holds {VIDEO_FOLDER}/ and labels/.")
        uses = Counter(entry.clip for entry in entries if entry.clip is not None)
        answered = self._answered()
        refs, left_out = sort_found(self._judge(entry, uses, sizes, answered) for entry in entries)
        description = {
            "type": "ssv2",
            "version": "2",
            "episodes": count_splits(refs),
            "templates": len({data["template"] for data in (ref.data for ref in refs) if "template" in data}),
            "test_answers": len(answered),
            "labels_unlike_template": sum(entry.is_unlike_template for entry in entries),
            "unlisted_files": len(sizes.keys() - {f"{clip}.webm" for clip in uses}),
        }
        return SourceIndex(self.name, (VIEW,), 0, 0, None, refs, left_out, description)

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one clip; raises as `open_video`."""
        return open_video(self.root, ref)

    def _answered(self) -> frozenset[str]:
        """Ids in test-answers.csv, one `id;answer` per line; empty if the file does not exist.

        Raises:
            RunError: a line begins with no id: clips of the test set might be trained on.
        """
        path = os.path.join(self.root, LABEL_FOLDER, ANSWERS_FILE)
        try:
            with open_text(path) as file:
                ids = [line.partition(";")[0].strip().strip('"') for line in re.split(r"[\r\n]+", file.read())]
        except FileNotFoundError:
            return frozenset()
        for clip in filter(None, ids):
            if clean_name(clip) != clip:
                raise RunError(
                    f"{path}: {printable(clip)[:80]!r} is no id; expected a line `id;answer` for each test clip"
                )
        return frozenset(filter(None, ids))

    def _entries(self) -> Iterator[_Entry]:
        for split, file in LABEL_FILES.items():
            path = os.path.join(self.root, LABEL_FOLDER, file)
            if split == "test" and not raw_path(path).exists():
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

        def omit(reason: str, detail: str) -> LedgerEntry:
            return LedgerEntry(episode, entry.split, "index", reason, f"{entry.where}{detail}")

        episode = f"{self.name}-{entry.clip or f'unknown-{clean_name(entry.where)}'}"
        if entry.clip is None:
            return omit("bad-entry", " has no usable id")
        path = f"{VIDEO_FOLDER}/{entry.clip}.webm"
        size = sizes.get(f"{entry.clip}.webm")
        data: dict[str, Any] = {}
        if uses[entry.clip] > 1:
            return omit("duplicate-id", f": id {entry.clip} is listed {uses[entry.clip]} times over all splits")
        if entry.split != "test" and entry.clip in answered:
            return omit("test-clip", f": {ANSWERS_FILE} has an answer for id {entry.clip}, so it is a test clip")
        if size is None:
            return omit("missing-file", f": {os.path.join(self.root, path)} does not exist")
        if entry.split != "test":
            if not has_text(entry.label):
                return omit("no-instruction", f": id {entry.clip} has no text under 'label'")
            data = {"instruction": entry.label, "template": entry.template, "placeholders": list(entry.placeholders)}
        return EpisodeRef(episode, entry.split, ((path, size),), None, data)


@dataclass(frozen=True)
class _Entry:
    """One row of a label file; `clip` is None without a usable id.

    placeholders  texts for the [something]s of the template, in order
    """

    split: str
    where: str
    clip: str | None
    label: object
    template: str
    placeholders: tuple[str, ...] = ()

    @property
    def is_unlike_template(self) -> bool:
        """Whether the label differs from the template with its placeholders filled in, apart from capitals."""
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
        if type(clip) is int:
            clip = str(clip)
        if not isinstance(clip, str) or not clip or clean_name(clip) != clip:
            clip = None
        label, template, placeholders = (row.get(key) for key in ("label", "template", "placeholders"))
        label = label.strip() if isinstance(label, str) else label
        template = template if isinstance(template, str) else ""
        words = tuple(map(str, placeholders)) if isinstance(placeholders, list) else ()
        return cls(split, where, clip, label, template, words)
