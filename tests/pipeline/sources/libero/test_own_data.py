"""HDF5 data that lie in other files, were never written, or are larger than a file can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.audit.raw.base import RawError
from pipeline.errors import EpisodeError, RunError
from pipeline.sources.libero.source import LiberoSource
from tests.pipeline.sources.both_readers import raw_of, read_by_both
from tests.pipeline.sources.libero.test_libero import TASK, write_task

ROWS = 6
CAMERA, STATE = "obs/agentview_rgb", "obs/ee_states"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_task(tmp_path / f"raw/{TASK}.hdf5", {"demo_0": ROWS, "demo_1": ROWS})
    write_task(tmp_path / "elsewhere.hdf5", {"demo_0": ROWS})
    (tmp_path / "secret.bin").write_bytes(bytes(range(256)) * 4096)
    return tmp_path / "raw"


def again(demo: h5py.Group, name: str, **how: object) -> h5py.Dataset:
    shape, dtype = demo[name].shape, demo[name].dtype
    del demo[name]
    return demo.create_dataset(name, **{"shape": shape, "dtype": dtype, **how})


def virtual(demo: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout(demo[name].shape, demo[name].dtype)
    layout[:] = h5py.VirtualSource("missing.hdf5", "x", demo[name].shape)
    del demo[name]
    demo.create_virtual_dataset(name, layout)


def link(demo: h5py.Group, name: str, target: object) -> None:
    del demo[name]
    demo[name] = target


def in_part(demo: h5py.Group, name: str) -> None:
    values = demo[name][()]
    again(demo, name, chunks=(1, *values.shape[1:]))[:3] = values[:3]


def secret(demo: h5py.Group) -> list[tuple[str, int, int]]:
    return [(str(Path(demo.file.filename).parents[1] / "secret.bin"), 0, h5py.h5f.UNLIMITED)]


CHANGES: dict[str, Callable[[h5py.Group], object]] = {
    "external camera": lambda demo: again(demo, CAMERA, external=secret(demo)),
    "external state": lambda demo: again(demo, STATE, dtype="i1", external=secret(demo)),
    "virtual state": lambda demo: virtual(demo, STATE),
    "virtual camera": lambda demo: virtual(demo, CAMERA),
    "linked file": lambda demo: link(demo, STATE, h5py.ExternalLink("../elsewhere.hdf5", f"data/demo_0/{STATE}")),
    "linked group": lambda demo: link(demo, "obs", h5py.SoftLink("/data/demo_0/obs")),
    "linked camera": lambda demo: link(demo, CAMERA, h5py.SoftLink(f"/data/demo_0/{CAMERA}")),
    "never written": lambda demo: again(demo, STATE),
    "written in part": lambda demo: in_part(demo, CAMERA),
    "state in part": lambda demo: in_part(demo, STATE),
    "no height": lambda demo: again(demo, CAMERA, shape=(ROWS, 0, 32, 3)),
    "no channels": lambda demo: again(demo, STATE, shape=(ROWS, 0)),
    "wide state": lambda demo: again(demo, STATE, shape=(ROWS, 10**9), chunks=(1, 10**6)),
    "large pictures": lambda demo: again(demo, CAMERA, shape=(ROWS, 10**5, 10**5, 3), chunks=(1, 100, 100, 3)),
    "large chunks": lambda demo: again(demo, CAMERA, shape=(ROWS, 20_000, 20_000, 3), chunks=(3, 20_000, 20_000, 3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_such_an_episode_alone_is_left_out_by_both_readers(root: Path, change: str) -> None:
    with h5py.File(root / f"{TASK}.hdf5", "r+") as file:
        CHANGES[change](file["data/demo_1"])
    source = LiberoSource(root=str(root), name="libero")
    good, bad = source.index().refs
    read_by_both(source, good.id)
    with pytest.raises(EpisodeError) as caught, source.open(bad):
        pass
    assert caught.value.reason == "bad-table"
    raw = raw_of(source)
    with pytest.raises(RawError):
        list(raw.open(bad.id).frames("agentview_rgb"))


@pytest.mark.parametrize("change", ["external", "virtual"])
def test_actions_elsewhere_are_no_demonstration(root: Path, change: str) -> None:
    with h5py.File(root / f"{TASK}.hdf5", "r+") as file:
        demo = file["data/demo_1"]
        if change == "external":
            again(demo, "actions", dtype="i1", external=secret(demo))
        else:
            virtual(demo, "actions")
    source = LiberoSource(root=str(root), name="libero")
    (left_out,) = source.index().left_out
    assert left_out.reason == "bad-entry"
    assert "has its values in other files" in left_out.detail
    with pytest.raises(RawError, match="no demonstration with actions"):
        raw_of(source).open(left_out.episode.replace("-demo_1", "-0001"))


@pytest.mark.parametrize("kind", ["many", "link"])
def test_a_mask_is_bounded_and_in_the_file(root: Path, kind: str) -> None:
    with h5py.File(root / f"{TASK}.hdf5", "r+") as file:
        if kind == "many":
            file.create_dataset("mask/train", shape=(3 * 10**9,), dtype="S8", chunks=(10**6,))[:1] = b"demo_0"
        else:
            file["mask"] = h5py.ExternalLink("../elsewhere.hdf5", "data")
    with pytest.raises(RunError, match=r"mask.*How many demonstrations are lost with it is unknown"):
        LiberoSource(root=str(root), name="libero").index()


def test_a_row_of_no_frame_that_is_not_finite(root: Path) -> None:
    """Both leave such an episode out, so the ledger's reason is true."""
    with h5py.File(root / f"{TASK}.hdf5", "r+") as file:
        file[f"data/demo_1/{STATE}"][ROWS - 1] = np.nan
    source = LiberoSource(root=str(root), name="libero")
    bad = source.index().refs[1]
    with pytest.raises(EpisodeError) as caught, source.open(bad):
        pass
    assert caught.value.reason == "not-finite"
    with pytest.raises(RawError, match="not finite at row 5"):
        raw_of(source).open(bad.id)
