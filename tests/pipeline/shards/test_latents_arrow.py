"""Encoder mode `tubelet`: each tubelet of an episode encoded and stored once, and windows gathered from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.run import train
from pipeline.audit.selection.window_counts import _counted
from pipeline.building.records import ShardRecord, find_records, write_record
from pipeline.errors import CorruptError
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.format.schema import Sizes
from pipeline.planning.plan import ShardTask
from pipeline.samples.windows import count_tubelets, enumerate_windows
from pipeline.shards.latents_arrow import LatentsWriter, TubeletRows, TubeletTargetsReader
from pipeline.shards.targets_arrow import TargetRows, TargetsWriter
from pipeline.storage.atomic import FileRecord, atomic_stream
from pipeline.storage.store import open_store
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import train_config

SIZES = Sizes(views=2, image_size=8, steps=2, tokens=3, width=4, state=0, chunk=0, action=0)


@given(
    st.integers(0, 60),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 5),
    st.integers(1, 4),
    st.sampled_from(["drop", "pad"]),
    st.booleans(),
)
def test_tubelets_are_counted_as_windows_have_them(
    frames: int, steps: int, interval: int, every: int, per_episode: int, end: str, robot: bool
) -> None:
    policy = WindowPolicy(
        steps=steps, interval=interval, chunk=3, every=every, per_episode=0 if every else per_episode, end=end
    )
    ends = {s[-1] for window in enumerate_windows(frames, policy, robot) for s in window.supports() if s}
    windows = len(list(enumerate_windows(frames, policy, robot)))
    assert count_tubelets(frames, policy, robot) == len(ends)
    chunk = policy.chunk if robot else 0
    assert _counted(frames, interval, steps, end, every, policy.per_episode, chunk) == (windows, len(ends))


def write_pair(folder: Path, places: list[list[int]]) -> TubeletTargetsReader:
    """Five tubelets, whose every number is their row, and windows that refer to them."""
    latent = np.broadcast_to(np.arange(5)[:, None, None, None], (5, 2, 3, 4)).astype(np.float16)
    with LatentsWriter(atomic_stream(folder / "latents.arrow"), SIZES, {}) as latents:
        latents.add(TubeletRows(("e", "e"), (0, 2), latent[:2]))
        latents.add(TubeletRows(("e", "e", "e"), (4, 6, 8), latent[2:]))
    rows = np.array(places, np.int32)
    empty = np.zeros((len(rows), 2, 2, 3, 4), np.float16)
    with TargetsWriter(atomic_stream(folder / "targets.arrow"), SIZES, {}, tubelets=True) as targets:
        keys = tuple(f"e-{i:06d}" for i in range(len(rows)))
        targets.add(TargetRows(keys, empty[:, 0], empty, rows[:, 1:] >= 0, None, None), rows)
    return TubeletTargetsReader(folder / "targets.arrow", folder / "latents.arrow", SIZES)


def test_rows_are_gathered_and_masked_steps_zero(tmp_path: Path) -> None:
    places = [[0, 1, 2], [3, 4, -1], [2, 0, 4]]
    reader = write_pair(tmp_path, places)
    for row in (2, 0, 1):
        context, latents = np.full((2, 3, 4), 9, np.float16), np.full((2, 2, 3, 4), 9, np.float16)
        reader.read_into(row, context=context, latents=latents)
        found = [np.unique(step).tolist() for step in (context, *latents)]
        assert found == [[max(0, place)] for place in places[row]]
    assert reader.latent_mask.tolist() == [[True, True], [True, False], [True, True]]


@pytest.mark.parametrize("places", [[0, 1, 5], [-1, 0, 1]])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, places: list[int]) -> None:
    with pytest.raises(CorruptError, match=r"targets\.arrow refers to rows that .*latents\.arrow does not have"):
        write_pair(tmp_path, [places])


def test_every_tubelet_is_stored_once_and_read_for_every_window(tubelet_build: Build) -> None:
    samples = {row["key"]: row for row in pq.read_table(tubelet_build.path / "samples.parquet").to_pylist()}
    stored = {}
    for shard in tubelet_build.manifest["shards"]:
        table = _arrow(tubelet_build, shard["latents"])
        columns = [table.column(name).to_pylist() for name in ("episode", "frame")]
        latent, scale = (table.column(name).combine_chunks().to_numpy_ndarray() for name in ("latent", "scale"))
        for i, name in enumerate(zip(*columns, strict=True)):
            assert name not in stored
            stored[name] = (latent[i], scale[i])
    estimate = json.loads((tubelet_build.path / "plan.json").read_bytes())["estimate"]
    assert len(stored) == estimate["tubelets"] < 4 * len(samples) * 0.85
    for split in ("train", "val"):
        reader = SampleReader(tubelet_build, split)
        batch = reader.read(np.arange(len(reader)))
        t = batch.targets
        for i, key in enumerate(batch.keys):
            ends = [(samples[key]["episode"], support[-1]) for support in samples[key]["supports"]]
            for (value, scale), end in zip(_steps(t, i), ends, strict=True):
                assert np.array_equal(value, stored[end][0])
                assert np.array_equal(scale, stored[end][1])


def test_the_estimate_is_that_of_the_files(tubelet_build: Build) -> None:
    estimate = json.loads((tubelet_build.path / "plan.json").read_bytes())["estimate"]
    shards = tubelet_build.manifest["shards"]
    size = sum(shard[kind]["bytes"] for shard in shards for kind in ("targets", "latents"))
    assert size == pytest.approx(estimate["target_bytes"], rel=0.1)


def test_the_error_is_weighted_by_the_windows(tubelet_build: Build, int8_build: Build) -> None:
    errors = [build.manifest["latents"]["relative_error"] for build in (tubelet_build, int8_build)]
    assert errors[0] == pytest.approx(errors[1], rel=0.2)
    assert errors[0][0] == errors[1][0]  # the context is one tubelet in both modes


@pytest.mark.slow
def test_training_reads_it(tubelet_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", [tubelet_build], steps=2))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_a_part_without_its_latents_is_not_finished(tmp_path: Path) -> None:
    store, task = open_store(tmp_path), ShardTask("train", 0, ())
    for name in ("targets", "latents"):
        store.write(f"train/{name}-000000.arrow", b"abc")
    records = [FileRecord(f"train/{name}-000000.arrow", 3, "") for name in ("targets", "latents")]
    part = ShardRecord(task.name, "targets", "f", records[0], (), (), 0, 0.0, 0.0, latents=records[1])
    write_record(store, part, [])
    assert find_records(store, [task], "f") == {(task.name, "targets"): part}
    store.write("train/latents-000000.arrow", b"ab")
    assert find_records(store, [task], "f") == {}
    store.remove("train/latents-000000.arrow")
    assert find_records(store, [task], "f") == {}


def test_a_missing_latents_file_is_named(tubelet_build: Build, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tubelet_build.path, tmp_path / "build"))
    build = Build(copy, tubelet_build.manifest, tubelet_build.sizes, tubelet_build.views)
    for path in copy.glob("train/latents-*.arrow"):
        path.unlink()
    with pytest.raises(CorruptError, match=r"latents-00000\d\.arrow of the build is missing"):
        SampleReader(build, "train").read(np.arange(1))


def _arrow(build: Build, entry: dict[str, Any]) -> pa.Table:
    with pa.ipc.open_file(str(build.path / entry["file"])) as reader:
        return reader.read_all()


def _steps(targets: Any, i: int) -> list[tuple[Any, Any]]:
    later = zip(targets.latents[i], targets.latents_scale[i], strict=True)
    return [(targets.context[i], targets.context_scale[i]), *later]
