"""`vlajepa estimate`: memory and FLOPs of a training step, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobs.common.text import duration_text
from jobs.training.builds.common_sizes import common_sizes
from jobs.training.settings import EstimateConfig
from model.estimate import StepEstimate, estimate_step
from pipeline.format.build import load_build
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.enums import EncoderMode, FloatDtype, Resize

GIB = 2**30
VITL_ENCODER = EncoderIdentity(
    mode=EncoderMode.PREFIX,
    resize=Resize.CROP,
    dtype=FloatDtype.BFLOAT16,
    device="cuda",
    crop_size=256,
    tokens=256,
    width=1024,
    layers=24,
    mlp_ratio=4.0,
)
"""V-JEPA2 ViT-L (facebook/vjepa2-vitl-fpc64-256, its config.json)."""


def run(settings: EstimateConfig) -> StepEstimate:
    sizes, kinds, encoder = settings.sizes, settings.kinds, replace(VITL_ENCODER, tokens=settings.sizes.tokens)
    if settings.builds:
        builds = [load_build(path) for path in settings.builds]
        sizes, _ = common_sizes(builds, settings.model)
        kinds = tuple("robot" if build.has_actions else "video" for build in builds)
        encoder = builds[0].settings.encoder
    estimate = estimate_step(
        settings.model,
        sizes,
        settings.batch_size,
        kinds,
        settings.bf16,
        settings.instruction,
        averaged=settings.ema,
    )
    print(describe(estimate, settings, kinds))
    if encoder.width == sizes.width:
        views = sum(sizes.views if kind == "robot" else 1 for kind in kinds)
        print(describe_online(estimate, settings.batch_size * views * encoder.flops(sizes.steps)))
    return estimate


def describe(estimate: StepEstimate, settings: EstimateConfig, kinds: Sequence[str]) -> str:
    """The estimate as a table."""
    e = estimate
    tokens = ", ".join(f"{count} tokens a {kind} prompt" for kind, count in e.prompt_tokens.items())
    hardware = settings.hardware
    seconds = e.flops / hardware.step_flops
    speed = f"{hardware.cores} cores at {hardware.core_flops / 1e9:g} GFLOP/s each"
    if hardware.gpus:
        share = f"{hardware.step_utilisation:.0%} ({hardware.step_basis})"
        speed = f"a GPU at {share} of {hardware.flops / 1e12:g} TFLOP/s"
    rows = [
        ("weights", e.weights),
        ("AdamW's moments", e.moments),
        *([("moving averages of the weights", e.averages)] if settings.ema else []),
        ("gradients", e.gradients),
        ("activations that the backward pass begins with", e.kept),
        ("highest point of forward and backward, with gradients", e.passes),
        ("highest point of the optimiser's step, with gradients", e.optimiser),
        ("peak", e.peak),
    ]
    lines = [
        f"batch {settings.batch_size} of each of {', '.join(kinds)}; {tokens}",
        f"parameters: {', '.join(f'{part} {n / 1e6:,.1f} M' for part, n in e.parameters.items())}; "
        f"{e.trainable / 1e6:,.1f} M trained",
        *(f"{name:56} {size / GIB:9.3f} GiB" for name, size in rows),
        *(f"{f'forward, {part}':56} {n / 1e12:9.3f} TFLOP" for part, n in e.forward.items()),
        f"{'backward':56} {e.backward / 1e12:9.3f} TFLOP",
        f"{'step':56} {e.flops / 1e12:9.3f} TFLOP",
        f"{speed}: {seconds:.3g} s a step, {duration_text(settings.steps * seconds)} for {settings.steps:,} steps",
    ]
    return "\n".join(lines)


def describe_online(estimate: StepEstimate, encoding: float) -> str:
    """What it would cost to encode the targets in every step rather than read them."""
    ratio = (estimate.flops + encoding) / estimate.flops
    return f"encoding the targets in the step instead of reading them: {encoding / 1e12:.3f} TFLOP more, {ratio:.2f} x"
