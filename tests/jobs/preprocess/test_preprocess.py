"""Builds on a real Ray: the same bytes for any number of workers and after any interruption, and what is left out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.preprocess.plan import prepare
from jobs.preprocess.preprocess import preprocess
from pipeline.audit.levels.run import audit_build
from pipeline.errors import BuildError, TooManyBadEpisodesError
from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import EncoderSettings, LatentSettings, WindowPolicy
from tests.conftest import SampleData
from tests.jobs.runs import CLUSTER, build_config, build_hashes, robot_source, robot_words, ssv2_source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoders", "build", "latents", "mode"),
    [
        (2, "robot_build", "float16", "prefix"),
        (4, "int8_build", "int8", "prefix"),
        (3, "tubelet_build", "int8", "tubelet"),
    ],
)
def test_the_number_of_workers_does_not_change_a_byte(
    encoders: int,
    build: str,
    latents: str,
    mode: str,
    sample_data: SampleData,
    ray_session: None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    cluster = replace(CLUSTER, encoders=encoders, groups_ahead=encoders, task_cpus=0.5)
    config = build_config(
        tmp_path / "robot",
        robot_source(sample_data.lerobot),
        window=WindowPolicy(interval=2, every=6),
        cluster=cluster,
        latents=LatentSettings(dtype=latents),
        encoder=EncoderSettings(kind="tiny", resize="squash", mode=mode),
    )
    preprocess(config)
    assert build_hashes(config.out) == build_hashes(request.getfixturevalue(build).path)


@pytest.mark.slow
def test_the_root_of_the_data_does_not_change_a_byte(
    sample_data: SampleData, video_build: Build, ray_session: None, tmp_path: Path
) -> None:
    shutil.copytree(sample_data.ssv2, tmp_path / "moved")
    build = preprocess(build_config(tmp_path / "out", ssv2_source(tmp_path / "moved")))
    assert build_hashes(build.path) == build_hashes(video_build.path)


def test_a_finished_build_is_left_alone(video_build: Build, sample_data: SampleData) -> None:
    before = {path: path.stat().st_mtime_ns for path in video_build.path.rglob("*")}
    preprocess(build_config(video_build.path, ssv2_source(sample_data.ssv2)))
    assert {path: path.stat().st_mtime_ns for path in video_build.path.rglob("*")} == before


def test_a_run_killed_while_it_tidied_up_is_tidied_by_the_next(
    video_build: Build, sample_data: SampleData, tmp_path: Path
) -> None:
    out = tmp_path / "build"
    shutil.copytree(video_build.path, out)
    (out / "work").mkdir()
    (out / "work" / "train-000000-inputs.arrow").write_bytes(b"left over")
    (out / "train" / f".tmp-inputs-000009.tar-{'0' * 32}").write_bytes(b"left over")
    assert audit_build(out).status == "leak"
    preprocess(build_config(out, ssv2_source(sample_data.ssv2)))
    assert audit_build(out).status == "clean"


def test_a_plan_killed_between_its_files_can_be_made_again(sample_data: SampleData, tmp_path: Path) -> None:
    config = build_config(tmp_path / "out", ssv2_source(sample_data.ssv2))
    first = prepare(config).plan
    (config.out / "plan.json").unlink()
    (config.out / f".tmp-plan.json-{'0' * 32}").write_bytes(b"{")
    assert prepare(config).plan == first


def test_another_plan_in_the_same_folder_is_refused(video_build: Build, sample_data: SampleData) -> None:
    config = build_config(video_build.path, ssv2_source(sample_data.ssv2), window=WindowPolicy(interval=3))
    with pytest.raises(BuildError, match=r"window\.interval: 2 -> 3"):
        preprocess(config)


def test_a_folder_with_other_things_is_refused(sample_data: SampleData, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="not empty and holds no plan"):
        prepare(build_config(tmp_path, ssv2_source(sample_data.ssv2)))


@pytest.mark.slow
def test_bad_episodes_go_to_the_ledger_and_the_build_goes_on(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    root = tmp_path / "ssv2"
    shutil.copytree(sample_data.ssv2, root)
    clips = _train_ids(root)
    (root / "20bn-something-something-v2" / f"{clips[0]}.webm").write_bytes(b"no video at all")
    (root / "20bn-something-something-v2" / f"{clips[1]}.webm").unlink()
    config = build_config(tmp_path / "out", ssv2_source(root), max_bad_share=0.5)
    build = preprocess(config)
    ledger = [json.loads(line) for line in (build.path / "ledger.jsonl").read_bytes().splitlines()]
    assert {(row["reason"], clips.index(row["episode"].split("-")[-1])) for row in ledger} == {
        ("undecodable", 0),
        ("missing-file", 1),
    }
    assert build.manifest["counts"]["train"]["episodes"] == len(clips) - 2
    assert audit_build(build.path).status == "clean"


@pytest.mark.slow
def test_a_split_without_a_single_sample_leaves_no_folder(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    root = tmp_path / "ssv2"
    shutil.copytree(sample_data.ssv2, root)
    for entry in json.loads((root / "labels" / "validation.json").read_text()):
        (root / "20bn-something-something-v2" / f"{entry['id']}.webm").write_bytes(b"no video at all")
    build = preprocess(build_config(tmp_path / "out", ssv2_source(root), max_bad_share=0.5))
    assert set(build.manifest["counts"]) == {"train"}
    assert not (build.path / "val").exists()
    assert audit_build(build.path).status == "clean"


@pytest.mark.slow
def test_a_limit_counts_the_faults_among_the_first_episodes_alone(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    root = tmp_path / "ssv2"
    shutil.copytree(sample_data.ssv2, root)
    for clip in sorted(_train_ids(root))[2:]:
        (root / "20bn-something-something-v2" / f"{clip}.webm").unlink()
    config = build_config(tmp_path / "out", ssv2_source(root), limit=1, splits=("train",))
    build = preprocess(config)
    assert build.manifest["counts"]["train"]["episodes"] == 1
    with pytest.raises(TooManyBadEpisodesError, match="4 of"):
        preprocess(replace(config, out=tmp_path / "all", limit=None))


@pytest.mark.slow
def test_a_raw_file_of_the_same_size_that_changed_is_told_by_its_hash(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    root = tmp_path / "ssv2"
    shutil.copytree(sample_data.ssv2, root)
    clips = _train_ids(root)
    config = build_config(tmp_path / "out", ssv2_source(root), hash_raw=True, max_bad_share=0.5)
    prepare(config)
    _change_one_byte(root, clips[0])
    build = preprocess(config)
    ledger = [json.loads(line) for line in (build.path / "ledger.jsonl").read_bytes().splitlines()]
    assert [(row["episode"], row["reason"]) for row in ledger] == [(f"ssv2-{clips[0]}", "changed-file")]
    settings = AuditConfig(build=build.path, level="source", root=root, nonce="n0")
    verdict, _ = audit(settings)
    assert (verdict.status, verdict.coverage["raw_files_hashed"]) == ("clean", 6)
    _change_one_byte(root, clips[1])
    verdict, _ = audit(settings)
    assert any("it was planned with" in finding.detail for finding in verdict.findings)
    shutil.move(root / "20bn-something-something-v2" / f"{clips[2]}.webm", tmp_path)
    verdict, _ = audit(settings)
    assert any("was planned and cannot be read" in finding.detail for finding in verdict.findings)


@pytest.mark.slow
def test_too_many_bad_episodes_stop_the_build_with_a_list(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    root = tmp_path / "ssv2"
    shutil.copytree(sample_data.ssv2, root)
    broken = _train_ids(root)[0]
    (root / "20bn-something-something-v2" / f"{broken}.webm").write_bytes(b"no video at all")
    with pytest.raises(TooManyBadEpisodesError, match=rf"1 of 7 episodes of ssv2 are bad.*\n.*{broken}") as caught:
        preprocess(build_config(tmp_path / "out", ssv2_source(root)))
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out" / "build.json").exists()
    listed = (tmp_path / "out" / "logs" / "bad_episodes.jsonl").read_text()
    assert json.loads(listed)["episode"].endswith(broken)


@pytest.mark.slow
def test_an_episode_that_fails_in_one_job_is_dropped_from_both(
    sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    """NaN in the actions of late frames: only the targets job reads them."""
    root = tmp_path / "robot"
    shutil.copytree(sample_data.lerobot, root)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    names = table.column_names
    actions = np.stack(table.column("action").to_pylist()).astype(np.float32)
    actions[-1, 0] = np.nan
    field = table.schema.field("action")
    column = pa.array(actions.tolist(), field.type)
    pq.write_table(table.set_column(names.index("action"), field, column), path)
    config = build_config(tmp_path / "out", robot_source(root), max_bad_share=0.5)
    build = preprocess(config)
    ledger = [json.loads(line) for line in (build.path / "ledger.jsonl").read_bytes().splitlines()]
    assert [(row["episode"], row["reason"]) for row in ledger] == [("robot-000001", "not-finite")]
    episodes = pq.read_table(build.path / "samples.parquet", columns=["episode"]).column("episode").to_pylist()
    assert set(episodes) == {"robot-000000", "robot-000002", "robot-000003"}
    assert audit_build(build.path).status == "clean"


@pytest.mark.slow
@pytest.mark.parametrize("files", [1, 3])
def test_a_killed_run_continues_to_the_same_bytes(
    files: int, sample_data: SampleData, robot_build: Build, tmp_path: Path
) -> None:
    """SIGKILL the whole process group once so many files are finished; the second run must do the rest."""
    out = tmp_path / "robot"
    command = [sys.executable, "-m", "jobs.cli", *robot_words(sample_data.lerobot, out)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with subprocess.Popen(
        command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and len(list(out.glob("work/*.arrow"))) < files:
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    assert not (out / "build.json").exists()
    with pytest.raises(BuildError, match="unfinished"):
        load_build(out)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("work/*.arrow")}
    assert len(finished) >= files
    config = build_config(out, robot_source(sample_data.lerobot), window=WindowPolicy(interval=2, every=6))
    preprocess(config)
    assert build_hashes(out) == build_hashes(robot_build.path)


def _change_one_byte(root: Path, clip: str) -> None:
    """The last byte of a clip: sizes stay, and no picture changes."""
    path = root / "20bn-something-something-v2" / f"{clip}.webm"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _train_ids(root: Path) -> list[str]:
    return [entry["id"] for entry in json.loads((root / "labels" / "train.json").read_text())]
