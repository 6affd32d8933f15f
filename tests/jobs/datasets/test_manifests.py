"""Dataset manifests: every one of the package is sound, and what is wrong with a user's own is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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
