"""Checkpoints of a sharded model: every rank writes its shards with PyTorch's distributed checkpoint.

    step-00000100/
      sharded/     __0_0.distcp … one file a rank, .metadata; tensors named model/NAME and optimizer/NAME/STATE
      state.json   as in `model.checkpoint`

They can be read by any number of processes, and by one alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor

from model.checkpoint.sharded_metadata import IndexReader, read_index

SHARDED = "sharded"


def start_sharded(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], group: Any) -> Callable[[], None]:
    """Copy the shards of this rank to the host and begin to write them. Called on all ranks.

    Args:
        folder: of the unfinished checkpoint; it exists.
        tensors: by kind and name.
        group: a process group with a backend for the CPU, used by nothing else.

    Returns:
        Waits until the shards of all ranks are written, on the main rank; until this rank's are, on the others.
    """
    logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)  # it logs every thread
    flat = {f"{kind}/{name}": tensor for kind, content in tensors.items() for name, tensor in content.items()}
    future: Any = dcp.async_save(flat, checkpoint_id=folder / SHARDED, process_group=group)

    def wait() -> None:
        future.result()

    return wait


def sharded_shapes(checkpoint: Path, kind: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a kind, by name. Raises CorruptError for a damaged index."""
    stored = read_index(checkpoint / SHARDED).state_dict_metadata
    return {
        name.removeprefix(f"{kind}/"): tuple(entry.size)  # type: ignore[union-attr]
        for name, entry in stored.items()
        if name.startswith(f"{kind}/")
    }


def fill_sharded(checkpoint: Path, kind: str, wanted: Mapping[str, Tensor]) -> None:
    """Fill tensors in place, each rank its own shards. Raises CorruptError for a damaged index."""
    read_index(checkpoint / SHARDED)  # refused here: PyTorch would wrap the error
    named = {f"{kind}/{name}": tensor for name, tensor in wanted.items()}
    dcp.load(named, storage_reader=IndexReader(checkpoint / SHARDED), no_dist=True)
