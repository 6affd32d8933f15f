"""Reads the index of a sharded checkpoint without executing what is in it.

PyTorch writes `.metadata` with pickle, and would load it so: a checkpoint from a stranger could run any code. Here only
the classes that PyTorch itself puts there are made, every entry must be a tensor, and its file must lie in the folder.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from pipeline.errors import CorruptError
from pipeline.format.text.printable import reason

INDEX = ".metadata"
_ALLOWED = {
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
}


_BUILT = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")


_PythonUnpickler: Any = pickle._Unpickler


class IndexReader(FileSystemReader):
    """PyTorch's reader of a sharded checkpoint, with a restricted index."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Raises CorruptError for an index that holds anything but tensors in files of the folder."""
        found = read_index(Path(self.path))
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found


def read_index(folder: Path) -> Metadata:
    """The index of a folder of shards.

    Raises:
        CorruptError: it cannot be read, or holds anything but tensors in files of the folder.
    """
    path = folder / INDEX
    try:
        with open(path, "rb") as file:
            found = _Restricted(file).load()
        _require_tensors(found)
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise CorruptError(f"{path} is no index of a sharded checkpoint: {reason(error)}") from error
    index: Metadata = found
    return index


class _Restricted(_PythonUnpickler):
    """The unpickler in Python, whose steps can be overridden."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it may not hold {module}.{name}")

    def load_build(self) -> None:
        """Attributes are set on entries of the index alone, never on classes or functions."""
        kind = type(self.stack[-2])
        if kind.__name__ not in _ALLOWED.get(kind.__module__, ()) or kind.__module__ not in _BUILT:
            raise pickle.UnpicklingError(f"it may not change a {kind.__name__}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _require_tensors(index: Any) -> None:
    if not isinstance(index, Metadata) or not isinstance(index.storage_data, dict):
        raise ValueError("it holds no index")
    for name, entry in index.state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            raise ValueError(f"{name} is no tensor")
        if not entry.properties.dtype.is_floating_point:
            raise ValueError(f"{name} is {entry.properties.dtype}; all tensors of a checkpoint are floating point")
    for place in index.storage_data.values():
        if Path(place.relative_path).name != str(place.relative_path) or place.transform_descriptors:
            raise ValueError(f"{place.relative_path} is no file of its folder")
