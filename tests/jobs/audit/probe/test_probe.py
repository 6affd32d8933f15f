"""`vlajepa probe`: exit code 0 no later frame moves the context, 1 one does, 2 it could not be probed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jobs.audit.probe.clips import video_clips
from tests.conftest import SampleData
from tests.jobs.audit.probe import probed_pipelines, remembering_pipelines
from tests.jobs.test_cli import run

HERE = probed_pipelines.__name__


@pytest.fixture
def films(sample_data: SampleData) -> Path:
    return sample_data.ssv2


def probe(
    capsys: pytest.CaptureFixture[str], films: Path, function: str, *words: str, clips: int = 2
) -> tuple[int, str, str]:
    return run(capsys, "probe", f"{HERE}:{function}", f"root={films}", f"clips={clips}", "frames=12", "now=3", *words)


def test_the_references_way_to_encode_leaks(capsys: pytest.CaptureFixture[str], films: Path, tmp_path: Path) -> None:
    code, out, _ = probe(capsys, films, "whole_clip", f"out={tmp_path}")
    assert code == 1
    assert "LEAK: 2 clips" in out
    assert "context moves by" in out
    rows = json.loads((tmp_path / "probe.json").read_text())["rows"]
    moving = {what for what, row in rows.items() if row["context"] > 0}
    assert {f"now+{offset}" for offset in range(1, 8)} <= moving  # all frames of the clip that is encoded
    assert rows["now+8"] == {"context": 0, "target 1": 0, "target 2": 0, "target 3": 0}
    assert rows["now+6"]["target 1"] > 0  # and a target moves with frames after its own end


def test_prefixes_do_not(capsys: pytest.CaptureFixture[str], films: Path, tmp_path: Path) -> None:
    code, out, _ = probe(capsys, films, "prefix", f"out={tmp_path}")
    assert code == 0
    assert "CLEAN: 2 clips" in out
    assert "does not depend on the frames from now on: context.text" in out
    rows = json.loads((tmp_path / "probe.json").read_text())["rows"]
    assert all(row[name] == 0 for row in rows.values() for name in ("context.latent", "context.image", "context.text"))
    assert rows["now+2"]["target 1"] > 0 == rows["now+3"]["target 1"]  # each target ends where it should
    assert rows["now+4"]["target 2"] > 0 == rows["now+5"]["target 2"]


@pytest.mark.parametrize(
    ("function", "output", "what"),
    [
        ("brightness_of_the_clip", "context.image", "now+8"),
        ("progress", "context.progress", "one frame more"),
        ("one_late_frame", "context.wrist", "now+3"),
        ("a_bit", "context", "now+1"),
        ("dithered_leak", "context", "now+2"),
    ],
)
def test_neighbours_of_it_are_found(
    capsys: pytest.CaptureFixture[str], films: Path, function: str, output: str, what: str
) -> None:
    code, out, _ = probe(capsys, films, function)
    assert code == 1
    found = {
        line.rpartition(": ")[2] for line in out.splitlines() if line.startswith("leak: ") and f": {output} " in line
    }
    assert what in found


def test_only_the_frame_that_leaks_is_named(capsys: pytest.CaptureFixture[str], films: Path) -> None:
    _, out, _ = probe(capsys, films, "one_late_frame", clips=1)
    single = [line for line in out.splitlines() if line.startswith("leak: ") and ": now+" in line]
    assert len(single) == 1
    assert single[0].endswith(": now+3")
    assert "context.wrist" in single[0]


@pytest.mark.slow
def test_a_function_that_is_not_deterministic(capsys: pytest.CaptureFixture[str], films: Path) -> None:
    code, out, _ = probe(capsys, films, "dithered")
    assert code == 0
    assert "a change below 3 times its own between equal calls would not be seen" in out


def probe_memory(capsys: pytest.CaptureFixture[str], films: Path, function: str) -> tuple[int, str, str]:
    words = (f"{remembering_pipelines.__name__}:{function}", f"root={films}", "clips=1", "frames=12", "now=3")
    return run(capsys, "probe", *words)


@pytest.mark.parametrize("function", ["under_the_present", "length_under_the_present"])
def test_a_memory_hides_no_leak(capsys: pytest.CaptureFixture[str], films: Path, function: str) -> None:
    """In one process such a function returns the same whatever the later frames are."""
    code, out, err = probe_memory(capsys, films, function)
    assert code == 2
    assert "CLEAN" not in out
    assert re.search(r"context differs by .* once the function has seen the clip with other later frames", err)


def test_a_memory_of_nothing_later_is_none(capsys: pytest.CaptureFixture[str], films: Path) -> None:
    assert probe_memory(capsys, films, "honest_cache")[0] == 0


def test_a_memory_under_later_frames_too_shows_in_one_process(capsys: pytest.CaptureFixture[str], films: Path) -> None:
    code, out, _ = probe_memory(capsys, films, "under_the_next")
    assert code == 1
    assert "when this is replaced: all later: noise" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"{HERE}:blind"], "the context does not change when frame now and all later ones do"),
        ([f"{HERE}:failing"], "the probed function failed on .* at probed_pipelines.py:.*KeyError"),
        ([f"{HERE}:no_pair"], r"must return the pair \(context, targets\), got dict"),
        ([f"{HERE}:missing"], "cannot be imported"),
        ([f"{HERE}:STEPS"], "is no function but int"),
        (["nowhere"], "must be package.module:name, got 'nowhere'"),
        ([f"{HERE}:prefix", "now=11"], "now must have a frame after it, got now=11 of 12 frames"),
        ([f"{HERE}:prefix", "root=/nowhere"], "root must be a folder of videos"),
        ([f"{HERE}:prefix", "cache=/c"], "not both"),
    ],
)
def test_what_cannot_be_probed(capsys: pytest.CaptureFixture[str], films: Path, words: list[str], message: str) -> None:
    settings = dict(word.split("=", 1) for word in words[1:])
    given = {"root": str(films), "frames": "12", "now": "3", "clips": "1"} | settings
    code, _, err = run(capsys, "probe", words[0], *(f"{key}={value}" for key, value in given.items()))
    assert code == 2
    assert len([line for line in err.splitlines() if line.startswith("vlajepa: ")]) == 1
    assert re.search(message, err)


def write_cache(folder: Path, films: Path, function: str) -> None:
    folder.mkdir()
    (folder / "README").write_text("no entry")
    for clip in video_clips(films, 2, 12, 3):
        context, targets = getattr(probed_pipelines, function)(clip.frames, clip.now)
        values = {"context": np.asarray(context, np.float16), "targets": np.asarray(targets, np.float16)}
        np.savez(folder / f"{Path(clip.name).stem}.npz", frames=clip.frames, now=clip.now, **values)


def test_a_cache_of_latents(capsys: pytest.CaptureFixture[str], films: Path, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", films, "whole_clip")
    words = [f"cache={tmp_path / 'cache'}", f"reader={HERE}:read_entry"]
    code, out, _ = run(capsys, "probe", f"{HERE}:whole_clip", *words)
    assert code == 1
    assert "difference of the cache from what the function makes: context 0.0" in out


def test_a_recipe_that_is_not_the_caches(capsys: pytest.CaptureFixture[str], films: Path, tmp_path: Path) -> None:
    """A clean function in place of the leaky one that made the cache."""
    write_cache(tmp_path / "cache", films, "whole_clip")

    words = [f"cache={tmp_path / 'cache'}", f"reader={HERE}:read_entry"]
    code, _, err = run(capsys, "probe", f"{HERE}:split_prefix", *words)
    assert code == 2
    assert "give the function that made the cache" in err
