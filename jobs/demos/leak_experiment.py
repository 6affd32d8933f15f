"""How much of the future a context latent holds: by moving the future alone, and by predicting it linearly.

W samples, F features of a latent (V views x N tokens x D width).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.audit.options import load_encoder
from jobs.latent_probes.ridge import Vectors
from pipeline.audit.rederive.perturbed_episode import PerturbedEpisode, Replacement, black, frames_of, noise
from pipeline.audit.samples import chosen_rows
from pipeline.building.rebuild import SampleRebuilder
from pipeline.format.build import Build
from pipeline.planning.plan import read_plan
from pipeline.shards.int8 import float_targets
from pipeline.sources.registry import make_source
from pipeline.storage.store import open_store
from pipeline.streaming.reader import SampleReader

KINDS = ("noise", "another episode", "black")


def context_shifts(path: Path, root: Path, count: int, seed: int) -> dict[str, list[float]]:
    """Relative change of the context, |z_0' - z_0| / |z_0|, when all frames after `now` are replaced: for each of
    KINDS, of `count` samples of a build with the tiny encoder, chosen by `seed`."""
    plan = read_plan(open_store(path))
    settings = {**plan.content["source"], "root": str(root.resolve())}
    encoder = load_encoder(dict(plan.content["encoder"]), "", "cpu")
    rebuilder = SampleRebuilder(plan, make_source(settings.pop("type"), **settings), encoder.encode)
    refs = [(ref.id, ref.num_frames) for task in plan.tasks for ref in task.episodes]
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for at in chosen_rows(len(refs), seed, 0.0, count):
        episode_id, other = refs[at][0], refs[(at + 1) % len(refs)][0]
        with rebuilder.open(episode_id) as episode, rebuilder.open(other) as stranger:
            now = episode.num_frames // 3
            before = rebuilder.latents(episode, now)[0].astype(np.float64)
            replacements: dict[str, Replacement] = {"noise": noise, "black": black, KINDS[1]: frames_of(stranger)}
            for kind in KINDS:
                perturbed = PerturbedEpisode(episode, now, replacements[kind])
                after = rebuilder.latents(perturbed, now)[0].astype(np.float64)
                found[kind].append(float(np.linalg.norm(after - before) / np.linalg.norm(before)))
    return found


@dataclass(frozen=True)
class Latents:
    """Contexts float64 [W, F] and futures float64 [K, W, F] of one split, with the samples' keys."""

    keys: tuple[str, ...]
    context: Vectors
    future: Vectors


def read_latents(build: Build, split: str) -> Latents:
    """All samples of a split whose future steps all exist."""
    reader = SampleReader(build, split)
    parts = [reader.read(np.arange(i, min(i + 64, len(reader)))) for i in range(0, len(reader), 64)]
    whole = np.concatenate([part.targets.latent_mask.all(axis=1) for part in parts])
    keys = [key for part in parts for key in part.keys]
    targets = [float_targets(part.targets) for part in parts]
    context = np.concatenate([part.context for part in targets]).astype(np.float64)[whole]
    future = np.concatenate([part.latents for part in targets]).astype(np.float64)[whole]
    steps = future.shape[1]
    return Latents(
        tuple(key for key, ok in zip(keys, whole, strict=True) if ok),
        context.reshape(len(context), -1),
        np.moveaxis(future, 1, 0).reshape(steps, len(context), -1),
    )


def common(a: Latents, b: Latents) -> tuple[Latents, Latents]:
    """The samples that both hold, in one order."""
    keys = [key for key in a.keys if key in set(b.keys)]
    return _take(a, keys), _take(b, keys)


def _take(latents: Latents, keys: list[str]) -> Latents:
    place = {key: i for i, key in enumerate(latents.keys)}
    rows = [place[key] for key in keys]
    return Latents(tuple(keys), latents.context[rows], latents.future[:, rows])
