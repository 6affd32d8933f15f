"""Dataset manifests: every one of the package is sound, and what is wrong with a user's own is said."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import main
from jobs.common.manifest_folders import FOLDER, OWN_FOLDER
from jobs.datasets.manifests import DatasetManifest, load_manifests, read_manifest
from pipeline.errors import SettingsError
from pipeline.sources.registry import make_source

MANIFESTS = load_manifests()
MISSION = ("ssv2", "droid", "fractal", "bridge", "libero_spatial", "libero_object", "libero_goal", "libero_10")


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_agrees_with_itself(name: str) -> None:
    manifest = MANIFESTS[name]
    source: Any = make_source(**{**manifest.reader, "name": name, "root": "."})
    cameras = [camera.name for camera in manifest.cameras]
    assert cameras == list(getattr(source, "cameras", ("video",)))
    if manifest.kind == "robot":
        assert len(manifest.channel_names("action")) == 7  # the common convention
        assert manifest.channel_names("action")[:6] == ["dx", "dy", "dz", "rx", "ry", "rz"]
        assert "1 is open" in manifest.action[-1].meaning
        assert getattr(source, "fps", manifest.fps) == manifest.fps
    assert manifest.licence
    assert manifest.publisher.startswith("https://")
    assert manifest.max_bad_share is None or 0.05 < manifest.max_bad_share < 1


def test_the_datasets_of_the_mission_are_there() -> None:
    assert set(MISSION) <= set(MANIFESTS)
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(MANIFESTS)


@pytest.mark.slow
def test_sources_lists_and_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    for words, parts in (
        (["sources"], ["droid", "95,658", "CC BY 4.0"]),
        (["sources", "bridge"], ["53,192", "rotation vector", "known defects", "evidence", "relabel_bridge_actions"]),
    ):
        main(words)
        out = capsys.readouterr().out
        assert all(part in out for part in parts)
    with pytest.raises(SystemExit) as caught:
        main(["sources", "nothing"])
    assert caught.value.code == 2
    assert "no manifest is called 'nothing'; there are bridge" in capsys.readouterr().err


def own(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "mine",
        "title": "t",
        "kind": "robot",
        "version": "1",
        "licence": "none",
        "terms": "none",
        "publisher": "us",
        "citation": "",
        "episodes": {"total": 2},
        "splits": "hashed",
        "fps": 30,
        "cameras": [{"name": "cam_high", "shows": "everything"}],
        "reader": {"type": "lerobot", "cameras": ["cam_high"], "val_share": 0.0},
        "evidence": [{"claim": "all", "source": "us"}],
        "state": [{"names": [f"s{i}" for i in range(26)], "units": "radians", "meaning": "joints"}],
        "action": [{"names": [f"a{i}" for i in range(26)], "units": "radians", "meaning": "joints"}],
    }
    return {key: value for key, value in {**content, **changes}.items() if value != "absent"}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"colour": 1}, "unknown keys colour; allowed are"),
    ({"publisher": "${oc.env:HOME}"}, "would be replaced by what it names"),
    ({"licence": "absent"}, "licence: Field required"),
    ({"kind": "drone"}, "kind must be robot or video, got 'drone'"),
    ({"interval": 0}, "interval must be at least 1"),
    ({"episodes": {"most": 3}}, "counts of train, val, test or total"),
    ({"evidence": []}, "evidence must list at least one"),
    ({"cameras": [{"name": "a"}]}, r"cameras\.0\.shows: Field required"),
    ({"fps": "often"}, "fps: Input should be a valid number"),
    ({"name": "other"}, "name must be that of the file, 'mine', got 'other'"),
    ({"reader": {"type": "rosbag"}}, r"reader\.type must be one of ssv2"),
    ({"reader": {"type": "lerobot", "camera": "a"}}, "reader: source lerobot has no setting camera"),
    ({"reader": {"type": "lerobot", "state": [{"field": "a", "convert": "pose_reached"}]}}, "looks at later frames"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_wrong_with_a_manifest_is_said(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(own(**changes)))
    with pytest.raises(SettingsError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("title: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("title: " + "[" * 12 + "]" * 12, "title[.0]*: a manifest is nested at most 8 deep"),
        ("reader: {type: [lerobot]}", r"reader\.type must be one of"),
        ("reader: {type: null}", r"reader\.type must be one of"),
        ("reader: [1]", r"reader\.type must be one of"),
        ("reader: {type: lerobot, 1: 2}", "reader: keys must be texts, got 1"),
        ("reader: {type: lerobot, val_share: [1]}", r"reader: val_share: Input should be a valid number"),
        ("reader: {type: lerobot, val_share: '0.1'}", r"reader: val_share: Input should be a valid number"),
        ("reader: {type: lerobot, val_share: 2}", r"reader: .*val_share must be at least 0"),
        ("reader: {type: lerobot, cameras: [1]}", r"reader: cameras\.0: Input should be a valid string"),
        ("reader: {type: lerobot, cameras: cam}", r"reader: cameras: Input should be a valid array"),
        ("reader: {type: lerobot, state: {a: 1}}", r"reader: state: Input should be a valid array"),
        (
            "reader: {type: lerobot, action: [{field: a, take: [0, 99999999999999999999]}]}",
            r"reader\.action\.0\.take\.1",
        ),
        (
            "reader: {type: lerobot, action: [{field: a, scale: .nan}]}",
            r"reader\.action\.0\.scale: a number must be fin",
        ),
        (
            "reader: {type: lerobot, action: [{field: [a]}]}",
            r"reader: action\.0\.field: Input should be a valid string",
        ),
        ("reader: {type: lerobot, action: [[a]]}", r"reader: action\.0"),
        ("reader: {type: rlds, wanted: {a: 3}}", r"reader: wanted\.a: Input should be a valid string"),
        ("reader: {type: rlds, fps: .inf}", r"reader\.fps: a number must be finite"),
        ("fps: .nan", "fps: a number must be finite"),
        ("fps: 1e400", "fps: a number must be finite|fps: Input should be a valid number"),
        ("fps: -3", "fps must be at least 0.001"),
        ("fps: 0", "fps must be at least 0.001"),
        ("fps: true", "fps: Input should be a valid number"),
        ("interval: 100000000000000000000000", r"interval: a number must be finite and at most 2\*\*53"),
        ("interval: 2000000", "interval must be at least 1 and at most"),
        ("interval: 1.5", "interval: Input should be a valid integer"),
        ("max_bad_share: 7", "max_bad_share must be at least 0 and at most 1, got 7"),
        ("episodes: {total: -1}", "episodes must be counts of at least 0"),
        ("episodes: {total: lots}", r"episodes\.total: Input should be a valid integer"),
        ("episodes: !!set {a, b}", "mine.yaml"),
        ("title: !!binary aGVsbG8=", "title: must be a text"),
        ("title: !!python/object/apply:os.system ['id']", "cannot be read as YAML"),
        ('title: "a\\e[31mred"', r"title: a text holds no control characters"),
        ('title: "\\ud800"', r"title: a text holds no control characters and is valid Unicode|cannot be read"),
        ("fps: " + "9" * 6000, "cannot be read as YAML"),
        ("? [a]\n: b", "mine.yaml"),
        ("null: b", "manifest: keys must be texts, got None|cannot be read"),
        ("kind: robot\nkind: video", "cannot be read as YAML"),
    ],
)
def test_every_malformed_value_is_one_line_with_file_and_key(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    changed = text.partition(":")[0]
    path.write_text(yaml.safe_dump(own(**({changed: "absent"} if changed in own() else {}))) + text + "\n")
    with pytest.raises(SettingsError, match=key) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


ODD = (
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    math.nan,
    math.inf,
    "",
    "x",
    "\ud800",
    [],
    [1],
    [[]],
    [None],
    {},
    {"a": 1},
    {1: []},
)


@pytest.mark.slow
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    """Each key of a manifest and of its parts, with values of every kind."""
    path = tmp_path / "mine.yaml"
    sound = own(
        reader={"type": "lerobot", "cameras": ["c"], "val_share": 0.1, "action": [{"field": "a", "take": [0, 2]}]}
    )
    places = [*_places(sound), *((*("reader", name),) for name in ("state", "not_instructions", "split_seed", "name"))]
    for place in places:
        for value in ODD:
            content = json.loads(json.dumps(sound))
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_text(yaml.safe_dump(content))
            with contextlib.suppress(SettingsError):
                read_manifest(path).node()


def _places(content: Any) -> Iterator[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *rest) for rest in itertools.islice(_places(value), 6))


@pytest.mark.slow
def test_a_broken_manifest_stops_only_who_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep.yaml").write_text("name: deep\ntitle: " + "[" * 3000 + "]" * 3000 + "\n")
    (tmp_path / "listed.yaml").write_text(yaml.safe_dump(own(name="listed", reader={"type": ["lerobot"]})))
    monkeypatch.setenv(OWN_FOLDER, str(tmp_path))
    main(["sources", "ssv2"])
    assert "Something-Something" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["sources", "listed"])
    assert caught.value.code == 2
    assert "listed.yaml: reader.type must be one of" in capsys.readouterr().err


@pytest.mark.parametrize("dollar", [r"\x24{", r"\u0024{", r"\U00000024{", "$\\\n{"])
@pytest.mark.parametrize("key", ["licence", "publisher"])
def test_a_variable_behind_an_escape_of_yaml_is_not_put_in_its_place(dollar: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(own(**{key: "absent"})) + f'{key}: "{dollar}oc.env:HOME}}"\n')
    with pytest.raises(SettingsError, match="would be replaced by what it names"):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"- 1", b"", b"a: ${nope}"])
def test_files_that_are_no_manifest(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.yaml"):
        read_manifest(path)


@pytest.mark.parametrize("odd", ["pipe", "hole", "folder"])
def test_what_would_be_waited_for_is_no_manifest(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if odd == "folder":
        path.mkdir()
    elif odd == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 2**36)
    with pytest.raises(
        SettingsError, match=r"mine\.yaml cannot be read as YAML: it is no file of at most 1,048,576 bytes"
    ):
        read_manifest(path)


def test_aliases_that_expand_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\na: &a [1, 2]\nb: [*a, *a]\n")
    with pytest.raises(SettingsError, match=r"mine\.yaml: an alias .* write it out"):
        read_manifest(path)


@pytest.mark.slow
def test_a_manifest_of_ones_own_is_a_source(shared_data: Path, tmp_path: Path) -> None:
    """With no line of code, in a process of its own: plan and inspect by its name."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/mine.yaml").write_text(yaml.safe_dump(own()))
    root = shared_data / "lerobot_v30/unitree_g1_inspire_bottle"
    environment = {OWN_FOLDER: str(tmp_path / "manifests"), "PATH": ""}
    settings = ["source=mine", f"source.root={root}"]

    def vlajepa(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    inspected = vlajepa("inspect", *settings, f"out={tmp_path}/seen")
    assert inspected.returncode == 0, inspected.stdout + inspected.stderr
    assert "DIFFERS" not in inspected.stdout
    planned = vlajepa("plan", *settings, "encoder=tiny", f"out={tmp_path}/build")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads((tmp_path / "build/plan.json").read_text())
    assert plan["settings"]["dataset"]["name"] == "mine"
    assert plan["settings"]["dataset"]["sha256"] == read_manifest(tmp_path / "manifests/mine.yaml").sha256
    (tmp_path / "manifests/ssv2.yaml").write_text(yaml.safe_dump(own(name="ssv2")))
    (tmp_path / "manifests/broken.yaml").write_text("kind: [robot\nname: broken\n")
    # One that is wrong stops only who wants it.
    again = vlajepa("plan", *settings, "source.val_share=0.5", "encoder=tiny", f"out={tmp_path}/other")
    assert again.returncode == 0, again.stderr
    for name, message in (("ssv2", "the name ssv2 is taken"), ("broken", "broken.yaml cannot be read as YAML: line 2")):
        refused = vlajepa("plan", f"source={name}", f"source.root={root}", f"out={tmp_path}/none")
        assert refused.returncode == 2
        assert message in refused.stderr
        assert message in again.stderr
    assert "the name ssv2 is taken" in vlajepa("sources").stdout


def test_the_configuration_of_a_manifest() -> None:
    node = MANIFESTS["droid"].node()
    assert node["window"] == {"interval": 1}
    assert node["max_bad_share"] == 0.3
    assert {"override /window": "robot"} in node["defaults"]
    assert isinstance(MANIFESTS["droid"], DatasetManifest)


def test_the_example_of_the_readme_is_sound(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "bottle.yaml").write_text(found[1])
    assert read_manifest(tmp_path / "bottle.yaml").reader["val_share"] == 0.2
