"""`vlajepa view`: what a recording holds, as Rerun's own reader reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rerun as rr

from jobs.closed_loop.outcomes import Outcome
from jobs.report.latent_images import fit_colours, to_rgb
from jobs.viewing.sample_recording import channel_names
from jobs.viewing.settings import ViewConfig
from jobs.viewing.view import run
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import BuildError, CorruptError, SettingsError
from pipeline.sample_world.video import CODECS, write_video
from tests.jobs.test_cli import run as run_words
from tests.pipeline.audit.tiny_build import INT8, ROBOT, TinyWorld, write_build
from tests.pipeline.audit.tiny_targets import read_targets

Rows = dict[str, list[dict[str, Any]]]
KEY = "ep_a-000002"


def read(path: Path) -> Rows:
    """Rows of a recording by entity, each with its times and components."""
    found: Rows = defaultdict(list)
    for chunk in rr.chunk.RrdReader(str(path)).stream():
        found[str(chunk.entity_path)] += chunk.to_record_batch().to_pylist()
    return found


def image(row: dict[str, Any]) -> Any:
    shape = row["Image:format"][0]
    pixels = row["Image:buffer"][0]
    data = np.frombuffer(pixels, np.uint8) if isinstance(pixels, bytes) else np.array(pixels, np.uint8)
    return data.reshape(shape["height"], shape["width"], 3)


def by_frame(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {row["frame"]: row for row in rows}


@pytest.mark.parametrize("world", [ROBOT, INT8], ids=["float16", "int8"])
def test_a_sample(tmp_path: Path, world: TinyWorld) -> None:
    build = write_build(tmp_path / "build", replace(world, tokens=4))
    out = run(ViewConfig(what=build, key=KEY, out=tmp_path / "a.rrd"))
    rows, place = read(out), f"/samples/{KEY}"
    assert {name.split("/")[2] for name in rows if name.startswith("/samples/")} == {KEY}
    assert rows[f"{place}/instruction"][0]["TextDocument:text"] == ["déplace « ep_a »"]
    columns, _ = read_targets(build / "train" / "targets-000000.arrow")
    row = columns["key"].index(KEY)
    for view in ("front", "wrist"):
        (camera,) = rows[f"{place}/cameras/{view}"]
        assert camera["frame"] == 2
        assert image(camera).shape == (16, 16, 3)
    states = [name for name in rows if name.startswith(f"{place}/state/")]
    assert len(states) == 3
    values = sorted(by_frame(rows[name])[2]["Scalars:scalars"][0] for name in states)
    assert values == pytest.approx(sorted([2 + i / 7 for i in range(3)]), abs=1e-6)
    actions = {name: by_frame(rows[name]) for name in rows if name.startswith(f"{place}/actions/")}
    valid = np.flatnonzero(columns["action_mask"][row]).tolist()
    assert all(sorted(found) == [2 + step for step in valid] for found in actions.values())
    recorded = sorted(found[2]["Scalars:scalars"][0] for found in actions.values())
    assert recorded == pytest.approx(sorted(columns["actions"][row, 0].tolist()))
    steps = by_frame(rows[f"{place}/latents/front"])
    assert sorted(steps) == [2, 6, 10]
    if world.latents == "float16":
        latents = np.concatenate([columns["context"][row][None], columns["latents"][row]]).astype(np.float32)
        expected = to_rgb(latents, fit_colours(latents)).reshape(3, 2, 2, 2, 3)
        assert all(np.array_equal(image(steps[2 + 4 * k]), expected[k, 0]) for k in range(3))


def test_findings_are_shown_with_their_samples(tmp_path: Path) -> None:
    """A build with a leak is looked at as well: that is when it is needed."""
    build = write_build(tmp_path / "build")
    manifest = json.loads((build / "build.json").read_bytes())
    manifest["counts"]["val"]["episodes"] = 5
    (build / "build.json").write_text(json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n")
    verdict = audit_build(build)
    assert verdict.status == "leak"
    named = replace(verdict.findings[0], sample=KEY, detail="seen\n\x1b[31m")
    write_verdict(build, replace(verdict, findings=(*verdict.findings, named)))
    rows = read(run(ViewConfig(what=build, out=tmp_path / "a.rrd")))
    assert rows["/audit/status"][0]["TextDocument:text"] == ["leak at level shards"]
    told = {row["finding"]: row["TextLog:text"][0] for n, r in rows.items() if n.startswith("/audit/L") for row in r}
    assert len(told) == len(verdict.findings) + 1
    assert told[len(verdict.findings)] == f"{KEY}: {named.file}: seen\\x0a\\x1b[31m"
    shown = {name.split("/")[2] for name in rows if name.startswith("/samples/")}
    assert shown == {KEY, "ep_a-000000", "ep_c-000000"}


def test_rollouts(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    (folder / "videos").mkdir(parents=True)
    (folder / "evaluation.json").write_text("{}")
    outcomes = [Outcome(3, 1, True, 120, 18, 0, 2.5), Outcome(3, 2, False, 220, 32, 1, 4.0)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in outcomes))
    film = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(6)]
    write_video(folder / "videos" / "task-03-start-001-success.mp4", film, 10, CODECS["h264"])
    rows = read(run(ViewConfig(what=folder, out=tmp_path / "a.rrd")))
    first, second = r"/rollouts/task\ 3/start\ 1", r"/rollouts/task\ 3/start\ 2"
    assert rows[f"{first}/outcome"][0]["TextDocument:text"] == ["success after 120 steps, 18 queries, 0 crashes"]
    assert (rows[f"{second}/success"][0]["episode"], rows[f"{second}/success"][0]["Scalars:scalars"]) == (1, [0.0])
    played = [row for row in rows[f"{first}/film"] if "VideoFrameReference:timestamp" in row]
    assert len(played) == 6
    assert any(row.get("AssetVideo:blob") for row in rows[f"{first}/film"])
    assert f"{second}/film" not in rows
    with pytest.raises(SettingsError, match="has no samples"):
        run(ViewConfig(what=folder, key=KEY, out=tmp_path / "b.rrd"))
    (folder / "videos" / "task-03-start-001-success.mp4").write_bytes(b"no film")
    with pytest.raises(BuildError, match="no film that Rerun reads"):
        run(ViewConfig(what=folder, out=tmp_path / "b.rrd"))
    assert not list(tmp_path.glob("*b.rrd*"))


def test_what_is_wrong_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    with pytest.raises(BuildError, match="has no sample 'nosuch'"):
        run(ViewConfig(what=build, key="nosuch", out=tmp_path / "a.rrd"))
    shard = build / "train" / "inputs-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b'"instruction":"d', b'"instruction":"e'))
    with pytest.raises(CorruptError):
        run(ViewConfig(what=build, key=KEY, out=tmp_path / "a.rrd"))
    assert not list(tmp_path.glob("*.rrd*"))
    with pytest.raises(ValueError, match=r"must end in \.rrd"):
        ViewConfig(what=build, out=tmp_path / "a.txt")


def test_without_rerun_one_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    code, _, err = run_words(capsys, "view", "nosuch")
    assert code == 2
    assert err.strip().endswith("pip install -c constraints.txt '.[rerun]'")
    assert len(err.strip().splitlines()) == 1


def test_channels_have_names_of_their_own() -> None:
    from jobs.common.policy.channels import Channels

    assert channel_names((Channels(("x", "y"), "m", ""),), 2) == ["x", "y"]
    assert channel_names((Channels(("x", "x"), "m", ""),), 2) == ["0 x", "1 x"]
    assert channel_names((), 2) == ["channel 0", "channel 1"]


def test_help_needs_no_rerun() -> None:
    code = "import sys; from jobs.cli import main; main(['view', '--help']); sys.exit('rerun' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
