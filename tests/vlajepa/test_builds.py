"""A build opened from Python: behind the trainer's gate, its samples and batches those of the trainer."""

from __future__ import annotations

import gc
import io
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torch.utils.data import DataLoader

import vlajepa
from jobs.training.builds.open_builds import open_builds
from jobs.training.loop.data import make_streams
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from model.batch import TorchBatch, to_device
from pipeline.format.build import Build
from pipeline.streaming.reader import SampleReader
from tests.conftest import SampleData
from tests.jobs.runs import train_config

CPU = torch.device("cpu")


def copied(build: Build, tmp_path: Path) -> Path:
    return Path(shutil.copytree(build.path, tmp_path / "build"))


def flat(batch: TorchBatch) -> Iterator[tuple[str, object]]:
    for half in (batch.observation, batch.targets):
        yield from vars(half).items()


def assert_same(found: TorchBatch, expected: TorchBatch) -> None:
    assert found.keys == expected.keys
    for (name, value), (_, other) in zip(flat(found), flat(expected), strict=True):
        if isinstance(value, torch.Tensor):
            assert isinstance(other, torch.Tensor)
            assert value.dtype == other.dtype
            assert torch.equal(value, other), name
        else:
            assert value == other, name


@pytest.mark.parametrize("change", ["no verdict", "another build.json", "leaky"])
def test_what_training_refuses_is_refused_with_its_words(robot_build: Build, tmp_path: Path, change: str) -> None:
    path = copied(robot_build, tmp_path)
    manifest = path / "build.json"
    if change == "no verdict":
        (path / "audit" / "verdict.json").unlink()
    elif change == "leaky":
        manifest.write_bytes(manifest.read_bytes().replace(b'"leaky": false', b'"leaky": true'))
        assert b'"leaky": true' in manifest.read_bytes()
    else:
        manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(vlajepa.AuditRefusedError) as refused:
        open_builds(train_config(tmp_path / "run", [replace(robot_build, path=path)]))
    with pytest.raises(vlajepa.AuditRefusedError) as found:
        vlajepa.open_build(path)
    assert str(found.value) == str(refused.value)


def test_a_key_and_a_level_are_asked_for(robot_build: Build, tmp_path: Path) -> None:
    with pytest.raises(vlajepa.AuditRefusedError, match="source"):
        vlajepa.open_build(robot_build.path, audit_level="source")
    with pytest.raises(vlajepa.RunError):
        vlajepa.open_build(robot_build.path, public_key=tmp_path / "none.pem")
    with pytest.raises(vlajepa.SettingsError, match="audit_level"):
        vlajepa.open_build(robot_build.path, audit_level="deep")
    with pytest.raises(vlajepa.AuditRefusedError, match=r"holds no build\.json"):
        vlajepa.open_build(tmp_path)


def test_a_sample_is_what_the_build_holds(robot_build: Build) -> None:
    build = vlajepa.open_build(robot_build.path)
    reader = SampleReader(robot_build, "val")
    batch = reader.read(np.array([1]))
    sample = build.sample(1)
    assert (sample.key, sample.episode) == (batch.keys[0], reader.episode(1))
    assert list(sample.images) == list(robot_build.views)
    assert_array_equal(np.stack(list(sample.images.values())), batch.observation.images[0])
    assert_array_equal(sample.state, batch.observation.state[0])
    assert_array_equal(sample.actions, batch.targets.actions[0])
    assert_array_equal(sample.context, batch.targets.context[0])
    assert_array_equal(sample.latents, batch.targets.latents[0])
    assert build.sample(-1).key == build.sample(len(reader) - 1).key
    for index in (len(reader), -len(reader) - 1):
        with pytest.raises(IndexError, match=f"its split val has {len(reader)}"):
            build.sample(index)
    with pytest.raises(vlajepa.BuildError, match="no samples in split 'x'"):
        build.sample(0, "x")


def test_latents_of_an_int8_build_are_float16(int8_build: Build) -> None:
    sample = vlajepa.open_build(int8_build.path).sample(0)
    batch = SampleReader(int8_build, "val").read(np.array([0]))
    expected = to_device(batch, CPU, int8_build.sizes.views).targets
    assert_array_equal(sample.context, expected.context[0].numpy())
    assert_array_equal(sample.latents, expected.latents[0].numpy())


def test_a_sample_is_shown(robot_build: Build, video_build: Build) -> None:
    for known in (robot_build, video_build):
        build = vlajepa.open_build(known.path)
        sample = build.sample(0)
        sizes, steps = build.sizes, int(sample.latent_mask.sum())
        picture = sample.latent_picture()
        side = picture.height // sizes.views
        assert picture.size == ((1 + steps) * side, sizes.views * side)
        page = sample._repr_html_()
        assert page.count("<img") == sizes.views + 1
        assert all(f"<figcaption>{view}</figcaption>" in page for view in known.views)
        assert ("action 0" in page) == known.has_actions
        assert known.name in build._repr_html_()
        assert repr(sample.instruction) in repr(sample)
        assert "latents " + "x".join(map(str, sample.latents.shape)) in repr(sample)
        assert len(repr(sample)) < 400


def test_nothing_a_sample_says_becomes_markup(video_build: Build) -> None:
    sample = vlajepa.open_build(video_build.path).sample(0)
    hostile = replace(sample, instruction="<script>alert(1)</script>", images={"<b>": sample.images["video"]})
    assert "<script" not in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_()


def test_samples_past_the_end_have_no_square(robot_build: Build) -> None:
    sample = vlajepa.open_build(robot_build.path).sample(0)
    some = replace(sample, latent_mask=np.array([True, False, False]))
    side = some.latent_picture().height // 2
    assert some.latent_picture().width == 2 * side


def test_latents_that_form_no_square_are_refused(robot_build: Build) -> None:
    sample = vlajepa.open_build(robot_build.path).sample(0)
    with pytest.raises(ValueError, match="square number"):
        replace(sample, context=sample.context[:, :3], latents=sample.latents[:, :, :3]).latent_picture()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_trainer_from_any_number_of_workers(robot_build: Build, workers: int) -> None:
    settings = TrainerSettings(batch_size=4, seed=7)
    (stream,) = make_streams([robot_build], [], settings, Ranks(0, 1, 1, CPU))
    batches = vlajepa.open_build(robot_build.path).batches(batch_size=4, seed=7)
    found = list(DataLoader(batches, batch_size=None, num_workers=workers))
    samples = robot_build.manifest["counts"]["train"]["samples"]
    assert len(found) == len(batches) == -(-samples // 4)
    for step, batch in enumerate(found[: samples // 4]):
        assert_same(batch, to_device(stream.build_batches(step)[0].batch, CPU, robot_build.sizes.views))
    keys = [key for batch in found for key in batch.keys]
    assert len(keys) == len(set(keys)) == samples


def test_batches_reach_a_process_of_its_own(robot_build: Build) -> None:
    batches = vlajepa.open_build(robot_build.path).batches(batch_size=4)
    again = pickle.loads(pickle.dumps(batches))
    for one, other in zip(batches, again, strict=True):
        assert_same(one, other)


class Collecting(vlajepa.Batches):
    """Collects garbage where its batches are read."""

    def __iter__(self) -> Iterator[TorchBatch]:
        yield from super().__iter__()
        gc.collect()


def test_a_worker_frees_nothing_of_its_parent(robot_build: Build, sample_data: SampleData) -> None:
    """A decoder among the parent's garbage would wait for its threads, which the worker does not have."""
    gc.disable()
    try:
        film = av.open(str(next(sample_data.ssv2.rglob("*.webm"))))
        stream = film.streams.video[0]
        stream.thread_type = "AUTO"
        next(film.decode(stream))
        circle: list[object] = [film, stream]
        circle.append(circle)
        del film, stream, circle
        build = vlajepa.open_build(robot_build.path)
        batches = Collecting(build.audited, build.settings, batch_size=4)
        assert len(list(DataLoader(batches, batch_size=None, num_workers=1, timeout=60))) == len(batches)
    finally:
        gc.enable()


@pytest.mark.parametrize(("split", "workers"), [("val", 0), ("val", 2), ("train", 2)])
def test_epochs_hold_every_sample_once_each(robot_build: Build, split: str, workers: int) -> None:
    batches = vlajepa.open_build(robot_build.path).batches(split, batch_size=3, epochs=2)
    found = list(DataLoader(batches, batch_size=None, num_workers=workers))
    assert len(found) == len(batches)
    keys = [key for batch in found for key in batch.keys]
    assert len(keys) == 2 * batches.samples
    assert sorted(keys[: batches.samples]) == sorted(set(keys))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_was_changed_is_refused(robot_build: Build, tmp_path: Path, workers: int) -> None:
    path = copied(robot_build, tmp_path)
    shard = next(shard for shard in robot_build.manifest["shards"] if shard["split"] == "train")
    file = path / shard["inputs"]["file"]
    data = bytearray(file.read_bytes())
    data[data.index(b'"instruction":') + len(b'"instruction": "') + 2] ^= 1
    file.write_bytes(data)
    batches = vlajepa.open_build(path, cache_folder=tmp_path / "cache").batches(batch_size=4)
    with pytest.raises(vlajepa.CorruptError, match="the audited manifest lists"):
        list(DataLoader(batches, batch_size=None, num_workers=workers))


def test_numbers_that_cannot_be_are_refused(video_build: Build) -> None:
    build = vlajepa.open_build(video_build.path)
    for settings in ({"batch_size": 0}, {"epochs": 0}, {"batch_size": 10_000}):
        with pytest.raises(vlajepa.SettingsError, match=r"batch_size|epochs"):
            build.batches(**settings)
    with pytest.raises(vlajepa.BuildError):
        build.batches("other")


def test_a_picture_can_be_saved(robot_build: Build) -> None:
    buffer = io.BytesIO()
    vlajepa.open_build(robot_build.path).sample(0).latent_picture().save(buffer, "PNG")
    assert Image.open(buffer).width > 100
