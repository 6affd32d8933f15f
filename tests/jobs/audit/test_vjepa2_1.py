"""Builds of V-JEPA 2.1 at every level of the audit: clean if honest, found if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.audit.audit import audit
from jobs.audit.options import load_encoder
from jobs.audit.settings import AuditConfig
from jobs.preprocess.plan import describe
from jobs.preprocess.settings import BuildConfig
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.weights import loading, released
from pipeline.encoder.weights.released import ReleasedEncoder
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderSettings, LatentSettings, WindowPolicy
from pipeline.format.enums import Release
from pipeline.planning.plan import read_plan
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.jobs import runs
from tests.jobs.runs import build_config, make_here, ssv2_source
from tests.pipeline.encoder.tiny_vjepa2_1 import save_tiny_vjepa2_1, tiny_vjepa2_1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_vjepa2_1(tmp_path_factory.mktemp("vjepa2_1"))


def configured(folder: str, data: SampleData, out: Path, mode: str = "prefix", dtype: str = "float16") -> BuildConfig:
    """Two episodes of each split, two windows each."""
    window = WindowPolicy(interval=2, every=0, per_episode=2)
    encoder = EncoderSettings(name_or_path=folder, resize="squash", mode=mode)
    config = build_config(out, ssv2_source(data.ssv2), window=window, encoder=encoder)
    return replace(config, latents=LatentSettings(dtype=dtype), limit=2)


def audited(config: BuildConfig, data: SampleData, level: str) -> Verdict:
    path = config.encoder.name_or_path
    return audit(AuditConfig(build=config.out, level=level, root=data.ssv2, encoder_path=path, nonce="n0", share=1.0))[
        0
    ]


@pytest.mark.parametrize(("mode", "dtype"), [("prefix", "float16"), ("tubelet", "int8")])
def test_an_honest_build_is_clean_at_every_level(
    folder: str, sample_data: SampleData, tmp_path: Path, mode: str, dtype: str
) -> None:
    config = configured(folder, sample_data, tmp_path / "build", mode, dtype)
    build = make_here(config)
    assert (build.settings.encoder.tokens, build.settings.encoder.width) == (16, 96)
    assert "1 views x 16 tokens x 96" in describe(read_plan(open_store(build.path)), build.path)
    verdict = audited(config, sample_data, "perturb")
    assert verdict.status == "clean", verdict.findings


def whole_clip(encoder: Encoder) -> None:
    encoder.settings = replace(encoder.settings, mode="clip")


def positions_of_vjepa2(encoder: Encoder) -> None:
    for block in encoder.model.encoder.blocks:
        block.attn.rotary = replace(block.attn.rotary, paired=False, spacing=1.0)


def no_modality(encoder: Encoder) -> None:
    encoder.model.encoder.video_mod_embed.data.zero_()


def another_levels_norm(encoder: Encoder) -> None:
    norms = encoder.model.encoder.norms_block
    norms[-1] = norms[0]


@pytest.mark.parametrize("leak", [whole_clip, positions_of_vjepa2, no_modality, another_levels_norm])
def test_what_another_encoder_or_mode_makes_is_found_beside_the_raw_data(
    folder: str,
    sample_data: SampleData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leak: Callable[[Encoder], None],
) -> None:
    """The weights are those that build.json names."""

    def leaky(settings: EncoderSettings, device: str, *kernels: Any) -> Encoder:
        encoder = Encoder(settings, device, *kernels)
        leak(encoder)
        return encoder

    config = configured(folder, sample_data, tmp_path / "build")
    monkeypatch.setattr(runs, "Encoder", leaky)
    make_here(config)
    assert audited(config, sample_data, "shards").status == "clean"
    found = audited(config, sample_data, "source").findings
    assert any(f.rule == "L2" and "is not what the encoder makes" in f.detail for f in found), found


def test_other_weights_are_refused(folder: str, sample_data: SampleData, tmp_path: Path) -> None:
    config = configured(folder, sample_data, tmp_path / "build")
    make_here(config)
    other = save_tiny_vjepa2_1(tmp_path / "other", seed=1)
    with pytest.raises(Exception, match="the given encoder has weights"):
        audited(replace(config, encoder=replace(config.encoder, name_or_path=other)), sample_data, "source")


def test_the_audit_reads_a_released_file_by_the_builds_sizes(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.pt` has no config.json: class and sizes in build.json tell which release it is."""
    identity = Encoder(EncoderSettings(name_or_path=folder, resize="squash"), "cpu").identity()
    path = tmp_path / "weights.pt"
    torch.save({"ema_encoder": tiny_vjepa2_1().encoder.state_dict(), "epoch": 1}, path)
    tiny = ReleasedEncoder("tiny.pt", "ema_encoder", "VJEPA21Model", 64, 96, 2, 4, 4.0)
    for module in (loading, released):
        monkeypatch.setattr(module, "RELEASED", {Release.VJEPA2_1_BASE: tiny})
    assert load_encoder(identity, str(path), "cpu").identity() == identity
    with pytest.raises(SettingsError, match=r"no config\.json"):
        load_encoder(identity | {"layers": 3}, str(path), "cpu")
