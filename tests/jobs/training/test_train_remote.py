"""Training on builds that lie on an S3 server: the same run as on local ones, through a cache that holds a part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.training.run import train
from jobs.training.settings import TrainConfig
from pipeline.errors import AuditRefusedError, BuildError, SettingsError
from pipeline.format.build import Build
from pipeline.storage.object_store import open_object_store
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config
from tests.pipeline.storage.s3_server import s3_server, upload


@pytest.fixture(scope="module")
def bucket(robot_build: Build, video_build: Build) -> Iterator[str]:
    """An S3 server with both builds; tests that change something put it back."""
    with s3_server() as url:
        for build in (robot_build, video_build):
            upload(build.path, f"{url}/{build.name}")
        yield url


def remote(config: TrainConfig, bucket: str, cache: Path, **trainer: object) -> TrainConfig:
    builds = tuple(f"{bucket}/{Path(path).name}" for path in config.builds)
    settings = replace(config.trainer, cache_folder=cache, **trainer)
    return replace(config, builds=builds, trainer=settings)


def largest(builds: list[Build]) -> int:
    return max(shard[kind]["bytes"] for b in builds for shard in b.manifest["shards"] for kind in ("inputs", "targets"))


def cached_bytes(cache: Path) -> int:
    return sum(file.stat().st_size for file in (cache / "shards").rglob("*") if file.is_file())


@pytest.mark.slow
def test_a_remote_run_is_the_local_run(robot_build: Build, video_build: Build, bucket: str, tmp_path: Path) -> None:
    builds = [robot_build, video_build]
    config = train_config(tmp_path / "local", builds)
    train(config)
    away = remote(replace(config, out=tmp_path / "remote"), bucket, tmp_path / "cache", prefetch=2)
    train(replace(away, trainer=replace(away.trainer, stop_after=4)))
    train(away)
    assert losses_of(tmp_path / "remote") == losses_of(tmp_path / "local")
    assert cached_bytes(tmp_path / "cache") > 0


@pytest.mark.slow
def test_a_small_cache_holds_its_limit(video_build: Build, bucket: str, tmp_path: Path) -> None:
    """One stream of one shard: two shards fit one after the other, not at the same time."""
    order = {"streams": 1, "block_shards": 1, "batch_size": 2, "steps": 24}
    shards = [s for s in video_build.manifest["shards"] if s["split"] == "train"]
    everything = sum(s["inputs"]["bytes"] + s["targets"]["bytes"] for s in shards)
    config = train_config(tmp_path / "local", [video_build], **order)
    train(config)
    limit = everything + largest([video_build])
    away = remote(replace(config, out=tmp_path / "remote"), bucket, tmp_path / "cache", cache_gb=limit / 1e9)
    train(away)
    assert losses_of(tmp_path / "remote") == losses_of(tmp_path / "local")
    assert cached_bytes(tmp_path / "cache") <= limit
    small = remote(replace(config, out=tmp_path / "small"), bucket, tmp_path / "cache", cache_gb=everything / 4e9)
    with pytest.raises(SettingsError, match=r"is too small: up to .* GB of remote shards are in use at a time"):
        train(small)


@pytest.mark.slow
def test_a_changed_object_stops_the_run_or_is_skipped(video_build: Build, bucket: str, tmp_path: Path) -> None:
    shard = next(s for s in video_build.manifest["shards"] if s["split"] == "train")["targets"]
    url = f"{bucket}/ssv2/{shard['file']}"
    store = open_object_store(url)
    before = store.read("")
    store.write("", before[:-9] + b"x" + before[-8:])
    try:
        config = remote(train_config(tmp_path / "run", [video_build], steps=6), bucket, tmp_path / "cache")
        with pytest.raises(BuildError, match=rf"{url} has SHA-256 .*build\.json lists {shard['sha256']}"):
            train(config)
        skip = replace(config.trainer, on_corrupt="skip", max_skipped_share=1.0)
        train(replace(config, out=tmp_path / "skip", trainer=skip))
        lines = (tmp_path / "skip" / "skipped.jsonl").read_text().splitlines()
        assert len(lines) == 12  # of 24 samples, those of one shard of two
    finally:
        store.write("", before)


@pytest.mark.slow
def test_a_remote_build_without_a_verdict_is_refused(video_build: Build, bucket: str, tmp_path: Path) -> None:
    store = open_object_store(f"{bucket}/ssv2/audit/verdict.json")
    before = store.read("")
    store.remove("")
    try:
        config = remote(train_config(tmp_path / "run", [video_build]), bucket, tmp_path / "cache")
        with pytest.raises(AuditRefusedError, match="vlajepa audit"):
            train(config)
    finally:
        store.write("", before)
