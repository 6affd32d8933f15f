"""Latent actions of a build's samples, and the things that probes look for in them.

Letters: N samples, K future steps, E width of latent actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.training.loop.data import held_out_reader, open_cache
from jobs.training.loop.settings import TrainerSettings
from model.batch import to_device
from model.vla_jepa import VLAJEPA
from pipeline.errors import RunError
from pipeline.format.build import Build
from pipeline.format.json.strict_json import parse_any
from pipeline.streaming.stream import ordered_indices

BATCH = 32
Facts = Mapping[str, Mapping[str, float]]
"""Numbers by episode and name."""


@dataclass(frozen=True)
class Probed:
    """features float64 [N, K*E]; things float64 [N] by name, NaN where a sample has none; episodes: how many."""

    features: NDArray[np.float64]
    things: Mapping[str, NDArray[np.float64]]
    episodes: int


LARGEST_TRUTH = 2**28
"""Bytes."""


def read_truth(path: Path) -> Facts:
    """Numbers of each episode. Raises RunError if a line is not JSON with an episode and numbers."""
    facts = {}
    if not path.is_file() or path.stat().st_size > LARGEST_TRUTH:
        raise RunError(f"{path} is no file of at most {LARGEST_TRUTH:,} bytes")
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = parse_any(line)
            episode = str(row.pop("episode"))
            facts[episode] = {str(name): float(value) for name, value in row.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        example = '{"episode": "000012", "named_x": 0.1, …}'
        raise RunError(f"{path} is no file of JSON lines like {example}: {error}") from error
    return facts


@torch.no_grad()
def read_probed(model: VLAJEPA, build: Build, split: str, count: int, facts: Facts, device: torch.device) -> Probed:
    """Latent actions of `count` samples, spread over a split, and the things to find in them.

    The things: the sum of the chunk's actions, channel by channel where it varies (robots), and the numbers of `facts`.

    Raises:
        BuildError: the build has no samples in this split.
    """
    cache = open_cache([build], TrainerSettings())  # of a remote build
    reader, tokens = (
        held_out_reader(build, TrainerSettings(), cache, split, model.settings),
        model.settings.prompt.action_tokens_per_step,
    )
    features, motions, episodes = [], [], list[str]()
    for chosen in ordered_indices(len(reader), BATCH, count):
        moved = to_device(reader.read(chosen), device, model.settings.predictor.views)
        latent = model.student(moved.observation)[0].latent_actions
        features.append(latent.unflatten(1, (-1, tokens)).mean(2).flatten(1).double().cpu().numpy())
        if moved.targets.actions is not None and moved.targets.action_mask is not None:
            actions = moved.targets.actions * moved.targets.action_mask[..., None]
            motions.append(actions.sum(1).double().cpu().numpy())
        episodes += [reader.episode(int(index)).removeprefix(f"{build.name}-") for index in chosen]
    things = {}
    if motions:
        motion = np.concatenate(motions)
        things = {f"action {i}, summed over the chunk": motion[:, i] for i in np.flatnonzero(motion.std(0) > 1e-6)}
    for name in dict.fromkeys(name for row in facts.values() for name in row):
        things[name] = np.array([facts.get(episode, {}).get(name, np.nan) for episode in episodes])
    return Probed(np.concatenate(features), things, len(set(episodes)))
