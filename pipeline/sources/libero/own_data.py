"""Groups and datasets of an HDF5 file whose bytes lie in that file.

HDF5 can keep the values of a dataset in other files (links, virtual datasets, external storage) or nowhere (what was
never written reads as a fill value). No plan lists such files, and no hash covers them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.metadata import undecodable

HDF5_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, MemoryError)
"""What h5py raises on damaged files."""

LARGEST_READ = 2**30
"""Bytes that one read may give: a dataset of numbers, a picture, or a chunk that is unpacked whole."""

LARGEST_ATTRIBUTE = 2**20


def own_group(parent: h5py.Group, path: str, where: str) -> h5py.Group:
    """A group below another, each step in this file.

    Raises:
        EpisodeError: "bad-table" when a step is a link to another place, or it is no group.
        KeyError: there is none; see `reading`.
    """
    found = _own(parent, path, where)
    if not isinstance(found, h5py.Group):
        raise EpisodeError("bad-table", f"{where}, {path}: it is a dataset, expected a group")
    return found


def own_dataset(parent: h5py.Group, path: str, where: str) -> h5py.Dataset:
    """A dataset below a group whose values all lie in this file, and of which `LARGEST_READ` bounds a chunk.

    Raises:
        EpisodeError: "bad-table" when they do not, or it is no dataset.
        KeyError: there is none; see `reading`.
    """
    found = _own(parent, path, where)
    problem = _problem(found)
    if problem:
        raise EpisodeError("bad-table", f"{where}, {path} {problem}")
    return found


def own_attribute(attributes: Any, name: str) -> Any:
    """An attribute; None where there is none, or where it is larger than `LARGEST_ATTRIBUTE` bytes."""
    if name not in attributes or attributes.get_id(name).get_storage_size() > LARGEST_ATTRIBUTE:
        return None
    return attributes[name]


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what h5py raises on damaged content into an EpisodeError that names the place.

    Raises:
        RunError: another process has the file locked, which is no damage.
    """
    try:
        yield
    except EpisodeError:
        raise
    except HDF5_ERRORS as error:
        if "unable to lock file" in str(error):
            raise RunError(
                f"{where} is open for writing in another process, or lies where files cannot be locked: let that one "
                "finish; on a file system without locks set HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        cut = re.search(r"eof = (\d+).*stored_eof = (\d+)", str(error))
        found = f"the file was cut: it has {cut[1]} bytes, its header says {cut[2]}" if cut else error
        raise undecodable(where, found) from error


def _own(parent: h5py.Group, path: str, where: str) -> Any:
    found: Any = parent
    for name in path.split("/"):
        if isinstance(found, h5py.Group) and not isinstance(found.get(name, getlink=True), h5py.HardLink | None):
            raise EpisodeError("bad-table", f"{where}, {path}: it is a link to another place; copy its data here")
        found = found[name]
    return found


def _problem(dataset: Any) -> str:
    """Why the values are not all in the file, or cannot be read within the bound; "" if they can."""
    if not isinstance(dataset, h5py.Dataset):
        return "is no dataset"
    if dataset.shape is None:
        return "holds nothing"
    if dataset.is_virtual or dataset.id.get_create_plist().get_external_count():
        return "has its values in other files, which nothing lists or hashes; copy them here (h5repack)"
    if dataset.chunks is None:
        return "was never written" if dataset.size and dataset.id.get_storage_size() == 0 else ""
    if math.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_READ:
        return f"has chunks of the shape {dataset.chunks}, more than {LARGEST_READ:,} bytes each; use smaller ones"
    pieces = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    written = dataset.id.get_num_chunks()
    return f"was written in part: {written} of its {pieces} chunks are there" if written < pieces else ""
