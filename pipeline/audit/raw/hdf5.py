"""Objects of an HDF5 file that hold their own bytes. The audit's own code.

A link, a virtual dataset or external storage takes bytes from files that nobody listed; a piece that was never written
is made up of fill values. None of them are raw data of an episode.
"""

from __future__ import annotations

from math import prod

import h5py

from pipeline.audit.raw.base import RawError

_MOST = 1 << 30
"""Bytes of a dataset of numbers, of a picture, of a chunk."""

_ATTRIBUTE = 1 << 20


def group_in(parent: h5py.Group, path: str) -> h5py.Group:
    """A group below another. Raises RawError when it is linked, absent or a dataset."""
    found = _hard(parent, path)
    if isinstance(found, h5py.Group):
        return found
    raise RawError(f"{parent.name}/{path} is no group")


def dataset_in(parent: h5py.Group, path: str, whole: bool = True) -> h5py.Dataset:
    """A dataset below a group, every value of which is stored in the file.

    Args:
        whole: it is read at once, not row by row, and its size is bounded so.

    Raises:
        RawError: it is linked, absent, no dataset, stored elsewhere, written in part, or too large.
    """
    found, where = _hard(parent, path), f"{parent.name}/{path}"
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise RawError(f"{where} is no dataset")
    plan = found.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count() > 0:
        raise RawError(f"{where} has its values in other files")
    if found.size and not _is_written(found):
        raise RawError(f"{where} was never written, or not all of it")
    at_once = found.size if whole or not found.shape else prod(found.shape[1:])
    if max(at_once, prod(found.chunks or ())) * found.dtype.itemsize > _MOST:
        raise RawError(f"{where} of the shape {found.shape} gives more than {_MOST} bytes at once")
    return found


def attribute_of(item: h5py.HLObject, name: str) -> object:
    """An attribute; None where there is none of a bounded size."""
    known = name in item.attrs and item.attrs.get_id(name).get_storage_size() <= _ATTRIBUTE
    return item.attrs[name] if known else None


def _hard(parent: h5py.Group, path: str) -> object:
    found: object = parent
    for step in path.split("/"):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(step, getlink=True), h5py.HardLink):
            raise RawError(f"{parent.name}/{path} is not in the file itself")
        found = found[step]
    return found


def _is_written(dataset: h5py.Dataset) -> bool:
    if not dataset.chunks:
        return bool(dataset.id.get_storage_size())
    needed = prod((size + piece - 1) // piece for size, piece in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() >= needed)
