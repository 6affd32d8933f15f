"""What each released encoder costs: `plan`'s rows, the table of the documentation, the predictor that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.common.text import size_text
from jobs.preprocess.encoder_costs import describe_encoder_costs, encoder_costs
from jobs.preprocess.plan import prepare
from model.settings import PredictorSettings
from model.world_model.predictor import LatentPredictor
from pipeline.encoder.weights.loading import build_on_meta, released_config
from pipeline.encoder.weights.released import RELEASED
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.enums import EncoderMode, FloatDtype, LatentDtype, Release, Resize
from pipeline.format.schema import Sizes
from pipeline.planning.cost import Counts
from tests.conftest import SampleData
from tests.jobs.runs import build_config, ssv2_source
from tests.jobs.test_cli import run
from tests.pipeline.encoder.tiny_vjepa2_1 import save_tiny_vjepa2_1

PAGE = Path(__file__).parents[3] / "docs" / "preprocess.md"

VITL = EncoderIdentity(EncoderMode.PREFIX, Resize.CROP, FloatDtype.BFLOAT16, "cuda", 256, 256, 1024, 24, 4.0)
SIZES = Sizes(views=1, image_size=224, steps=3, tokens=256, width=1024, state=0, chunk=0, action=0)


def test_the_documented_table_is_what_a_window_takes() -> None:
    """One view, K = 3, mode prefix, float16."""
    rows = {line.split("|")[1].strip(): line for line in PAGE.read_text().splitlines() if line.startswith("| `v")}
    assert set(rows) == {f"`{release}`" for release in RELEASED}
    for cost in encoder_costs(Counts(1, 1, 4, 1, True), SIZES, VITL, LatentDtype.FLOAT16):
        known = RELEASED[cost.release]
        count = sum(p.numel() for p in build_on_meta(released_config(cost.release)).encoder.parameters())
        cells = (
            f"`{cost.release}`",
            f"`{known.file}`",
            f"{count / 1e6:,.0f} M",
            str(known.crop_size),
            f"{cost.tokens} x {cost.width}",
            size_text(cost.target_bytes),
            f"{cost.flops / 1e12:.1f}",
        )
        assert rows[f"`{cost.release}`"] == f"| {' | '.join(cells)} |"


def test_the_rows_of_plan_agree_with_the_plan_of_that_encoder(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny encoder in the place of a released one gets the cost that its own plan states."""
    config = build_config(tmp_path / "build", ssv2_source(sample_data.ssv2))
    plan = prepare(config).plan
    tiny = next(iter(RELEASED.values()))
    tiny = type(tiny)("tiny.pt", "x", "VJEPA2Model", 64, 96, 2, 4, 4.0)
    monkeypatch.setattr("jobs.preprocess.encoder_costs.RELEASED", {Release.VITL: tiny})
    ((name, text),) = describe_encoder_costs(plan)
    cost = plan.estimate
    assert name == "encoder=vitl"
    assert text == f"16 tokens x 96, targets {size_text(cost.target_bytes)}, {cost.flops:.3g} FLOPs"


@pytest.mark.parametrize("release", RELEASED)
def test_the_predictor_follows_width_and_tokens(release: Release) -> None:
    known = RELEASED[release]
    settings = PredictorSettings(depth=1, views=2)
    with torch.device("meta"):
        predictor = LatentPredictor(settings, 3, known.tokens, known.width, 64, 8)
        latents = torch.zeros(1, 3 * known.tokens, 2 * known.width)
        assert predictor(latents, torch.zeros(1, 24, 64)).shape == latents.shape


def test_plan_refuses_an_encoder_with_one_key_missing_and_shows_the_others_costs(
    sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny_vjepa2_1(tmp_path / "encoder")
    words = ["plan", f"source.root={sample_data.ssv2}", "window.interval=2", f"out={tmp_path}/build"]
    words += ["encoder=vjepa2_1_base", f"encoder.name_or_path={folder}"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "crop_size is 64, that of encoder=vjepa2_1_base is 384" in err
    code, out, _ = run(capsys, *words, "encoder.release=any")
    assert code == 0
    assert "1 views x 16 tokens x 96" in out
    assert all(f"encoder={release}" in out for release in RELEASED)
    tensors = load_file(tmp_path / "encoder" / "model.safetensors")
    del tensors["encoder.blocks.1.norm2.weight"]
    save_file(tensors, tmp_path / "encoder" / "model.safetensors")
    code, _, err = run(capsys, *words, "encoder.release=any")
    assert code == 2
    assert "lacks blocks.1.norm2.weight [96]" in err
