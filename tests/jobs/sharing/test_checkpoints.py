"""Checkpoints are pushed whole, with their run's held-out numbers, and act from where they were fetched to."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest

from jobs.sharing.push import run
from jobs.sharing.settings import PushConfig
from model.checkpoint.state_file import STATE, verify_checkpoint
from model.checkpoint.vouched import VOUCHED, Voucher, as_json
from pipeline.errors import AuditRefusedError, BuildError, CorruptError, SettingsError
from pipeline.format.build import load_build
from tests.jobs.closed_loop.checkpoints import untrained
from tests.jobs.sharing.hub_server import Hub

PLACE = "hf://me/policy"


@pytest.fixture
def trained(build: Path, tmp_path: Path) -> Path:
    """A run's folder with one checkpoint and held-out numbers."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("")
    (folder / "held_out.json").write_text(json.dumps({"tiny": {"model": 0.125}}))
    untrained(folder / "checkpoints" / "step-00000000", load_build(build))
    return folder


def test_a_runs_newest_checkpoint_arrives(hub: Hub, trained: Path, tmp_path: Path) -> None:
    pushed = run(PushConfig(what=trained, out=PLACE))
    assert set(pushed.sent) == {"README.md", "checkpoint/model.safetensors", f"checkpoint/{STATE}"}
    card = hub.repositories["models/me/policy"].files["README.md"][0].decode()
    assert "world-model loss (L1, teacher forced): 0.1250" in card
    assert "sample: clean at level shards, unsigned" in card
    copy = huggingface_hub.snapshot_download("me/policy", local_dir=tmp_path / "copy", endpoint=hub.url)
    verify_checkpoint(Path(copy) / "checkpoint")
    assert not run(PushConfig(what=trained / "checkpoints" / "step-00000000", out=PLACE)).sent


def test_data_without_a_clean_verdict_needs_a_word(hub: Hub, build: Path, tmp_path: Path) -> None:
    leaky = as_json([Voucher("clip", "leaky", "unsigned", False, True)])
    checkpoint = untrained(tmp_path / "step-00000000", load_build(build), **{VOUCHED: leaky})
    with pytest.raises(AuditRefusedError, match=r"without a clean verdict \(clip: leaky"):
        run(PushConfig(what=checkpoint, out=PLACE))
    run(PushConfig(what=checkpoint, out=PLACE, unaudited=True))
    assert "clip: leaky" in hub.repositories["models/me/policy"].files["README.md"][0].decode()


def test_changed_weights_are_refused(hub: Hub, trained: Path) -> None:
    weights = trained / "checkpoints" / "step-00000000" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptError, match=r"model\.safetensors: its SHA-256 is"):
        run(PushConfig(what=trained, out=PLACE))
    assert f"checkpoint/{STATE}" not in hub.repositories["models/me/policy"].files


def test_what_is_neither_is_refused(hub: Hub, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is neither a checkpoint nor a run with one"):
        run(PushConfig(what=tmp_path, out=PLACE))
    with pytest.raises(SettingsError, match="is a checkpoint, which goes to hf://OWNER/NAME"):
        run(PushConfig(what=trained, out="hf://datasets/me/policy"))
    with pytest.raises(SettingsError, match="public_key is for builds"):
        run(PushConfig(what=trained, out=PLACE, public_key=tmp_path / "key.pem"))
    assert not hub.repositories
