"""Hugging Face's `datasets` and `pyarrow.dataset` read a build as docs/formats.md shows, and one that was pushed."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from jobs.sharing.bucket import push_to_bucket
from jobs.sharing.build_contents import build_contents
from jobs.sharing.settings import PushConfig
from tests.pipeline.audit.tiny_targets import read_targets

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`datasets` asks nobody, and keeps what it has read in the test's own folder."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setattr(datasets.config, name, True, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def stored(build: Path) -> dict[str, dict[str, Any]]:
    """Members and rows of the train shards by key, read by tarfile and another reader of targets."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(build.glob("train/targets-*.arrow")):
        columns, _ = read_targets(path)
        for row, key in enumerate(columns.pop("key")):
            found[key] = {name: values[row] for name, values in columns.items()}
    for path in sorted(build.glob("train/inputs-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found[key][name] = file.read()
    return found


def test_what_the_page_shows_joins_inputs_and_targets(build: Path) -> None:
    (code,) = re.findall(r"```python\n(from glob.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert '"/builds/bottle"' in code
    assert code.endswith("    break\n")
    seen: dict[str, dict[str, Any]] = {}
    names = {"seen": seen}
    record = 'seen[sample["__key__"]] = dict(now=now, sample=sample, state=state, latents=latents, actions=actions)'
    exec(code.replace('"/builds/bottle"', repr(str(build))).replace("    break\n", f"    {record}\n"), names)
    expected = stored(build)
    assert list(seen) == list(expected)
    for key, sample in seen.items():
        own = expected[key]
        assert np.array_equal(sample["latents"], own["latents"])
        assert np.array_equal(sample["actions"], own["actions"])
        views = {"front.jpg": sample["now"], "wrist.jpg": sample["sample"]["wrist.jpg"]}
        for name, image in views.items():
            assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(own[name]))))
        assert sample["sample"]["json"] == json.loads(own["json"])
        assert sample["state"].dtype == np.float32


def test_a_pushed_build_has_its_splits_by_the_card(build: Path, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/place"
    push_to_bucket(build_contents(PushConfig(what=build, out=place), place), place)
    loaded = datasets.load_dataset(str(tmp_path / "place"))
    assert {split: loaded[split].num_rows for split in loaded} == {"train": 14, "val": 7}
    assert set(loaded["train"].features) == {"front.jpg", "wrist.jpg", "json", "__key__", "__url__"}
    assert loaded["train"]["__key__"] == list(stored(build))
