"""A raw file that many episodes share is hashed once in a run, and again if it is not what it was."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cluster.build_tasks import shared_hashes
from jobs.cluster.build_tasks.shared_hashes import HashTable
from jobs.datasets.configured_source import SourceChoice
from jobs.preprocess.plan import prepare
from jobs.preprocess.preprocess import preprocess
from pipeline.format.build_settings import ShardSettings, WindowPolicy
from pipeline.sources import files
from pipeline.sources.base import EpisodeRef
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.known_hashes import HERE, KnownHashes, Version, hashes_from
from pipeline.sources.lerobot.source import LeRobotSource
from tests.jobs.runs import CLUSTER, build_config, robot_source
from tests.pipeline.sources.lerobot.test_lerobot_v3 import VIDEO, Shared

HASH = files.hash_raw_file
VERSION: Version = ("film", (1, 2, 3))


class CountingSource(LeRobotSource):
    """Notes every hash of a raw file that a process makes: no settings of a source."""

    log = ""

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        files.hash_raw_file = self.counted
        try:
            return super().open(ref)
        finally:
            files.hash_raw_file = HASH

    def counted(self, path: str) -> str:
        with open(self.log, "a") as log:
            log.write(f"{path}\n")
        return HASH(path)


def counting(root: Path, log: Path) -> SourceChoice:
    source = CountingSource(root=str(root), name="toy")
    object.__setattr__(source, "log", str(log))
    return SourceChoice("lerobot", source)


@pytest.mark.slow
def test_a_shared_film_is_hashed_once_in_a_run_of_two_encoders(ray_session: None, tmp_path: Path) -> None:
    shared = Shared(tmp_path / "raw", lengths=(20,) * 8, gaps=(0,) * 8).write()
    config = replace(
        build_config(tmp_path / "out", robot_source(shared.root, name="toy"), hash_raw=True),
        source=counting(shared.root, tmp_path / "log"),
        window=WindowPolicy(interval=1, every=0, per_episode=1),
        shards=ShardSettings(samples=1, group_samples=1),
        cluster=replace(CLUSTER, encoders=2, task_cpus=0.5),
    )
    prepare(config)
    for version in HERE.all():
        HERE._known.pop(version)  # another driver continues the plan
    build = preprocess(config)
    assert sum(split["episodes"] for split in build.manifest["counts"].values()) == 8
    counts = Counter((tmp_path / "log").read_text().split())
    assert counts[str(shared.root / VIDEO)] == 1
    assert set(counts.values()) == {1}


def test_one_asks_for_the_hash_and_the_others_are_told() -> None:
    table = HashTable({("known", (1,)): "abc"})
    assert table.ask(("known", (1,))) == ("abc", False)
    assert table.ask(VERSION) == (None, True)
    assert table.ask(VERSION) == (None, False)
    table.forget(VERSION)
    assert table.ask(VERSION) == (None, True)
    table.tell(VERSION, "def")
    table.forget(VERSION)
    assert table.ask(VERSION) == ("def", False)
    assert table.ask(("film", (1, 2, 4))) == (None, True), "another version of the file is hashed anew"


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_hashes, "KEPT", 3)
    table = HashTable({})
    for number in range(5):
        table.tell((str(number), ()), "x")
    assert table.ask(("4", ())) == ("x", False)
    assert table.ask(("0", ())) == (None, True)


class _Service:
    def __init__(self) -> None:
        self.asked: list[Version] = []

    def sha256(self, version: Version, make: Callable[[], str]) -> str:
        self.asked.append(version)
        return make()


def test_a_process_asks_once_for_each_version_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HERE", KnownHashes())
    path = tmp_path / "film.mp4"
    path.write_bytes(b"one")
    ref = EpisodeRef("e", "train", (("film.mp4", 3),), None, {}, (HASH(str(path)),))
    service = _Service()
    with hashes_from(service):
        for _ in range(3):
            files.check_files(str(tmp_path), ref)
        assert len(service.asked) == 1
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_bytes(b"two")
        os.utime(path, ns=times)  # nothing but the time of change tells
        with pytest.raises(files.EpisodeError, match="the plan recorded"):
            files.check_files(str(tmp_path), ref)
    assert len(service.asked) == 2
