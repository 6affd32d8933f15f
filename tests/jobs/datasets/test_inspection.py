"""`vlajepa inspect` as a whole: faults that were put into a robot set are on the page, in the JSON and in the filter,
which `plan` takes; sample data and real sets give no alarm that is not so."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.cli import main
from jobs.preprocess.plan import prepare
from pipeline.format.build_settings import WindowPolicy
from pipeline.inspection.checks import sampled
from pipeline.planning.episode_filter import read_filter
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.video import CODECS, write_video
from pipeline.sources.base import EpisodeRef
from pipeline.sources.lerobot.source import LeRobotSource
from tests.browser import SCREENS, opened, require_readable
from tests.conftest import SampleData
from tests.jobs.runs import build_config, robot_source

EPISODES = 12


def inspected(out: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and inspection.json."""
    code = 0
    try:
        main(["inspect", *words, f"out={out}"])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads((out / "inspection.json").read_bytes())


def alarms(content: dict[str, Any]) -> set[tuple[str, str]]:
    """(check, episode) of what is no note."""
    return {(flag["check"], flag["episode"]) for flag in content["findings"] if not flag["note"]}


def _table(root: Path, episode: int) -> Path:
    return next(root.glob(f"data/*/episode_{episode:06d}.parquet"))


def _change(root: Path, episode: int, column: str, values: np.ndarray) -> None:  # type: ignore[type-arg]
    table = pq.read_table(_table(root, episode))
    at = table.schema.get_field_index(column)
    changed = pa.array(values.tolist(), table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), changed), _table(root, episode))


def _film(root: Path, episode: int, frames: np.ndarray) -> None:  # type: ignore[type-arg]
    write_video(next(root.glob(f"videos/*/*front/episode_{episode:06d}.mp4")), list(frames), 12, CODECS["h264"])


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of robot episodes with one fault each in episodes 1 to 5."""
    root = tmp_path_factory.mktemp("damaged") / "robot"
    write_lerobot(root, episodes=EPISODES, seed=3, size=64)
    source = LeRobotSource(root=str(root), name="robot", val_share=0.0)
    refs = {ref.id: ref for ref in source.index().refs}
    films = {}
    for number in (1, 2):
        with source.open(refs[f"robot-{number:06d}"]) as episode:
            films[number] = episode.frames("front", range(episode.num_frames)).copy()
    films[1][15:45] = films[1][15]
    films[2][30:38] = 0
    for number, frames in films.items():
        _film(root, number, frames)
    state = np.array(pq.read_table(_table(root, 3))["observation.state"].to_pylist(), np.float32)
    state[20, 0] += 4
    _change(root, 3, "observation.state", state)
    tasks = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
    texts = [json.loads(line) for line in (root / "meta/tasks.jsonl").read_text().splitlines()]
    number = max(row["task_index"] for row in texts) + 1
    texts.append({"task_index": number, "task": "todo"})
    _change(root, 4, "task_index", np.full(tasks[4]["length"], number))
    tasks[4]["tasks"] = ["todo"]
    (root / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    return root


FAULTS = {1: "frozen-camera", 2: "black-frames", 3: "jump", 4: "no-instruction"}


def test_faults_are_found_and_left_out(damaged: Path, tmp_path: Path) -> None:
    source = ("source=lerobot", f"source.root={damaged}", "source.val_share=0")
    code, content = inspected(tmp_path / "seen", *source, "episodes=null")
    expected = {(check, f"robot-{number:06d}") for number, check in FAULTS.items()}
    assert expected <= alarms(content)
    assert {episode for _, episode in alarms(content)} <= {episode for _, episode in expected} | {""}
    assert code == 0
    path = tmp_path / "seen/leave-out.jsonl"
    assert {entry.episode: entry.reason for entry in read_filter(path).entries} == {e: c for c, e in expected}
    settings = robot_source(damaged, val_share=0.0, leave_out=str(path))
    plan = prepare(build_config(tmp_path / "build", settings, window=WindowPolicy(interval=2, every=9))).plan
    assert {entry.episode for entry in plan.left_out} == {episode for _, episode in expected}
    assert len({ref.id for task in plan.tasks for ref in task.episodes}) == EPISODES - len(FAULTS)
    _, rest = inspected(tmp_path / "rest", *source, f"source.leave_out={path}")
    assert alarms(rest) == set()
    before = path.read_bytes()
    code, _ = inspected(tmp_path / "seen", *source, f"source.leave_out={path}")  # would be overwritten
    assert (code, path.read_bytes()) == (2, before)
    assert rest["opened"] == EPISODES - len(FAULTS)


def test_the_page(damaged: Path, tmp_path: Path) -> None:
    source = ("source=lerobot", f"source.root={damaged}", "source.val_share=0")
    inspected(tmp_path / "seen", *source, "episodes=null")
    page = (tmp_path / "seen/inspection.html").read_text()
    assert f"{EPISODES} of {EPISODES} episodes" in page
    assert 'name="viewport"' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) >= 3 * len(FAULTS)
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in pictures]
    assert any(picture.max() < 8 for picture in shown), "the black frames"
    assert "<polyline" in page, "the curve of the channel that jumps"


@pytest.mark.slow
def test_the_page_can_be_read(chromium: str, damaged: Path, tmp_path: Path) -> None:
    inspected(tmp_path / "seen", "source=lerobot", f"source.root={damaged}", "source.val_share=0", "episodes=null")
    for width, scheme in SCREENS:
        with opened(chromium, tmp_path / "seen" / "inspection.html", width, scheme) as view:
            require_readable(view, width)


def test_a_sample_is_said_and_drawn_by_its_seed(damaged: Path, tmp_path: Path) -> None:
    source = ("source=lerobot", f"source.root={damaged}", "source.val_share=0", "episodes=3", "seed=7")
    _, content = inspected(tmp_path / "seen", *source)
    assert (content["opened"], content["seed"]) == (3, 7)
    page = (tmp_path / "seen/inspection.html").read_text()
    assert f"3 of {EPISODES} episodes</strong>, one drawn from each of 3 equal parts of the set with seed 7" in page
    refs = [EpisodeRef(str(i), "train", (), None) for i in range(1000)]
    assert [ref.id for ref in sampled(refs, 10, 0)] != [ref.id for ref in sampled(refs, 10, 1)]
    assert [int(ref.id) // 100 for ref in sampled(refs, 10, 5)] == list(range(10))


def test_a_name_that_is_markup_stays_text(damaged: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(damaged, tmp_path / "robot"))
    texts = (root / "meta/tasks.jsonl").read_text()
    (root / "meta/tasks.jsonl").write_text(texts.replace('"todo"', '"<script>9</script>"'))
    episodes = (root / "meta/episodes.jsonl").read_text()
    (root / "meta/episodes.jsonl").write_text(episodes.replace('"todo"', '"<script>9</script>"'))
    inspected(tmp_path / "seen", "source=lerobot", f"source.root={root}", "episodes=null")
    assert "<script>" not in (tmp_path / "seen/inspection.html").read_text()


def test_sample_data_give_no_alarm(sample_data: SampleData, tmp_path: Path) -> None:
    pushes = {("gripper-never-moves", "")}  # all four episodes push, and info.json says which channel the gripper is
    for kind, root, true in (("lerobot", sample_data.lerobot, pushes), ("ssv2", sample_data.ssv2, set())):
        _, content = inspected(tmp_path / kind, f"source={kind}", f"source.root={root}", "episodes=null")
        assert alarms(content) == true
        assert (tmp_path / kind / "leave-out.jsonl").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("source=ssv2", "source.root={}/ssv2"), set()),
        (("source=bridge", "source.root={}/rlds/bridge_dataset"), {"duplicate"}),  # val repeats train
        (
            ("source=lerobot", "source.name=g1", "source.root={}/lerobot_v21/unitree_g1_inspire_bottle"),
            {"repeated-frames"},
        ),
    ],
)
def test_real_sets(shared_data: Path, tmp_path: Path, words: tuple[str, ...], expected: set[str]) -> None:
    """The films of g1 have every other frame twice: 15 frames/s, sold as 30."""
    _, content = inspected(tmp_path / "seen", *(word.format(shared_data) for word in words), "episodes=null")
    assert {check for check, _ in alarms(content)} == expected


def test_a_unit_that_does_not_fit_the_manifest(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libero_scripted is in metres; here the same set in millimetres."""
    root = Path(shutil.copytree(damaged, tmp_path / "robot"))
    for episode in range(EPISODES):
        state = np.array(pq.read_table(_table(root, episode))["observation.state"].to_pylist(), np.float32)
        _change(root, episode, "observation.state", state * np.array([1e3] * 3 + [1] * 5, np.float32))
    manifest = Path("manifests/libero_scripted.yaml").read_text()
    assert "metres" in manifest
    own = tmp_path / "manifests"
    own.mkdir()
    text = manifest.replace("name: libero_scripted", "name: mine").replace("agentview", "front")
    (own / "mine.yaml").write_text(text)
    monkeypatch.setenv("VLAJEPA_MANIFESTS", str(own))
    code, content = inspected(tmp_path / "seen", "source=mine", f"source.root={root}", "episodes=6")
    assert code == 1
    assert ("wrong-unit", "") in alarms(content)
