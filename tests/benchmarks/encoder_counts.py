"""What the encoder on CUDA asks of a device, counted on tensors without memory: passes, operators, casts, graphs.

The packed form as `preprocess` runs it, by PyTorch's operators as they come, not compiled. A kernel is launched for
about each operator that is no view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import VJEPA2Config

from model.attention.transformers_attention import use_attention
from pipeline.encoder.encoder_weights import cast_weights
from pipeline.encoder.packed_forward import PackedForward
from pipeline.encoder.packs import cut_packs
from pipeline.encoder.rotary_tables import kept_tables
from pipeline.encoder.weights.loading import build_on_meta
from pipeline.format.enums import EncoderMode
from tests.benchmarks.random_encoder import TINY_ENCODER
from tests.benchmarks.report import Series, print_table
from tests.benchmarks.step_counts import PRODUCTS, OperatorCounts


@dataclass(frozen=True)
class Scale:
    """Windows of one view and K = `steps` in mode prefix, by an encoder; none: ViT-L."""

    encoder: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 3
    windows: int = 128
    batch: int = 64


TINY = Scale(TINY_ENCODER, steps=1, windows=3, batch=2)


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Print the table. Nothing is timed, so it is done once."""
    valid = np.ones((scale.windows, scale.steps + 1), bool)
    packs = list(cut_packs(valid, 1, EncoderMode.PREFIX, scale.batch))
    shapes = {(len(pack.rows), len(pack.kept)) for pack in packs}
    config = VJEPA2Config(**scale.encoder)
    kept_tables.cache_clear()  # and again below: what has no memory must not be kept
    model = build_on_meta(config).eval()
    cast_weights(model, torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), OperatorCounts() as counts:
        for module in model.encoder.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype), False))
        use_attention(model, "sdpa")
        forward = PackedForward(model, torch.bfloat16)
        counts.calls, counts.bytes, counts.casts = Counter(), Counter(), 0
        for pack in packs:
            forward(torch.zeros(len(pack.rows), 2, config.crop_size, config.crop_size, 3, dtype=torch.uint8), pack)
    kept_tables.cache_clear()
    products = sum(n for name, n in counts.calls.items() if name in PRODUCTS or "attention" in name)
    needed = valid.sum(axis=1) * (valid.sum(axis=1) + 1) // 2
    found = {
        "passes": len(packs),
        "sizes of passes: recorded graphs": len(shapes),
        "operators": counts.calls.total(),
        "of these, products of matrices and attention": products,
        "of these, casts": counts.casts,
    }
    title = (
        f"{scale.windows} windows of one view, K = {scale.steps}, mode prefix, batch={scale.batch}, bf16, not compiled"
    )
    print_table(
        title,
        "calls",
        [Series(name, (float(count),)) for name, count in found.items()],
        [Series("tubelets in packs / needed", (sum(len(pack.rows) for pack in packs) / needed.sum(),))],
        [f"{counts.bytes.total() / 1e12:.3f} TB read and written"],
    )
