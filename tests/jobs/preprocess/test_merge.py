"""One build of several parts: their shards and samples, the proof, and parts that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.preprocess.drop import drop
from jobs.preprocess.merge import merge
from jobs.preprocess.settings import DropConfig, MergeConfig
from pipeline.audit.levels.run import audit_build
from pipeline.errors import BuildError
from pipeline.format.build import load_build
from tests.conftest import SampleData
from tests.jobs.parts_of_builds import digests, killed_at, make_here, make_part, numbers, robot_config
from tests.jobs.runs import build_hashes
from tests.pipeline.audit.tiny_build import INT8, ROBOT, TUBELET, TinyEpisode, TinyWorld, write_build

OTHERS = (
    TinyEpisode("ep_m", "train", 0, 12),
    TinyEpisode("ep_y", "train", 0, 9, usable=False),
    TinyEpisode("ep_n", "val", 0, 9),
    TinyEpisode("ep_o", "val", 1, 10),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("parts")
    return write_build(folder / "a"), write_build(folder / "b", replace(ROBOT, episodes=OTHERS))


def test_a_merged_build_holds_the_shards_of_its_parts_under_new_names(parts: tuple[Path, Path], tmp_path: Path) -> None:
    before = [build_hashes(part) for part in parts]
    out = merge(MergeConfig(builds=parts, out=tmp_path / "out")).path
    assert digests(out) == digests(parts[0]) | digests(parts[1])
    found = build_hashes(out)
    for split, shards in (("train", [(0, 0), (0, 1), (1, 0)]), ("val", [(0, 0), (1, 0), (1, 1)])):
        for new, (part, old) in enumerate(shards):
            for name in ("inputs-{:06d}.tar", "targets-{:06d}.arrow"):
                assert found[f"{split}/{name.format(new)}"] == before[part][f"{split}/{name.format(old)}"]
    assert [build_hashes(part) for part in parts] == before
    assert audit_build(out).findings == ()


def test_counts_ledger_and_statistics_are_those_of_all_parts(parts: tuple[Path, Path], tmp_path: Path) -> None:
    out = merge(MergeConfig(builds=parts, out=tmp_path / "out")).path
    together = (*ROBOT.episodes, *(replace(e, shard=e.shard + (2 if e.split == "train" else 1)) for e in OTHERS))
    fresh = write_build(tmp_path / "fresh", replace(ROBOT, episodes=together))
    assert numbers(out) == pytest.approx(numbers(fresh), rel=1e-12)
    assert load_build(out).manifest["counts"] == load_build(fresh).manifest["counts"]
    assert {json.loads(line)["episode"] for line in (out / "ledger.jsonl").read_bytes().splitlines()} == {
        "ep_x",
        "ep_y",
    }


@pytest.mark.slow
def test_a_part_of_a_part_a_drop_and_a_merge_again(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """Chains keep the origin of each shard, and blank a dropped episode in every ancestor's task list."""
    merge(MergeConfig(builds=parts, out=tmp_path / "one"))
    drop(DropConfig(build=tmp_path / "one", out=tmp_path / "two", episode="ep_n"))
    third = write_build(tmp_path / "third", replace(ROBOT, episodes=(TinyEpisode("ep_q", "train", 0, 12),)))
    merge(MergeConfig(builds=(third, tmp_path / "two"), out=tmp_path / "three"))
    out = drop(DropConfig(build=tmp_path / "three", out=tmp_path / "four", episode="ep_a"))
    assert {key.partition("-")[0] for key in digests(out.path)} == {"ep_b", "ep_c", "ep_m", "ep_o", "ep_q"}
    assert len(out.manifest["ancestors"]) == 6
    assert b"ep_a.mp4" not in b"".join(path.read_bytes() for path in out.path.rglob("*") if path.is_file())
    assert audit_build(out.path).findings == ()


@pytest.mark.slow
def test_shared_latents_are_linked_with_the_files_that_refer_to_them(tmp_path: Path) -> None:
    some = [write_build(tmp_path / "a", TUBELET), write_build(tmp_path / "b", replace(TUBELET, episodes=OTHERS))]
    out = merge(MergeConfig(builds=tuple(some), out=tmp_path / "out")).path
    assert digests(out) == digests(some[0]) | digests(some[1])
    assert (out / "train/latents-000002.arrow").samefile(some[1] / "train/latents-000000.arrow")
    assert audit_build(out).findings == ()


@pytest.mark.slow
def test_int8_errors_are_those_of_all_shards(tmp_path: Path) -> None:
    some = [write_build(tmp_path / "a", INT8), write_build(tmp_path / "b", replace(INT8, episodes=OTHERS))]
    out = merge(MergeConfig(builds=tuple(some), out=tmp_path / "out"))
    assert out.manifest["latents"]["relative_error"] == pytest.approx([0.004] * 3)
    assert audit_build(out.path).findings == ()


@pytest.mark.parametrize(
    ("world", "says"),
    [
        (replace(ROBOT, interval=3, episodes=OTHERS), r"window\.interval: 2 -> 3"),
        (replace(ROBOT, name="other", episodes=OTHERS), r"source\.name: 'tiny' -> 'other'"),
        (replace(ROBOT, latents="int8", episodes=OTHERS), r"latents\.dtype: 'float16' -> 'int8'"),
        (replace(ROBOT, width=8, episodes=OTHERS), r"sizes\.width: 4 -> 8"),
        (replace(ROBOT, episodes=(TinyEpisode("ep_a", "train", 0, 13),)), r"ep_a in train of .* and in train of"),
        (replace(ROBOT, episodes=(TinyEpisode("ep_a", "val", 0, 13),)), r"rule L6.*ep_a in train of .* and in val of"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, world: TinyWorld, says: str) -> None:
    some = (write_build(tmp_path / "a"), write_build(tmp_path / "b", world))
    with pytest.raises(BuildError, match=says):
        merge(MergeConfig(builds=some, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_build_is_not_merged_with_itself(parts: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="only one build and one split"):
        merge(MergeConfig(builds=(parts[0], parts[0]), out=tmp_path / "out"))


@pytest.mark.slow
def test_a_killed_merge_continues_to_the_same_bytes(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(MergeConfig(builds=parts, out=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        killed_at(patch, "pipeline.derived.shards.write_record_table", 6)
        with pytest.raises(KeyboardInterrupt):
            merge(MergeConfig(builds=parts, out=tmp_path / "out"))
    merge(MergeConfig(builds=parts, out=tmp_path / "out", link=False))
    assert build_hashes(tmp_path / "out") == build_hashes(tmp_path / "whole")


@pytest.mark.slow
def test_real_parts_give_the_samples_of_the_whole(sample_data: SampleData, tmp_path: Path) -> None:
    make_here(robot_config(tmp_path / "fresh", sample_data.lerobot))
    for name, odd in (("even", False), ("odd", True)):
        make_part(
            robot_config(tmp_path / name, sample_data.lerobot), lambda episode, odd=odd: int(episode[-1]) % 2 == odd
        )
    out = merge(MergeConfig(builds=(tmp_path / "even", tmp_path / "odd"), out=tmp_path / "out")).path
    assert digests(out) == digests(tmp_path / "fresh")
    assert numbers(out) == pytest.approx(numbers(tmp_path / "fresh"), rel=1e-12)
    verdict = audit(AuditConfig(build=out, level="source", root=sample_data.lerobot, nonce="n0", least=2))[0]
    assert verdict.findings == ()
