"""LIBERO's HDF5 files: one file per task, one group per demonstration.

    ROOT/**/TASK_demo.hdf5: data/demo_0/{actions, obs/{agentview_rgb, eye_in_hand_rgb, ee_states, gripper_states, …}}
    attributes of data: problem_info (JSON with language_instruction), macros_image_convention

The reader corrects two things (LIBERO `scripts/create_dataset.py`):

- images are stored bottom row first, as OpenGL draws them, unless `macros_image_convention` is "opencv";
- each observation was recorded after the action of its row. The target of observation n is therefore row n+1 of
  `actions` (`action_lag` 1), and the last observation has no action.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.format.json.strict_json import parse_any
from pipeline.format.settings import checked, setting
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import VectorField, VectorSettings, lost_frames, make_vectors, vector_width
from pipeline.sources.field_names import refuse_cameras
from pipeline.sources.files import check_files, find_files
from pipeline.sources.libero.own_data import LARGEST_READ, own_attribute, own_dataset, own_group, reading
from pipeline.sources.metadata import count_splits, has_text, own_text, sort_found
from pipeline.sources.naming import SPLIT_NAMES, clean_name, short_name
from pipeline.sources.video.frame_readers import StoredImages
from pipeline.storage.raw.places import handle, raw_path

MASK = "mask of the files"
"""Where splits come from in files with the masks of robomimic."""

LARGEST_MASK = 2**26
"""Bytes of a list of demonstrations."""


@checked
class LiberoSource(VectorSettings):
    """Reader of a folder of LIBERO demonstrations; every .hdf5 file below it is one task."""

    fps: float = setting("control frequency; the files hold no times", default=20.0, unit="Hz", above=0)
    cameras: tuple[str, ...] = setting(
        "image datasets under obs, in order", default=("agentview_rgb", "eye_in_hand_rgb"), nonempty=True
    )
    state: tuple[VectorField, ...] = setting(
        "datasets of a demonstration that make the state", default=("obs/ee_states", "obs/gripper_states")
    )
    action: tuple[VectorField, ...] = setting("datasets of a demonstration that make the action", default=("actions",))
    action_lag: int = setting(
        "rows between an observation and its action: 1 in LIBERO's files, 0 if observations were recorded before the "
        "step; the attribute of data, if a file has one, must agree",
        default=1,
        at_least=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_cameras(self.cameras, "take it out of source.cameras")

    def index(self) -> SourceIndex:
        """List the demonstrations of every file from its groups and attributes, without reading images.

        Each demonstration of a file without a text is a LedgerEntry ("no-instruction"). So is each demonstration
        without `actions`, each entry that is none ("bad-entry"), and each demonstration whose number occurs twice
        ("duplicate-id").

        Raises:
            RunError: no .hdf5 file below root, or one that cannot be read: how many demonstrations it holds is unknown,
                so they cannot be counted as lost.
            SettingsError: the first readable demonstration lacks a dataset, or a file states another action_lag.
        """
        paths = find_files(self.root, "**/*.hdf5")
        if not paths:
            raise RunError(f"{self.root} holds no .hdf5 file. Set `root` to the folder of a LIBERO suite.")
        files = [self._list(path) for path in paths]
        masked = all(file.has_splits for file in files) and len({s for f in files for s in f.splits.values()}) > 1
        found = _without_repeats(entry for file in files for entry in self._judge(file, masked))
        refs, left_out = sort_found(found)
        widths = self._widths(refs)
        return SourceIndex(
            name=self.name,
            views=tuple(clean_name(camera) for camera in self.cameras),
            state_dim=vector_width(self.state, widths, "state", self.root),
            action_dim=vector_width(self.action, widths, "action", self.root),
            fps=self.fps,
            refs=refs,
            left_out=left_out,
            description={
                "type": "libero",
                "tasks": len(paths),
                "episodes": count_splits(refs),
                "splits_from": MASK if masked else self.splits_from,
            },
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one demonstration. The file stays open until the episode is closed.

        Raises:
            EpisodeError: "missing-file", "changed-file", "undecodable", "bad-table" (wrong type or shape of a dataset),
                "length-mismatch", "not-finite", "blank-camera" or "too-short".
        """
        check_files(self.root, ref)
        path = os.path.join(self.root, ref.files[0][0])
        where = f"{path}, {ref.data['demo']}"
        with ExitStack() as stack:
            with reading(where):
                file = stack.enter_context(h5py.File(handle(path), "r"))
                demo = own_group(file, f"data/{ref.data['demo']}", where)
                images = {camera: own_dataset(demo, f"obs/{camera}", where) for camera in self.cameras}
            state = make_vectors(self.state, _fields(demo, where, 0), where)
            actions = make_vectors(self.action, _fields(demo, where, self.action_lag), where)
            readers = {}
            for camera, dataset in images.items():
                image = _image(dataset, ref.data["upside_down"], f"{where}, obs/{camera}")
                readers[clean_name(camera)] = StoredImages(image, len(dataset), self.fps, "raw")
            lengths = {} if state is None else {"state": len(state)}
            if actions is not None:
                lengths["actions"] = len(actions) + self._lost
            resources = stack.pop_all()
        return OpenedEpisode(
            ref, where, readers, lambda _: own_text(ref), state, actions, lengths, self._lost, resources
        )

    def _list(self, path: str) -> _File:
        """What the groups and attributes of a file say. Raises RunError if it cannot be read."""
        relative = os.path.relpath(path, self.root)
        task = f"{self.name}-{short_name(relative.removesuffix('.hdf5'))}"
        try:
            size = raw_path(path).stat().st_size
            with reading(path), h5py.File(handle(path), "r") as file:
                data = own_group(file, "data", path)
                self._require_lag(data.attrs, path)
                upside_down = _plain(own_attribute(data.attrs, "macros_image_convention")) != "opencv"
                demos = {demo: _rows(data, demo) for demo in sorted(data, key=_number)}
                splits = _masks(file, path)
                instruction, problem = "", ""
                try:
                    instruction = _instruction(data.attrs, path)
                except EpisodeError as error:
                    problem = error.detail
            return _File(path, relative, size, task, instruction, problem, upside_down, demos, splits)
        except (EpisodeError, OSError) as error:
            detail = error.detail if isinstance(error, EpisodeError) else f"{path}: {error.strerror}"
            raise RunError(
                f"{detail}. How many demonstrations are lost with it is unknown: fetch the file again, or move it out "
                f"of {self.root} to go on without it"
            ) from error

    def _judge(self, file: _File, masked: bool) -> Iterator[EpisodeRef | LedgerEntry]:
        """The demonstrations of a file, by number, and why some are left out."""
        for demo, rows in file.demos.items():
            episode = f"{file.task}-{_number(demo):04d}"
            split = file.splits[demo] if masked and demo in file.splits else self.split_of(episode)
            if _number(demo) < 0 or isinstance(rows, str):
                why = rows if isinstance(rows, str) else "its name is not demo_N"
                detail = f"{file.path}: {demo} is not a demonstration with actions: {why}"
                yield LedgerEntry(f"{file.task}-{clean_name(demo)}", split, "index", "bad-entry", detail)
            elif file.problem:
                yield LedgerEntry(episode, split, "index", "no-instruction", file.problem)
            else:
                own = {"demo": demo, "instruction": file.instruction, "upside_down": file.upside_down}
                yield EpisodeRef(episode, split, ((file.relative, file.size),), max(0, rows - self._lost), own)

    def _require_lag(self, attributes: Any, path: str) -> None:
        declared = own_attribute(attributes, "action_lag")
        if self.action and declared is not None and declared != self.action_lag:
            raise SettingsError(
                f"{path} says action_lag={declared} of its data, but source.action_lag is {self.action_lag}: every "
                f"action would be paired with the wrong image; set source.action_lag={declared}"
            )

    @property
    def _lost(self) -> int:
        return (self.action_lag if self.action else 0) + lost_frames(self.action)

    def _widths(self, refs: Sequence[EpisodeRef]) -> dict[str, int]:
        """Channels of every numeric dataset of the first demonstration that can be read."""
        for ref in refs:
            widths: dict[str, int] = {}

            def visit(name: str, item: Any, widths: dict[str, int] = widths) -> None:
                if isinstance(item, h5py.Dataset) and len(item.shape) in (1, 2) and item.dtype.kind in "fiu":
                    widths[name] = item.shape[1] if len(item.shape) == 2 else 1

            path = os.path.join(self.root, ref.files[0][0])
            try:
                with reading(path), h5py.File(handle(path), "r") as file:
                    own_group(file, f"data/{ref.data['demo']}", path).visititems(visit)
                return widths
            except EpisodeError:
                continue
        raise RunError(f"{self.root}: no demonstration can be read")


@dataclass(frozen=True)
class _File:
    """One task.

    problem  why it has no instruction, or ""
    demos    name of every entry of data -> its rows of actions, or why it is no demonstration
    splits   name -> split, by the masks of robomimic
    """

    path: str
    relative: str
    size: int
    task: str
    instruction: str
    problem: str
    upside_down: bool
    demos: Mapping[str, int | str]
    splits: Mapping[str, str]

    @property
    def has_splits(self) -> bool:
        """Whether each demonstration is in one split."""
        return all(demo in self.splits for demo, rows in self.demos.items() if _number(demo) >= 0)


def _rows(data: h5py.Group, demo: str) -> int | str:
    """Rows of the actions of a demonstration, or why there are none. Other files and other entries are not followed."""
    try:
        found = own_group(data, demo, "data")
        actions = own_dataset(found, "actions", demo)
    except KeyError:
        return "it has no actions"
    except EpisodeError as error:
        return error.detail
    if not actions.shape:
        return "its actions are one number"
    declared = own_attribute(found.attrs, "num_samples")  # robomimic's loader believes it
    return (
        f"it has {len(actions)} actions, num_samples is {declared}"
        if declared not in (None, len(actions))
        else len(actions)
    )


def _masks(file: h5py.File, path: str) -> dict[str, str]:
    """Demonstration -> split, by the datasets mask/train, mask/valid and the like; without those of two splits."""
    found: dict[str, set[str]] = {}
    masks = own_group(file, "mask", path) if "mask" in file else {}
    for name in SPLIT_NAMES.keys() & masks.keys():
        dataset = own_dataset(masks, name, f"{path}, mask")
        if dataset.ndim == 1:
            for demo in _bounded(dataset, f"{path}, mask/{name}", LARGEST_MASK)[()].tolist():
                found.setdefault(str(_plain(demo)), set()).add(SPLIT_NAMES[name])
    return {demo: next(iter(splits)) for demo, splits in found.items() if len(splits) == 1}


def _without_repeats(entries: Iterable[EpisodeRef | LedgerEntry]) -> list[EpisodeRef | LedgerEntry]:
    """`demo_1` and `demo_01` have the same id: both are left out."""
    listed = list(entries)
    uses = Counter(entry.id for entry in listed if isinstance(entry, EpisodeRef))
    return [
        LedgerEntry(entry.id, entry.split, "index", "duplicate-id", f"{uses[entry.id]} demonstrations make this id")
        if isinstance(entry, EpisodeRef) and uses[entry.id] > 1
        else entry
        for entry in listed
    ]


def _fields(demo: h5py.Group, where: str, skip: int) -> Callable[[str], NDArray[Any]]:
    """Reader of numeric datasets, [N, W], without the first `skip` rows."""

    def read(name: str) -> NDArray[Any]:
        with reading(f"{where}, {name}"):
            values = np.asarray(_bounded(own_dataset(demo, name, where), f"{where}, {name}", LARGEST_READ))
        if values.ndim not in (1, 2) or values.dtype.kind not in "fiu" or not values.size:
            raise EpisodeError(
                "bad-table", f"{where}, {name}: {values.dtype} of shape {values.shape}, expected rows of numbers"
            )
        return values.reshape(len(values), -1)[skip:]

    return read


def _bounded(dataset: h5py.Dataset, where: str, limit: int) -> h5py.Dataset:
    """The dataset, if it holds no more than so many bytes; else EpisodeError("bad-table")."""
    if dataset.nbytes > limit:
        raise EpisodeError("bad-table", f"{where} has the shape {dataset.shape}, more than {limit:,} bytes")
    return dataset


def _image(dataset: h5py.Dataset, upside_down: bool, where: str) -> Callable[[int], NDArray[np.uint8]]:
    if dataset.dtype != np.uint8 or dataset.ndim != 4 or dataset.shape[3] != 3 or not dataset.size:
        raise EpisodeError("bad-table", f"{where} is {dataset.dtype} {dataset.shape}, expected uint8 [N, H, W, 3]")
    if dataset.nbytes // len(dataset) > LARGEST_READ:
        raise EpisodeError("bad-table", f"{where} is {dataset.shape}, more than {LARGEST_READ:,} bytes a picture")

    def image(index: int) -> NDArray[np.uint8]:
        with reading(where):
            stored = np.asarray(dataset[index])
        return np.ascontiguousarray(stored[::-1]) if upside_down else stored

    return image


def _instruction(attributes: Any, path: str) -> str:
    """`language_instruction` of problem_info; in some files it is a list of words."""
    try:
        found = parse_any(_plain(own_attribute(attributes, "problem_info")))["language_instruction"]
    except (KeyError, ValueError, TypeError) as error:
        found = ", ".join(sorted(attributes)) or "none"
        detail = f"{path}: data has no attribute problem_info with a language_instruction; it has {found}"
        raise EpisodeError("no-instruction", detail) from error
    text = "".join(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else found
    text = text.strip().strip('"').strip() if isinstance(text, str) else text
    if not has_text(text):
        raise EpisodeError("no-instruction", f"{path}: language_instruction is {found!r}")
    return str(text)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _number(demo: str) -> int:
    found = re.fullmatch(r"demo_([0-9]{1,18})", demo)
    return int(found[1]) if found else -1
