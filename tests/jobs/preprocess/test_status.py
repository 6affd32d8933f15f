"""`vlajepa status`: what the folder of a build tells while it is made, after it was killed, and when it is finished."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.cluster.build_tasks.run_progress import PROGRESS_FILE, NodeWork, Progress, ProgressLog, read_progress
from jobs.cluster.build_tasks.scheduler import Finished
from jobs.common.driver_lock import DriverLock
from jobs.preprocess.preprocess import preprocess
from jobs.preprocess.status import SILENT_S, describe, read_status
from pipeline.building.records import ShardRecord
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.storage.atomic import FileRecord
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.jobs.runs import build_config, ssv2_source


def part(task: str, kind: str, rows: int = 10, excluded: tuple[str, ...] = ()) -> ShardRecord:
    return ShardRecord(task, kind, "print", FileRecord(f"{task}-{kind}", 100, ""), (), excluded, rows, 0.0, 0.0)


@pytest.fixture
def unfinished(video_build: Build, tmp_path: Path) -> Path:
    """The folder of a build of which one file of several is finished."""
    out = tmp_path / "build"
    out.mkdir()
    for name in ("plan.json", "tasks.jsonl"):
        shutil.copy(video_build.path / name, out / name)
    (out / "work").mkdir()
    (out / "work" / "train-000000-inputs.arrow").write_bytes(b"a record")
    return out


def test_the_states_of_a_build(unfinished: Path, video_build: Build) -> None:
    store = open_store(unfinished)
    shards = len(video_build.manifest["shards"])
    assert read_status(store).state == "stopped"
    with DriverLock(store):
        running = read_status(store)
        assert running.state == "running"
        assert running.driver is not None
        progress = Progress(2 * shards, 28, updated=time.time() - 2 * SILENT_S)
        store.write(PROGRESS_FILE, json.dumps(asdict(progress)).encode())
        assert read_status(store).state == "silent"
    stopped = read_status(store)
    assert (stopped.state, stopped.files_done, stopped.files_total) == ("stopped", 1, 2 * shards)
    (unfinished / "work" / "train-000000-inputs.arrow").unlink()
    assert read_status(store).state == "planned"
    finished = read_status(open_store(video_build.path))
    assert (finished.state, finished.files_done) == ("finished", 2 * shards)


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="holds no plan and no build"):
        read_status(open_store(tmp_path))


@pytest.mark.slow
def test_what_a_real_run_wrote_is_shown(sample_data: SampleData, ray_session: None, tmp_path: Path) -> None:
    build = preprocess(build_config(tmp_path / "build", ssv2_source(sample_data.ssv2)))
    status = read_status(open_store(build.path))
    progress = status.progress
    assert progress is not None
    counts = build.manifest["counts"]
    assert progress.samples_done == sum(count["samples"] for count in counts.values())
    assert progress.shards_done == len(build.manifest["shards"])
    files = [shard[kind]["bytes"] for shard in build.manifest["shards"] for kind in ("inputs", "targets")]
    assert progress.bytes_written == progress.bytes_now == sum(files)
    assert sum(node.bytes for node in progress.nodes.values()) == sum(files)
    assert progress.store_peak_bytes > 0
    text = describe(status, "here")
    assert f"samples   {progress.samples_done} of about" in text


def test_the_command_prints_for_people_and_for_programs(
    unfinished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["status", str(unfinished)])
    assert "stopped" in capsys.readouterr().out
    main(["status", str(unfinished), "json=true"])
    assert json.loads(capsys.readouterr().out)["files_done"] == 1


def test_progress_counts_files_of_earlier_runs_and_those_made_again_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    log = ProgressLog(store, 2, 40, {("a", "inputs"): part("a", "inputs")})
    log.start()
    for made in (part("a", "targets"), part("b", "inputs"), part("b", "targets"), part("b", "inputs", 8, ("e",))):
        log.finished(Finished("ticket", made, "node"))
    p = log.progress
    assert (p.files_done, p.shards_done, p.samples_done, p.bytes_written) == (4, 2, 20, 400)
    assert (p.samples_now, p.bytes_now) == (20, 400)
    log.write()
    stored = read_progress(store)
    assert stored is not None
    assert stored.nodes == {"node": NodeWork(4, 20, 400, p.nodes["node"].first_s, p.nodes["node"].last_s)}
    assert stored.left_s is not None


def test_a_progress_file_of_another_version_is_none(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(PROGRESS_FILE, b'{"nodes": {}, "moon": 1}')
    assert read_progress(store) is None
