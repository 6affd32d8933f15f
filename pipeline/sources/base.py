"""The interface of a source: an index that is cheap to make, and episodes opened one at a time.

`plan` makes the index once, from metadata alone, and freezes it into the shard tasks. An `EpisodeRef` therefore holds
everything that a worker on another machine needs besides the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from pipeline.format.episode import Episode
from pipeline.format.settings import checked, setting
from pipeline.sources.canonical_json import CANONICAL
from pipeline.sources.naming import clean_name, hashed_split

_ANY = "surrogatepass"
"""A name that is not UTF-8 is refused where an episode is written into a plan."""


class SharedData:
    """Values that all episodes of an index have in their `data`, kept once."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self._layouts: dict[tuple[str, ...], bytes] = {}

    def layout(self, split: str, own: tuple[str, ...]) -> bytes:
        """An episode of a split as JSON: %b in place of its own values (`own`: their names, sorted), files, id, length
        and hashes."""
        key = (split, *own)
        if key not in self._layouts:
            texts = {name: CANONICAL.encode(value).replace("%", "%%") for name, value in self.data.items()}
            texts |= dict.fromkeys(own, "%b")
            named = (f"{CANONICAL.encode(name).replace('%', '%%')}:{texts[name]}" for name in sorted(texts))
            part = CANONICAL.encode(split).replace("%", "%%")
            text = f'{{"data":{{{",".join(named)}}},"files":%b,"id":%b,"num_frames":%b%b,"split":{part}}}'
            self._layouts[key] = text.encode("utf-8", _ANY)
        return self._layouts[key]


NOTHING_SHARED = SharedData({})


class EpisodeRef:
    """One episode as the plan sees it. Kept as JSON: a driver holds a million, and objects take twice the memory.

    Its parts are read from the JSON at each access, all but these:

    id          unique within the source, without dots: it becomes part of keys and file names
    split       "train", "val" or "test"
    num_frames  length by the metadata; None if only the opened file has it
    """

    __slots__ = ("_layout", "_values", "id", "num_frames", "split")

    def __init__(
        self,
        id: str,
        split: str,
        files: tuple[tuple[str, int], ...],
        num_frames: int | None,
        data: Mapping[str, Any] = MappingProxyType({}),
        sha256: tuple[str, ...] = (),
        shared: SharedData = NOTHING_SHARED,
    ) -> None:
        """
        Args:
            files: (path relative to the source's root, size in bytes) of every file the episode is read from.
            data: further JSON values for the reader, such as the instruction.
            sha256: of each file, if the plan hashes files (`hash_raw`).
            shared: what belongs to `data` as well.
        """
        self.id, self.split, self.num_frames = id, split, num_frames
        names = sorted(data)
        self._layout = shared.layout(split, tuple(names))
        texts = [CANONICAL.encode(value) for value in (*map(data.__getitem__, names), files, id, num_frames)]
        self._values = "\n".join((*texts, _hashes(sha256))).encode("utf-8", _ANY)  # JSON writes line ends as \\n

    @property
    def files(self) -> tuple[tuple[str, int], ...]:
        """As given."""
        files = json.loads(self._values.rsplit(b"\n", 4)[-4].decode("utf-8", _ANY))
        return tuple((path, size) for path, size in files)

    @property
    def data(self) -> dict[str, Any]:
        """As given, with what is shared."""
        data: dict[str, Any] = self.content()["data"]
        return data

    @property
    def sha256(self) -> tuple[str, ...]:
        """As given."""
        return tuple(self.content().get("sha256", ()))

    def content(self) -> dict[str, Any]:
        """The episode as an object of tasks.jsonl."""
        content: dict[str, Any] = json.loads(self._text().decode("utf-8", _ANY))
        return content

    def text(self) -> bytes:
        """`content` as canonical JSON. Raises ValueError for what is not UTF-8."""
        text = self._text()
        if not text.isascii():
            text.decode()
        return text

    def hashed(self, sha256: tuple[str, ...]) -> EpisodeRef:
        """With the hashes of its files."""
        made = copy(self)
        made._values = self._values.rpartition(b"\n")[0] + b"\n" + _hashes(sha256).encode()
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpisodeRef) and self._text() == other._text()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"EpisodeRef({self._text().decode(errors='replace')})"

    def _text(self) -> bytes:
        return self._layout % tuple(self._values.split(b"\n"))


def _hashes(sha256: tuple[str, ...]) -> str:
    return f',"sha256":{CANONICAL.encode(sha256)}' if sha256 else ""


@dataclass(frozen=True)
class LedgerEntry:
    """An episode left out, and why. One line of `ledger.jsonl`.

    stage    "index", "inputs" or "targets": the step that found the problem; "filter": left out by `source.leave_out`;
             "drop": removed from a finished build
    windows  samples lost; None if unknown
    """

    episode: str
    split: str
    stage: str
    reason: str
    detail: str
    windows: int | None = None


@dataclass(frozen=True)
class SourceIndex:
    """Everything `plan` learns from metadata. Refs are sorted by (split, id); ids are unique.

    views        camera names in order, without dots
    state_dim    S, 0 for human video;  action_dim  A, 0 for human video
    fps          nominal frames per second; None if it differs by file
    left_out     episodes that cannot be used, by (split, id)
    description  JSON-able facts for build.json (type, version, licence if known, counts)
    notes        what `inspect` says of how the dataset is read
    state_names  of the channels, as the dataset declares them; empty where it does not. action_names likewise
    """

    name: str
    views: tuple[str, ...]
    state_dim: int
    action_dim: int
    fps: float | None
    refs: tuple[EpisodeRef, ...]
    left_out: tuple[LedgerEntry, ...]
    description: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()


class Source(Protocol):
    """A reader of one type of dataset. Cheap to construct and to pickle: it holds settings, never open files."""

    @property
    def root(self) -> str:
        """Folder that the paths of an episode's files are relative to."""
        ...

    @property
    def name(self) -> str:
        """First part of every episode id."""
        ...

    def index(self) -> SourceIndex:
        """Read the metadata.

        Raises:
            RunError: the folder is no dataset of this type, or its metadata cannot be read at all.
        """
        ...

    def open(self, ref: EpisodeRef) -> Episode:
        """Open one episode.

        Raises:
            EpisodeError: a file is missing, changed its size since the plan, or does not fit its metadata.
        """
        ...


@checked
class ReaderSettings:
    """What every reader is given."""

    root: str = setting("folder of the dataset, or its URL: s3:// or gs://", decides=False)
    name: str = setting("first part of every episode id")

    def __post_init__(self) -> None:
        if not self.name or clean_name(self.name) != self.name:
            fix = clean_name(self.name) or "a name"
            raise ValueError(f"name must consist of letters, digits, _ and -, got {self.name!r}; use {fix!r} instead")


@checked
class HashedSplitSettings(ReaderSettings):
    """The settings of a reader of datasets without official splits."""

    val_share: float = setting(
        "share of the episodes that a hash of the id assigns to val, in a dataset without official splits",
        default=0.05,
        at_least=0,
        below=1,
    )
    split_seed: int = setting(
        "of that hash: an episode has one split in all builds of its dataset that share it", default=0, at_least=0
    )

    def split_of(self, episode: str) -> str:
        """Split of an episode by the hash of its id without the source's name."""
        return hashed_split(episode.removeprefix(f"{self.name}-"), self.split_seed, self.val_share)

    @property
    def splits_from(self) -> str:
        """For the description of a dataset."""
        return f"hash of the own id, val_share {self.val_share}, split_seed {self.split_seed}"
