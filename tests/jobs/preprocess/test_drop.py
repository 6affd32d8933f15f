"""A build without an episode: its bytes, its statistics, its proof, and what stands in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.cli import main
from jobs.preprocess.drop import drop
from jobs.preprocess.settings import DropConfig
from pipeline.audit.levels.run import audit_build
from pipeline.errors import BuildError, CorruptError, SettingsError
from pipeline.format.build import load_build
from tests.conftest import SampleData
from tests.jobs.parts_of_builds import digests, killed_at, make_here, make_part, numbers, robot_config, samples
from tests.jobs.runs import build_hashes
from tests.pipeline.audit.tiny_build import (
    INT8,
    ROBOT,
    ROBOT_EPISODES,
    TUBELET,
    TUBELET_INT8,
    VIDEO,
    TinyEpisode,
    TinyWorld,
    write_build,
)
from tests.pipeline.audit.tiny_targets import read_targets

EPISODES = (*ROBOT_EPISODES, TinyEpisode("ep_d", "train", 0, 12), TinyEpisode("ep_e", "val", 1, 8))
WORLD = replace(ROBOT, episodes=EPISODES)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards: train 0 (ep_a, ep_x in the ledger, ep_d), train 1 (ep_b), val 0 (ep_c), val 1 (ep_e)."""
    return write_build(tmp_path_factory.mktemp("tiny") / "build", WORLD)


def clean(build: Path) -> bool:
    verdict = audit_build(build)
    assert verdict.findings == ()
    return verdict.status == "clean"


@pytest.mark.slow
@pytest.mark.parametrize("link", [True, False])
def test_untouched_shards_keep_every_byte(tiny: Path, tmp_path: Path, link: bool) -> None:
    before = build_hashes(tiny)
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a", link=link))
    after = build_hashes(tmp_path / "out")
    shards = {name for name in before if name.startswith(("train", "val"))}
    assert {name for name in shards if after[name] != before[name]} == {
        "train/inputs-000000.tar",
        "train/targets-000000.arrow",
    }
    inode = (tiny / "train/inputs-000001.tar").stat().st_ino == (tmp_path / "out/train/inputs-000001.tar").stat().st_ino
    assert inode == link
    assert build_hashes(tiny) == before
    assert clean(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("world", [WORLD, replace(VIDEO, episodes=EPISODES)], ids=["robot", "video"])
@pytest.mark.parametrize("episode", ["ep_a", "ep_d", "ep_b"])
def test_the_rest_is_what_a_build_without_the_episode_would_hold(
    tmp_path: Path, world: TinyWorld, episode: str
) -> None:
    old = write_build(tmp_path / "old", world)
    drop(DropConfig(build=old, out=tmp_path / "out", episode=episode))
    kept = {key: value for key, value in digests(old).items() if not key.startswith(episode)}
    assert digests(tmp_path / "out") == kept
    fresh = replace(world, episodes=tuple(e for e in world.episodes if e.id != episode))
    wanted = numbers(write_build(tmp_path / "fresh", fresh))
    assert numbers(tmp_path / "out") == pytest.approx(wanted, rel=1e-12)
    assert clean(tmp_path / "out")


def test_nothing_of_a_dropped_episode_is_left_but_id_and_hash(tiny: Path, tmp_path: Path) -> None:
    """Its text, its file's name, its key and its payload stand in no file of the new build."""
    out = drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a", reason="takedown 17")).path
    latents = read_targets(tiny / "train/targets-000000.arrow")[0]["latents"][0].tobytes()
    assert latents in (tiny / "train/targets-000000.arrow").read_bytes()
    for path in (path for path in out.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for trace in ("« ep_a »".encode(), b"ep_a.mp4", b"ep_a-0", latents):
            assert trace not in data, path
    ledger = [json.loads(line) for line in (out / "ledger.jsonl").read_bytes().splitlines()]
    wanted = {"stage": "drop", "reason": "dropped", "detail": "takedown 17", "windows": 9, "split": "train"}
    assert wanted | {"episode": "ep_a"} in ledger


def test_a_shard_without_samples_and_a_split_without_shards_disappear(tiny: Path, tmp_path: Path) -> None:
    out = drop(DropConfig(build=tiny, out=tmp_path / "out", episodes=("ep_b", "ep_c", "ep_e"))).path
    assert sorted(p.relative_to(out).as_posix() for p in out.glob("*/*.*")) == [
        "train/inputs-000000.tar",
        "train/targets-000000.arrow",
    ]
    assert not (out / "val").exists()
    assert load_build(out).manifest["counts"] == {"train": {"samples": 17, "episodes": 2, "shards": 1}}
    assert clean(out)


@pytest.mark.slow
def test_int8_latents_keep_their_scales_and_the_share_of_their_error(tmp_path: Path) -> None:
    old = write_build(tmp_path / "old", replace(INT8, episodes=EPISODES))
    out = drop(DropConfig(build=old, out=tmp_path / "out", episode="ep_a"))
    assert digests(out.path) == {k: v for k, v in digests(old).items() if not k.startswith("ep_a")}
    assert out.manifest["shards"][0]["latents_error"][0] == pytest.approx([0.004**2 * 8 / 17, 8 / 17], rel=1e-8)
    assert clean(out.path)


@pytest.mark.slow
@pytest.mark.parametrize("world", [TUBELET, TUBELET_INT8], ids=["float16", "int8"])
def test_shared_latents_go_with_their_episode(tmp_path: Path, world: TinyWorld) -> None:
    """Encoder mode tubelet: targets hold row numbers, which follow the rows that are left."""
    old = write_build(tmp_path / "old", replace(world, episodes=EPISODES))
    out = drop(DropConfig(build=old, out=tmp_path / "out", episodes=("ep_a", "ep_c"))).path
    assert digests(out) == {k: v for k, v in digests(old).items() if not k.startswith(("ep_a", "ep_c"))}
    episodes = {episode for path in out.glob("*/latents-*.arrow") for episode in column(path, "episode")}
    assert episodes == {"ep_b", "ep_d", "ep_e"}
    assert build_hashes(out)["train/latents-000001.arrow"] == build_hashes(old)["train/latents-000001.arrow"]
    assert clean(out)


def column(path: Path, name: str) -> list[Any]:
    with pa.ipc.open_file(str(path)) as reader:
        return reader.read_all().column(name).to_pylist()


@pytest.mark.slow
def test_a_dropped_episode_can_be_followed_by_another(tiny: Path, tmp_path: Path) -> None:
    drop(DropConfig(build=tiny, out=tmp_path / "first", episode="ep_a"))
    drop(DropConfig(build=tmp_path / "first", out=tmp_path / "second", episode="ep_b"))
    assert {key.partition("-")[0] for key in digests(tmp_path / "second")} == {"ep_d", "ep_c", "ep_e"}
    assert clean(tmp_path / "second")
    with pytest.raises(BuildError, match=r"ep_a is left out already \(drop: dropped\)"):
        drop(DropConfig(build=tmp_path / "second", out=tmp_path / "third", episode="ep_a"))


@pytest.mark.parametrize(
    ("episodes", "says"),
    [
        (("ep_aa",), r"ep_aa is no episode of this build; did you mean ep_a"),
        (("ep_x",), r"ep_x is left out already \(targets: undecodable\)"),
        (("ep_a", "ep_b", "ep_c", "ep_d", "ep_e"), "all that it holds"),
        (("ep_a", "ep_a"), "ep_a twice"),
    ],
)
def test_what_cannot_be_dropped_is_refused(tiny: Path, tmp_path: Path, episodes: tuple[str, ...], says: str) -> None:
    with pytest.raises(BuildError, match=says):
        drop(DropConfig(build=tiny, out=tmp_path / "out", episodes=episodes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["build", "build/new", "."])
def test_a_folder_in_or_around_the_build_is_refused(tiny: Path, out: str) -> None:
    with pytest.raises(SettingsError, match="must lie beside"):
        drop(DropConfig(build=tiny, out=tiny.parent / out, episode="ep_a"))


@pytest.mark.slow
def test_several_episodes_on_the_command_line_are_all_dropped(tiny: Path, tmp_path: Path) -> None:
    """Hydra would take the last of two values and forget the first."""
    words = [
        "drop",
        f"build={tiny}",
        f"out={tmp_path / 'out'}",
        "--episode",
        "ep_a",
        "--episode=ep_b",
        "episodes=[ep_e]",
    ]
    main(words)
    assert {key.partition("-")[0] for key in digests(tmp_path / "out")} == {"ep_c", "ep_d"}


def test_a_command_without_an_episode_says_how_to_name_one(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["drop", f"build={tiny}", f"out={tmp_path / 'out'}"])
    assert ended.value.code == 2
    assert "episode=ID, or 'episodes=[ID,ID]'" in capsys.readouterr().err


def test_a_build_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no local folder; download"):
        drop(DropConfig(build=Path("s3://bucket/build"), out=tmp_path / "out", episode="ep_a"))


@pytest.mark.slow
def test_a_folder_with_other_things_or_another_drop_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="not empty and holds no plan"):
        drop(DropConfig(build=tiny, out=tmp_path / "mine", episode="ep_a"))
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    with pytest.raises(BuildError, match="holds the plan of another build"):
        drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_b"))


@pytest.mark.slow
@pytest.mark.parametrize("episode", ["ep_a", "ep_b"])
def test_a_damaged_shard_is_not_passed_on(tmp_path: Path, episode: str) -> None:
    """A rewritten shard is hashed before, a copied one on the way."""
    old = write_build(tmp_path / "old", WORLD)
    path = old / "train/targets-000000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"train/targets-000000\.arrow has SHA-256"):
        drop(DropConfig(build=old, out=tmp_path / "out", episode=episode, link=False))
    assert not (tmp_path / "out" / "build.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("pipeline.derived.shards.write_record_table", 1),
        ("pipeline.derived.shards.write_record_table", 2),
        ("pipeline.derived.files.InputsWriter.add", 5),
        ("pipeline.building.commit.summarise", 1),
        ("pipeline.building.commit.describe_build", 1),
    ],
)
def test_a_killed_run_continues_to_the_same_bytes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    """Killed between the records of a shard, between shards, inside a shard, and in the commit."""
    drop(DropConfig(build=tiny, out=tmp_path / "whole", episode="ep_a"))
    with monkeypatch.context() as patch:
        killed_at(patch, function, call)
        with pytest.raises(KeyboardInterrupt):
            drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    assert build_hashes(tmp_path / "out") != build_hashes(tmp_path / "whole")
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    assert build_hashes(tmp_path / "out") == build_hashes(tmp_path / "whole")


def test_a_finished_drop_is_left_alone(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "is finished already" in capsys.readouterr().out


def test_record_batches_hold_kept_rows_alone(tiny: Path, tmp_path: Path) -> None:
    """No batch without rows, and no bytes of other rows inside buffers: the same arrays as written from nothing."""
    drop(DropConfig(build=tiny, out=tmp_path / "out", episode="ep_a"))
    with pa.ipc.open_file(str(tmp_path / "out/train/targets-000000.arrow")) as reader:
        sizes = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    assert sizes == [3, 3, 2]


@pytest.mark.slow
def test_a_real_build_without_an_episode_is_clean_at_every_level(sample_data: SampleData, tmp_path: Path) -> None:
    make_here(robot_config(tmp_path / "old", sample_data.lerobot))
    dropped = min(row["episode"] for row in samples(tmp_path / "old").values() if row["split"] == "train")
    out = drop(DropConfig(build=tmp_path / "old", out=tmp_path / "out", episode=dropped)).path
    fresh = make_part(robot_config(tmp_path / "fresh", sample_data.lerobot), lambda episode: episode != dropped)
    assert digests(out) == digests(fresh)
    assert numbers(out) == pytest.approx(numbers(fresh), rel=1e-12)
    settings = AuditConfig(build=out, level="perturb", root=sample_data.lerobot, nonce="n0", share=1.0)
    with pytest.raises(BuildError, match="episodes dropped from the encoder's batches"):
        audit(settings)
    verdict = audit(replace(settings, inexact=True))[0]
    assert verdict.findings == ()
    assert not verdict.exact
    assert verdict.coverage["samples_encoded"] == verdict.samples
