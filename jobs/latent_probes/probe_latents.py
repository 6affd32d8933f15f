"""`vlajepa probe-latents`: linear probes of what latent actions hold, beside those of the student before training.

A ridge regression from the latent actions, the mean of each future step's tokens, is fitted on train samples and tried
on validation samples. Writes RUN/probes.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from jobs.common.policy.device import pick_device
from jobs.common.policy.load_model import load_model
from jobs.common.text import markdown_table
from jobs.latent_probes.features import Probed, read_probed, read_truth
from jobs.latent_probes.ridge import explained
from jobs.latent_probes.settings import ProbeLatentsConfig
from jobs.report.run_files import read_run
from jobs.report.samples import find_builds
from model.checkpoint.folders import list_checkpoints
from model.normalize import unit_stats
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import RunError, SettingsError
from pipeline.format.build import Build
from pipeline.storage.atomic import write_atomic

PROBES_FILE = "probes.json"
READING = (
    "R^2 on held-out samples: 1 is all of it, 0 no more than the mean. A probe shows that latent actions hold a thing, "
    "not that the predictor uses it; what a student with random weights reaches was no work of training (a run with "
    "init_from did not learn all the rest itself). The robot's motion follows from instruction and picture together; "
    "where the named thing stands is in the picture alone."
)


@dataclass(frozen=True)
class Probe:
    """R^2 of one thing from the latent actions of the trained student, and of one with random weights.

    samples, held_out  how many it was fitted on, and tried on
    held_out_episodes  whose the latter are; None in files of earlier versions
    """

    build: str
    thing: str
    trained: float
    untrained: float
    samples: int
    held_out: int
    held_out_episodes: int | None = None


def run(settings: ProbeLatentsConfig) -> list[Probe]:
    probes = probe_run(settings)
    path = settings.run / PROBES_FILE
    write_atomic(path, (json.dumps([asdict(probe) for probe in probes], indent=2) + "\n").encode())
    print(probe_table(probes) + f"\n\n{READING}\n{path}")
    return probes


def probe_table(probes: list[Probe]) -> str:
    """As Markdown."""
    rows = [
        (
            *(p.build, p.thing, f"{p.trained:.2f}", f"{p.untrained:.2f}", f"{p.held_out:,}"),
            "-" if p.held_out_episodes is None else f"{p.held_out_episodes:,}",
        )
        for p in probes
    ]
    header = ("build", "thing", "R^2, trained", "R^2, random student", "held-out samples", "held-out episodes")
    return markdown_table(header, rows)


def probe_run(settings: ProbeLatentsConfig) -> list[Probe]:
    """Probes of the newest checkpoint on each build of the run that has a validation split.

    Raises:
        RunError: no checkpoint, or a build cannot be used.
        SettingsError: `truth` is not one file a build.
    """
    record = read_run(settings.run)
    found = find_builds(record, settings.builds)
    if settings.truth and len(settings.truth) != len(found):
        names = ", ".join(each.name for each in found)
        raise SettingsError(f"truth must be one file a build ({names}), got {len(settings.truth)}")
    checkpoints = list_checkpoints(settings.run / "checkpoints")
    if not checkpoints:
        raise RunError(f"{settings.run / 'checkpoints'} holds no checkpoint, so there is no model to probe")
    trained = load_model(checkpoints[-1])
    untrained = build_model(trained.settings, trained.sizes, unit_stats(trained.sizes)).eval()
    device = pick_device(settings.device)
    models = {"trained": trained.to(device), "untrained": untrained.to(device)}
    probes: list[Probe] = []
    for i, each in enumerate(found):
        if each.build is None:
            raise RunError(f"{each.name}: {each.problem}")
        truth = settings.truth[i] if settings.truth else None
        probes += _probe_build(models, each.build, truth, settings, device)
    return probes


def _probe_build(
    models: Mapping[str, VLAJEPA], build: Build, truth: Path | None, settings: ProbeLatentsConfig, device: torch.device
) -> list[Probe]:
    facts = {} if truth is None else read_truth(truth)
    counts = (("train", settings.samples), ("val", settings.held_out))
    found: dict[str, list[Probed]] = {
        name: [read_probed(model, build, split, count, facts, device) for split, count in counts]
        for name, model in models.items()
    }
    probes = []
    fitted_things, held_things = (part.things for part in found["trained"])
    if odd := sorted(fitted_things.keys() ^ held_things.keys()):
        print(f"{build.name}: left out, as they vary in one of the splits alone: {', '.join(odd)}")
    for thing in [name for name in fitted_things if name in held_things]:
        scores = {name: score(fitted, held, thing) for name, (fitted, held) in found.items()}
        fitted, held = found["trained"]
        sizes = (len(fitted.features), len(held.features), held.episodes)
        probes.append(Probe(build.name, thing, scores["trained"], scores["untrained"], *sizes))
    return probes


def score(fitted: Probed, held: Probed, thing: str) -> float:
    """R^2 on the held-out samples of one thing, by a regression on the others; see `explained`."""
    y, held_y = (each.things[thing][:, None] for each in (fitted, held))
    (x, y), (held_x, held_y) = (
        (part.features[~np.isnan(of[:, 0])], of[~np.isnan(of[:, 0])]) for part, of in ((fitted, y), (held, held_y))
    )
    spread = x.std(axis=0) + 1e-6
    return explained(x / spread, y, held_x / spread, held_y)
