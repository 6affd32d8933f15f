"""The index of a sharded checkpoint runs nothing and names no file outside of its folder."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from model.checkpoint.sharded_checkpoint import SHARDED, fill_sharded, sharded_shapes
from model.checkpoint.sharded_metadata import INDEX, read_index
from pipeline.errors import CorruptError

TENSORS = {"model/a": torch.arange(12.0).reshape(3, 4), "optimizer/a/exp_avg": torch.ones(3, dtype=torch.bfloat16)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    dcp.save(TENSORS, checkpoint_id=tmp_path / SHARDED, no_dist=True)
    return tmp_path


def test_what_pytorch_wrote_is_read(checkpoint: Path) -> None:
    assert sharded_shapes(checkpoint, "model") == {"a": (3, 4)}
    found = torch.zeros(3, 4)
    fill_sharded(checkpoint, "model", {"a": found})
    assert torch.equal(found, TENSORS["model/a"])


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_code_in_the_index_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (checkpoint / SHARDED / INDEX).write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(CorruptError, match=r"\.metadata is no index of a sharded checkpoint: .*it may not hold"):
        sharded_shapes(checkpoint, "model")
    with pytest.raises(CorruptError, match="it may not hold"):
        fill_sharded(checkpoint, "model", {"a": torch.zeros(3, 4)})
    assert not mark.exists()


def outside(index: Any) -> None:
    for place in index.storage_data.values():
        place.relative_path = f"../{place.relative_path}"


def absolute(index: Any) -> None:
    for place in index.storage_data.values():
        place.relative_path = "/etc/passwd"


def complex_numbers(index: Any) -> None:
    index.state_dict_metadata["model/a"].properties.dtype = torch.complex64


def objects(index: Any) -> None:
    index.state_dict_metadata["model/a"] = BytesStorageMetadata()


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (outside, "is no file of its folder"),
        (absolute, "is no file of its folder"),
        (objects, "BytesStorageMetadata"),
        (complex_numbers, "model/a is torch.complex64"),
    ],
)
def test_an_index_of_anything_else_is_refused(checkpoint: Path, change: Callable[[Any], None], fragment: str) -> None:
    index = read_index(checkpoint / SHARDED)
    change(index)
    (checkpoint / SHARDED / INDEX).write_bytes(pickle.dumps(index))
    with pytest.raises(CorruptError, match=fragment):
        fill_sharded(checkpoint, "model", {"a": torch.zeros(3, 4)})


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps({"a": 1})[:-3]])
def test_a_damaged_index_is_named(checkpoint: Path, content: bytes) -> None:
    (checkpoint / SHARDED / INDEX).write_bytes(content)
    with pytest.raises(CorruptError, match=r"\.metadata is no index of a sharded checkpoint"):
        sharded_shapes(checkpoint, "model")


def test_an_index_changes_no_class(checkpoint: Path) -> None:
    before = Path.is_file
    attack = b"\x80\x02cpathlib\nPosixPath\nN}X\x07\x00\x00\x00is_filectorch\nSize\ns\x86b."
    (checkpoint / SHARDED / INDEX).write_bytes(attack)
    with pytest.raises(CorruptError, match="it may not change a type"):
        read_index(checkpoint / SHARDED)
    assert Path.is_file is before
    assert isinstance(Path(checkpoint).is_file(), bool)
