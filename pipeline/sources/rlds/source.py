"""RLDS: a TensorFlow dataset whose records are whole episodes, in sharded TFRecord files.

    ROOT/{dataset_info.json, features.json}
    ROOT/NAME-SPLIT.tfrecord-00000-of-00064

The index comes from dataset_info.json, which lists the number of records of each file. No record is read. An episode is
one record. Opening it seeks to that record, so workers read in parallel (see `record.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.format.settings import checked, setting
from pipeline.format.text.patterns import simple_patterns
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import VectorField, VectorSettings, lost_frames, make_vectors, vector_width
from pipeline.sources.field_names import refuse_cameras
from pipeline.sources.files import FileSizes, check_files, find_files
from pipeline.sources.metadata import count_splits, sort_found
from pipeline.sources.naming import SPLIT_NAMES, clean_name
from pipeline.sources.rlds.record import INFO_FILE, Record, list_fields, load_info, record_files, select_fields
from pipeline.sources.video.frame_readers import StoredImages
from pipeline.storage.raw.places import raw_path


@checked
class RldsSource(VectorSettings):
    """Reader of a prepared TFDS folder in the RLDS layout."""

    root: str = setting(
        "folder with dataset_info.json, or a folder that holds a single version of the dataset", decides=False
    )
    fps: float = setting("control frequency; records hold no times", unit="Hz", above=0)
    cameras: tuple[str, ...] = setting("image fields under observation, in order", nonempty=True)
    instruction: tuple[str, ...] = setting(
        "text fields of a step, or of episode_metadata/; the first with text at the frame is used",
        default=("language_instruction",),
        nonempty=True,
    )
    state: tuple[VectorField, ...] = setting("fields of a step that make the state", default=("observation/state",))
    action: tuple[VectorField, ...] = setting("fields of a step that make the action", default=("action",))
    wanted: Mapping[str, str] = setting(
        "text field -> simple regular expression that its text at the first step must match; other episodes are left "
        "out with the reason not-wanted, which does not count as bad",
        default_factory=dict,
    )
    skip_first: int = setting(
        "steps skipped at the beginning of every episode, before the first commanded action", default=0, at_least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_cameras(self.cameras, "take it out of source.cameras")
        try:
            simple_patterns(self.wanted)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"wanted must be an object of fields and regular expressions: {error}") from error

    def index(self) -> SourceIndex:
        """List all episodes from dataset_info.json and the sizes of the files; `num_frames` is None.

        An episode without its file is a LedgerEntry with reason "missing-file".

        Raises:
            RunError: not a prepared TFDS folder, or another file format.
            SettingsError: a field that is not in the dataset.
        """
        folder = version_folder(self.root)
        info = load_info(folder)
        fields = list_fields(info.features)
        self._check_fields(folder, fields.images, fields.texts)
        select_fields(info.features, self._read_fields)
        unknown = [name for name in info.splits if name not in SPLIT_NAMES]
        if unknown:
            raise RunError(f"{folder} has the splits {', '.join(unknown)}; known are {', '.join(SPLIT_NAMES)}")
        held_out = len({SPLIT_NAMES[name] for name in info.splits}) > 1
        refs, left_out = sort_found(self._list(folder, info, held_out))
        return SourceIndex(
            name=self.name,
            views=tuple(clean_name(camera) for camera in self.cameras),
            state_dim=vector_width(self.state, fields.widths, "state", f"{folder}/features.json"),
            action_dim=vector_width(self.action, fields.widths, "action", f"{folder}/features.json"),
            fps=self.fps,
            refs=refs,
            left_out=left_out,
            description={
                "type": "rlds",
                "dataset": info.name,
                "version": str(info.version),
                "episodes": count_splits(refs),
                "splits_from": "dataset_info.json" if held_out else self.splits_from,
            },
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one episode: read and parse its record.

        Raises:
            EpisodeError: "missing-file", "changed-file", "undecodable", "bad-record" (does not match features.json),
                "not-wanted", "not-finite", "blank-camera" or "too-short".
            RunError: its file holds more records than dataset_info.json lists.
        """
        check_files(self.root, ref)
        path = os.path.join(self.root, ref.files[0][0])
        record = Record(path, ref.data["record"], self._read_fields, self.instruction, self.skip_first)
        for name, pattern in self.wanted.items():
            found = record.text_of(name, 0)
            if not re.search(pattern, found or ""):
                raise EpisodeError("not-wanted", f"{record.where}: {name} is {found!r:.200}, {pattern!r} is wanted")
        readers = {
            clean_name(camera): StoredImages(record.images(camera), record.num_frames, self.fps, "jpeg or png")
            for camera in self.cameras
        }
        state = make_vectors(self.state, record.field, record.where)
        actions = make_vectors(self.action, record.field, record.where)
        return OpenedEpisode(ref, record.where, readers, record.text, state, actions, lost=lost_frames(self.action))

    @property
    def _read_fields(self) -> frozenset[str]:
        """What is parsed of a record; other fields may be damaged."""
        vectors = {name for part in (*self.state, *self.action) for name in (part.field, part.base) if name is not None}
        cameras = {f"observation/{camera}" for camera in self.cameras}
        return frozenset(cameras | vectors | set(self.instruction) | self.wanted.keys())

    def _list(self, folder: str, info: Any, held_out: bool) -> Iterator[EpisodeRef | LedgerEntry]:
        sizes = FileSizes(folder)
        prefix = os.path.relpath(folder, self.root)
        for name, files in record_files(folder, info).items():
            number = 0
            for file, count in files:
                size = sizes.size(file)
                for record in range(count):
                    episode = f"{self.name}-{clean_name(name)}-{number:06d}"
                    number += 1
                    split = SPLIT_NAMES[name] if held_out else self.split_of(episode)
                    if size is None:
                        detail = f"{os.path.join(folder, file)} does not exist"
                        yield LedgerEntry(episode, split, "index", "missing-file", detail)
                    else:
                        path = os.path.normpath(os.path.join(prefix, file))
                        yield EpisodeRef(episode, split, ((path, size),), None, {"record": record})

    def _check_fields(self, folder: str, images: Sequence[str], texts: Sequence[str]) -> None:
        cameras = [name.removeprefix("observation/") for name in images]
        for kind, allowed in (("cameras", cameras), ("instruction", texts), ("wanted", texts)):
            unknown = [name for name in getattr(self, kind) if name not in allowed]
            if unknown:
                raise SettingsError(
                    f"{kind}: {', '.join(unknown)} is not in {folder}/features.json; allowed are "
                    f"{', '.join(sorted(allowed))}"
                )


def version_folder(root: str) -> str:
    """`root` itself, or the only version below it.

    Raises:
        RunError: no dataset_info.json, or several versions to choose from.
    """
    place = raw_path(root)
    if (place / INFO_FILE).is_file():
        return root
    if not place.is_dir():
        raise RunError(f"{root}: no such folder. Set `root` to a folder with {INFO_FILE}.")
    versions = [os.path.basename(os.path.dirname(path)) for path in find_files(root, f"*/{INFO_FILE}")]
    if len(versions) != 1:
        found = f"several versions: {', '.join(versions)}" if versions else f"no {INFO_FILE}"
        raise RunError(f"{root} holds {found}. Set `root` to the folder of one version, as in NAME/1.0.0.")
    return os.path.join(root, versions[0])
