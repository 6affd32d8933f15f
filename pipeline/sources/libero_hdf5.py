"""LIBERO's own HDF5 files: one file a task, one group a demonstration.

    ROOT/**/TASK_demo.hdf5: data/demo_0/{actions, obs/{agentview_rgb, eye_in_hand_rgb, ee_states, gripper_states, …}}
    attributes of data: problem_info (JSON with language_instruction), macros_image_convention

Two things are put right (LIBERO `scripts/create_dataset.py`):

- images are stored as OpenGL draws them, bottom row first, unless `macros_image_convention` is "opencv";
- each observation was taken after the action of the same row had been carried out. What is to be predicted from
  observation n is therefore row n+1 of `actions` (`action_lag` 1), and the last observation has no action.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.files import check_files
from pipeline.sources.metadata import has_text, own_text, sort_found
from pipeline.sources.naming import clean_name, hashed_split, require_clean_name, require_share, short_name
from pipeline.sources.opened import OpenedEpisode
from pipeline.sources.vectors import VectorField, lost_frames, make_vectors, parse_vectors, vector_width
from pipeline.sources.video.frame_readers import StoredImages

HDF5_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
"""What h5py raises on damaged files."""


@dataclass(frozen=True)
class LiberoSource:
    """Reader of a folder of LIBERO demonstrations; every .hdf5 file below it is one task.

    root           folder of the files
    name           first part of every episode id
    fps            control frequency in Hz; files hold no times
    cameras        image datasets under `obs`, in the order wanted
    state, action  datasets of a demonstration that make these vectors, as in "obs/ee_states": see `vectors.VectorField`
    action_lag     rows by which `actions` runs ahead of the observation it was chosen for: 1 in LIBERO's files, 0 where
                   observations were recorded before the step. A file that says so itself (attribute of data) must agree
    val_share      share of the episodes that `hashed_split` sends to "val": there are no official splits
    """

    root: str
    name: str
    fps: float = 20.0
    cameras: tuple[str, ...] = ("agentview_rgb", "eye_in_hand_rgb")
    state: tuple[VectorField, ...] = ("obs/ee_states", "obs/gripper_states")  # type: ignore[assignment]
    action: tuple[VectorField, ...] = ("actions",)  # type: ignore[assignment]
    action_lag: int = 1
    val_share: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.fspath(self.root))
        require_clean_name(self.name)
        require_share(self.val_share)
        if not self.fps > 0:
            raise SettingsError(f"fps must be above 0, got {self.fps}")
        if self.action_lag not in (0, 1):
            raise SettingsError(f"action_lag must be 0 or 1, got {self.action_lag!r}")
        if isinstance(self.cameras, str) or not self.cameras:
            raise SettingsError(f"cameras must be a list of at least one dataset, got {self.cameras!r}")
        object.__setattr__(self, "cameras", tuple(self.cameras))
        for name, fields in parse_vectors(self.state, self.action).items():
            object.__setattr__(self, name, fields)

    def index(self) -> SourceIndex:
        """List the demonstrations of every file from its groups and attributes; no image is read.

        A file that cannot be read is one entry ("undecodable" or "no-instruction"), a demonstration without `actions`
        is another ("bad-entry"), as are two of one number ("duplicate-id").

        Raises:
            RunError: no .hdf5 file below root.
            SettingsError: a dataset that the first readable demonstration does not have, or another action_lag than a
                file says.
        """
        paths = sorted(glob.glob(os.path.join(glob.escape(self.root), "**", "*.hdf5"), recursive=True))
        if not paths:
            raise RunError(f"{self.root} holds no .hdf5 file. Set `root` to the folder of a LIBERO suite.")
        found = _without_repeats(entry for path in paths for entry in self._list(path))
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
                "episodes": dict(sorted(Counter(ref.split for ref in refs).items())),
                "splits_from": f"hash of the id, val_share {self.val_share}",
            },
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Open one demonstration. The file stays open until the episode is closed.

        Raises:
            EpisodeError: "missing-file", "changed-file", "undecodable", "bad-table" (a dataset holds something else),
                "length-mismatch", "not-finite", "blank-camera" or "too-short".
        """
        check_files(self.root, ref)
        path = os.path.join(self.root, ref.files[0][0])
        where = f"{path}, {ref.data['demo']}"
        with ExitStack() as stack:
            with _reading(where):
                file = stack.enter_context(h5py.File(path, "r"))
                demo = file[f"data/{ref.data['demo']}"]
                images = {camera: demo[f"obs/{camera}"] for camera in self.cameras}
            state = make_vectors(self.state, _fields(demo, where, 0), where)
            actions = make_vectors(self.action, _fields(demo, where, self.action_lag), where)
            readers = {}
            for camera, dataset in images.items():
                reader = StoredImages(
                    _image(dataset, ref.data["upside_down"], f"{where}, obs/{camera}"), len(dataset), self.fps, "raw"
                )
                readers[clean_name(camera)] = reader
            lengths = {} if state is None else {"state": len(state)}
            if actions is not None:
                lengths["actions"] = len(actions) + self._lost
            resources = stack.pop_all()
        return OpenedEpisode(
            ref, where, readers, lambda index: own_text(ref), state, actions, lengths, self._lost, resources
        )  # fmt: skip

    def _list(self, path: str) -> Iterator[EpisodeRef | LedgerEntry]:
        """The demonstrations of a file, by rising number."""
        relative = os.path.relpath(path, self.root)
        task = f"{self.name}-{short_name(relative.removesuffix('.hdf5'))}"
        try:
            size = os.path.getsize(path)
            with _reading(path), h5py.File(path, "r") as file:
                data = file["data"]
                self._require_lag(data.attrs, path)
                instruction = _instruction(data.attrs, path)
                upside_down = str(_plain(data.attrs.get("macros_image_convention", "opengl"))) != "opencv"
                for demo in sorted(data, key=_number):
                    episode = f"{task}-{_number(demo):04d}"
                    split = hashed_split(episode, self.val_share)
                    actions = data[demo].get("actions")
                    if _number(demo) < 0 or not isinstance(actions, h5py.Dataset) or not actions.shape:
                        detail = f"{path}: {demo} is no demonstration with actions"
                        yield LedgerEntry(f"{task}-{clean_name(demo)}", split, "index", "bad-entry", detail)
                        continue
                    own = {"demo": demo, "instruction": instruction, "upside_down": upside_down}
                    yield EpisodeRef(episode, split, ((relative, size),), max(0, len(actions) - self._lost), own)
        except EpisodeError as error:
            yield LedgerEntry(task, "train", "index", error.reason, error.detail)

    def _require_lag(self, attributes: Any, path: str) -> None:
        said = attributes.get("action_lag")
        if self.action and said is not None and said != self.action_lag:
            raise SettingsError(
                f"{path} says action_lag={said} of itself, source.action_lag is {self.action_lag}: every action would "
                f"stand beside another image than it was chosen for; set source.action_lag={said}"
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
                with _reading(path), h5py.File(path, "r") as file:
                    file[f"data/{ref.data['demo']}"].visititems(visit)
                return widths
            except EpisodeError:
                continue
        raise RunError(f"{self.root}: no demonstration can be read")


def _without_repeats(entries: Iterable[EpisodeRef | LedgerEntry]) -> list[EpisodeRef | LedgerEntry]:
    """`demo_1` and `demo_01` make one id: both are left out."""
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
        with _reading(f"{where}, {name}"):
            values = np.asarray(demo[name])
        if values.ndim not in (1, 2) or values.dtype.kind not in "fiu":
            raise EpisodeError(
                "bad-table", f"{where}, {name}: {values.dtype} of shape {values.shape}, expected rows of numbers"
            )
        return values.reshape(len(values), -1)[skip:]

    return read


def _image(dataset: h5py.Dataset, upside_down: bool, where: str) -> Callable[[int], NDArray[np.uint8]]:
    if dataset.dtype != np.uint8 or dataset.ndim != 4 or dataset.shape[3] != 3:
        raise EpisodeError("bad-table", f"{where} is {dataset.dtype} {dataset.shape}, expected uint8 [N, H, W, 3]")

    def image(index: int) -> NDArray[np.uint8]:
        with _reading(where):
            stored = np.asarray(dataset[index])
        return np.ascontiguousarray(stored[::-1]) if upside_down else stored

    return image


def _instruction(attributes: Any, path: str) -> str:
    """`language_instruction` of problem_info; some files hold it as a list of words."""
    try:
        found = json.loads(_plain(attributes["problem_info"]))["language_instruction"]
    except (KeyError, ValueError, TypeError) as error:
        raise EpisodeError("no-instruction", f"{path}: data has no problem_info with a language_instruction") from error
    text = "".join(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else found
    text = text.strip().strip('"').strip() if isinstance(text, str) else text
    if not has_text(text):
        raise EpisodeError("no-instruction", f"{path}: language_instruction is {found!r}")
    return str(text)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _number(demo: str) -> int:
    found = re.fullmatch(r"demo_(\d+)", demo)
    return int(found[1]) if found else -1


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Whatever h5py raises on damaged content becomes one EpisodeError that names the place."""
    try:
        yield
    except EpisodeError:
        raise
    except HDF5_ERRORS as error:
        raise EpisodeError("undecodable", f"{where}: {' '.join(str(error).split())[:300]}") from error
