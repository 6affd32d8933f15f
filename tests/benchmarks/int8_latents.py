"""Latents stored as int8 beside float16 ones of the same raw data: what training loses, disk and reading gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.batch import to_device
from model.settings import ModelSettings, tiny_settings
from model.vla_jepa import build_model
from pipeline.format.build import Build
from pipeline.format.build_settings import EncoderSettings, LatentSettings, ShardSettings, WindowPolicy
from pipeline.format.enums import LatentDtype
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.shards.int8 import dequantise, quantise
from pipeline.shards.targets_arrow import TargetRows, TargetsReader, TargetsWriter
from pipeline.storage.atomic import atomic_stream
from pipeline.streaming.reader import SampleReader
from tests.benchmarks.full_size_build import CHUNK, SIZES, RandomSamples
from tests.benchmarks.random_encoder import MID_ENCODER, TINY_ENCODER, save_random_encoder
from tests.benchmarks.report import interleaved, print_table, quietly, seconds_of
from tests.jobs.runs import build_config, make_here, ssv2_source


@dataclass(frozen=True)
class Scale:
    """Raw data, its windows, the second encoder, training steps and their samples, rows of the reference's size."""

    clips: int = 60
    windows_per_clip: int = 4
    encoder: Mapping[str, Any] = field(default_factory=lambda: MID_ENCODER)
    steps: int = 40
    batch: int = 8
    rows: int = 64


TINY = Scale(8, 1, TINY_ENCODER, steps=2, batch=2, rows=CHUNK)


@dataclass(frozen=True)
class Pair:
    """A build of each type from the same raw data by the same encoder, in the order of LatentDtype."""

    name: str
    builds: tuple[Build, ...]
    model: ModelSettings


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """One table for each of two encoders, and one of reading rows of the reference's size."""
    root = folder / "ssv2"
    write_ssv2(root, scale.clips, seed=0)
    weights = save_random_encoder(folder / "encoder", scale.encoder)
    tiny = tiny_settings(views=1)
    layers, width = scale.encoder["num_hidden_layers"], scale.encoder["hidden_size"]
    for name, encoder, model in (
        ("the tiny encoder, width 96", EncoderSettings(kind="tiny", resize="squash"), tiny),
        (
            f"V-JEPA2 of {layers} layers, width {width}, random weights",
            EncoderSettings(name_or_path=str(weights), resize="squash"),
            replace(tiny, predictor=replace(tiny.predictor, init="reference")),
        ),
    ):
        builds = [_build(root, folder / f"{encoder.kind}-{dtype}", encoder, dtype, scale) for dtype in LatentDtype]
        _print(Pair(name, tuple(builds), model), repeats, scale)
    _print_full_size(folder, repeats, scale.rows)


def _build(root: Path, out: Path, encoder: EncoderSettings, dtype: str, scale: Scale) -> Build:
    """Made in this process: how long it takes is not measured here."""
    config = build_config(
        out,
        ssv2_source(root),
        window=WindowPolicy(interval=2, every=0, per_episode=scale.windows_per_clip),
        encoder=encoder,
        shards=ShardSettings(samples=32, group_samples=16),
        latents=LatentSettings(dtype=dtype),
    )
    with quietly():
        return make_here(config)


def _print(pair: Pair, repeats: int, scale: Scale) -> None:
    exact, stored = pair.builds
    losses = [_losses(build, pair.model, scale) for build in pair.builds]
    gap = np.abs(losses[1] - losses[0]) / losses[0]
    rates = interleaved(
        {f"samples/s read, {dtype}": _reading(build) for dtype, build in zip(LatentDtype, pair.builds, strict=True)},
        repeats,
    )
    size = [_bytes_per_sample(build) for build in pair.builds]
    errors = ", ".join(f"{error:.4%}" for error in stored.manifest["latents"]["relative_error"])
    notes = [
        f"{exact.manifest['counts']['train']['samples']} train samples; {scale.steps} steps of model=tiny, "
        f"{scale.batch} samples",
        f"relative error of steps 0..{exact.sizes.steps}: {errors}",
        f"the same over the train split with float32 scales {_error(exact, np.float32):.6%}, with float16 ones "
        f"{_error(exact, np.float16):.6%}",
        f"bytes of targets a sample: {size[0]:,.0f} float16, {size[1]:,.0f} int8 ({size[1] / size[0]:.3f})",
        f"loss, float16: {losses[0][0]:.6f} at step 1, {losses[0][-1]:.6f} at step {scale.steps}",
        f"relative difference of the loss with int8: {gap[0]:.2e} at step 1, {gap[-1]:.2e} at step {scale.steps}, "
        f"largest {gap.max():.2e} at step {gap.argmax() + 1}, mean {gap.mean():.2e}",
    ]
    series = list(rates.values())
    print_table(f"int8 latents: {pair.name}", "", series, [series[1].over(series[0], "int8 / float16")], notes)


def _losses(build: Build, settings: ModelSettings, scale: Scale) -> NDArray[np.float64]:
    """Of each step, on the same samples in the same order: a build's own order hangs on its fingerprint."""
    torch.manual_seed(0)
    model = build_model(settings, build.sizes, None).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    reader, order = SampleReader(build, "train"), np.random.default_rng(0)
    losses = []
    for _ in range(scale.steps):
        chosen = order.choice(len(reader), scale.batch, replace=False)
        batch = to_device(reader.read(chosen), torch.device("cpu"), settings.predictor.views)
        loss = model.losses(batch.observation, batch.targets).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def _reading(build: Build) -> Callable[[], float]:
    """Samples a second, images included, in one thread; files lie in the page cache."""
    reader = SampleReader(build, "train")
    batches = [np.arange(i, min(i + 16, len(reader))) for i in range(0, len(reader), 16)]
    return lambda: len(reader) / seconds_of(lambda: [reader.read(chosen) for chosen in batches])


def _error(build: Build, kind: Any) -> float:
    """Relative error of the train split's float16 latents, with scales rounded to a type before they are used."""
    reader = SampleReader(build, "train")
    targets = reader.read(np.arange(len(reader))).targets
    exact = np.concatenate([targets.context[:, None], targets.latents], axis=1).astype(np.float32)
    scale = quantise(exact)[1].astype(kind).astype(np.float32)[..., None]
    divided = np.divide(exact, scale, out=np.zeros_like(exact), where=scale > 0)
    gap = exact - np.rint(divided).clip(-127, 127) * scale
    return float(np.linalg.norm(gap.astype(np.float64)) / np.linalg.norm(exact.astype(np.float64)))


def _bytes_per_sample(build: Build) -> float:
    shards = build.manifest["shards"]
    return sum(shard["targets"]["bytes"] for shard in shards) / sum(shard["samples"] for shard in shards)


def _print_full_size(folder: Path, repeats: int, count: int) -> None:
    paths = [folder / f"full-{dtype}.arrow" for dtype in LatentDtype]
    _write_full_size(paths, count)
    runs = {
        f"samples/s read at random, {dtype}": _rows(path, dtype, count)
        for dtype, path in zip(LatentDtype, paths, strict=True)
    }
    series = list(interleaved(runs, repeats).values())
    sizes = [path.stat().st_size / count for path in paths]
    notes = [
        f"{SIZES.views} views x {SIZES.steps + 1} steps x {SIZES.tokens} tokens x {SIZES.width}; one thread",
        f"bytes a sample: {sizes[0]:,.0f} float16, {sizes[1]:,.0f} int8 ({sizes[1] / sizes[0]:.4f})",
    ]
    print_table(
        "int8 latents: rows of the reference's size", "", series, [series[1].over(series[0], "int8 / float16")], notes
    )


def _write_full_size(paths: Sequence[Path], count: int) -> None:
    samples = RandomSamples()
    with (
        TargetsWriter(atomic_stream(paths[0]), SIZES, {}) as exact,
        TargetsWriter(atomic_stream(paths[1]), SIZES, {}, "int8") as stored,
    ):
        for start in range(0, count, CHUNK):
            rows = samples.rows(range(start, start + CHUNK))
            exact.add(rows)
            stored.add(_as_int8(rows))


def _as_int8(rows: TargetRows) -> TargetRows:
    (context, context_scale), (latents, latents_scale) = quantise(rows.context), quantise(rows.latents)
    gap = np.abs(dequantise(context, context_scale) - rows.context.astype(np.float32)).max()
    if gap > 0.05:
        raise RuntimeError(f"int8 latents are off by {gap}, about 0.02 was expected")
    return replace(rows, context=context, context_scale=context_scale, latents=latents, latents_scale=latents_scale)


def _rows(path: Path, dtype: str, count: int) -> Callable[[], float]:
    reader = TargetsReader(path, SIZES, dtype)
    kind = np.float16 if dtype == "float16" else np.int8
    token = (SIZES.views, SIZES.tokens)
    arrays: dict[str, Any] = {
        "context": np.zeros((*token, SIZES.width), kind),
        "latents": np.zeros((SIZES.steps, *token, SIZES.width), kind),
    }
    if dtype == "int8":
        arrays |= {"context_scale": np.zeros(token, np.float32), "latents_scale": np.zeros((SIZES.steps, *token), "f4")}
    order = np.random.default_rng(0).permutation(count)
    return lambda: count / seconds_of(lambda: [reader.read_into(int(row), **arrays) for row in order])
