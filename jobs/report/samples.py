"""Held-out samples for a run's report: what the world model predicts of them, as pictures.

Shapes: B samples, K future steps, V views of the predictor, N tokens, D latent width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from jobs.common.load_model import load_model
from jobs.report.latent_pictures import Colours, fit_colours, input_picture, latent_picture
from jobs.report.run_files import RunFolder
from jobs.training.loop.data import cache_folder, held_out_reader, open_cache
from jobs.training.loop.settings import TrainerSettings
from model.attention.backend import resolve_backend
from model.batch import to_device
from model.checkpoint.checkpoint import list_checkpoints
from model.vla_jepa import VLAJEPA
from model.world_model.latents import predict_latents
from pipeline.errors import RunError
from pipeline.format.build import Build, load_build
from pipeline.storage.download import mirror_build
from pipeline.storage.store import is_remote
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import NumpyBatch, ordered_indices

BATCH = 8
GUESSES = ("true", "predicted", "nothing changes")


@dataclass(frozen=True)
class FoundBuild:
    """A build of the run, or why it cannot be used."""

    name: str
    address: str = ""
    build: Build | None = None
    problem: str = ""


@dataclass(frozen=True)
class Tile:
    """A latent map and its mean L1 to the true one, of one view."""

    uri: str
    error: float


@dataclass(frozen=True)
class ViewPictures:
    """`rows` are (guess, a tile for each future step, None where the step lies past the episode's end)."""

    name: str
    image: str
    rows: tuple[tuple[str, tuple[Tile | None, ...]], ...]


@dataclass(frozen=True)
class SamplePictures:
    """A held-out sample. `errors`: for each future step the mean L1 of the prediction and of "nothing changes" over all
    views of the predictor, as `VLAJEPA.world_model_errors` has it; None past the episode's end."""

    build: str
    key: str
    episode: str
    instruction: str
    errors: tuple[tuple[float, float] | None, ...]
    views: tuple[ViewPictures, ...]


@dataclass
class Pictures:
    """All samples, the part of the variance that the colours show, and what was missing."""

    checkpoint: str = ""
    samples: list[SamplePictures] = field(default_factory=list)
    share: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Predictions:
    """Latents of a batch, float32 [3, B, K, V, N, D] in the order of GUESSES."""

    build: Build
    batch: NumpyBatch
    episodes: tuple[str, ...]
    latents: NDArray[np.float32]


def find_builds(run: RunFolder, given: Sequence[str]) -> list[FoundBuild]:
    """The builds of a run at the addresses it noted, or at those given."""
    wanted: Mapping[str, Any] = _mapping(run.config.get("builds"))
    addresses = {str(name): str(path) for name, path in _mapping(run.config.get("build_paths")).items()}
    opened = {}
    unnamed = []
    for address in given:
        try:
            build = open_build(address)
            opened[build.name], addresses[build.name] = build, address
        except (RunError, OSError) as error:
            unnamed.append(FoundBuild(address, address, None, str(error)))
    found = [
        _find(str(name), str(mark), addresses.get(str(name)), opened.get(str(name))) for name, mark in wanted.items()
    ]
    strangers = [
        FoundBuild(
            name, addresses[name], None, f"the run was not trained on a build of this name ({', '.join(wanted)})"
        )
        for name in opened
        if name not in wanted
    ]
    return found + strangers + unnamed


def open_build(address: str) -> Build:
    """A build by its folder, or by its address elsewhere: its small files are copied here."""
    if not is_remote(address):
        return load_build(Path(address))
    return replace(load_build(mirror_build(address, cache_folder(TrainerSettings()) / "builds")), remote=address)


def sample_pictures(run: RunFolder, builds: Sequence[FoundBuild], count: int, device: torch.device) -> Pictures:
    """Predictions of the newest checkpoint for `count` samples of each build, spread over its validation split.

    What stands in the way is noted, not raised.
    """
    if not count:
        return Pictures(notes=["Not asked for (samples=0)."])
    checkpoints = list_checkpoints(run.path / "checkpoints")
    if not checkpoints:
        return Pictures(notes=[f"{run.path / 'checkpoints'} holds no checkpoint, so there is no model to ask."])
    name, notes = checkpoints[-1].name, []
    try:
        model = load_model(checkpoints[-1]).to(device)
        resolve_backend(model.settings.attention, device)
    except (RunError, OSError, RuntimeError, SafetensorError) as error:
        return Pictures(name, notes=[f"{checkpoints[-1]} cannot be used: {error}"])
    predictions: list[Predictions] = []
    for found in builds:
        try:
            predictions += [] if found.build is None else _predict(model, found.build, count, device)
        except (RunError, OSError, ValueError) as error:
            notes.append(f"{found.name}: {error}.")
    if all(found.build is None for found in builds):
        notes.append("No build of the run is at hand (see its table); builds=[FOLDER,…] says where they are.")
    true = [latents for part in predictions if len(latents := _true_latents(part))]
    if not true:
        return Pictures(name, notes=notes)
    colours = fit_colours(np.concatenate(true))
    samples = [_sample(part, i, colours) for part in predictions for i in range(len(part.batch.keys))]
    return Pictures(name, samples, colours.share, notes)


def _find(name: str, fingerprint: str, address: str | None, build: Build | None) -> FoundBuild:
    if address is None:
        return FoundBuild(name, problem="run.json does not say where it is; builds=[FOLDER,…] does")
    try:
        build = build or open_build(address)
    except (RunError, OSError) as error:
        return FoundBuild(name, address, None, str(error))
    if build.fingerprint != fingerprint:
        return FoundBuild(
            name,
            address,
            None,
            f"{address} has fingerprint {build.fingerprint}, the run was trained on {fingerprint}: another build",
        )
    return FoundBuild(name, address, build)


def _predict(model: VLAJEPA, build: Build, count: int, device: torch.device) -> list[Predictions]:
    if not build.manifest["counts"].get("val", {"samples": 0})["samples"]:
        raise RunError("the build has no validation split")
    settings = TrainerSettings()
    reader = held_out_reader(build, settings, open_cache([build], settings))
    return [_predict_batch(model, reader, chosen, device) for chosen in ordered_indices(len(reader), BATCH, count)]


def _predict_batch(
    model: VLAJEPA, reader: SampleReader, chosen: NDArray[np.int64], device: torch.device
) -> Predictions:
    batch = reader.read(chosen)
    moved = to_device(batch, device, model.settings.predictor.views)
    predicted, true, before = predict_latents(model, moved.observation, moved.targets)
    latents: NDArray[np.float32] = torch.stack([true, predicted, before]).cpu().numpy()
    return Predictions(reader.build, batch, tuple(reader.episode(int(index)) for index in chosen), latents)


def _true_latents(part: Predictions) -> NDArray[np.float32]:
    """[M, D] of the steps that exist, of the build's own views."""
    views = part.build.sizes.views
    true = part.latents[0][part.batch.targets.latent_mask][:, :views]
    return true.reshape(-1, true.shape[-1])


def _sample(part: Predictions, i: int, colours: Colours) -> SamplePictures:
    latents = part.latents[:, i]
    there = part.batch.targets.latent_mask[i]
    errors = np.abs(latents - latents[0]).mean(axis=(3, 4))  # [guess, K, V]
    both = errors.mean(axis=2)
    views = []
    for v, name in enumerate(part.build.views):
        rows = tuple(
            (
                guess,
                tuple(
                    _tile(latents[g, k, v], errors[g, k, v], colours) if there[k] else None for k in range(len(there))
                ),
            )
            for g, guess in enumerate(GUESSES)
        )
        views.append(ViewPictures(name, input_picture(part.batch.observation.images[i, v]), rows))
    return SamplePictures(
        build=part.build.name,
        key=part.batch.keys[i],
        episode=part.episodes[i],
        instruction=part.batch.observation.instruction[i],
        errors=tuple((float(both[1, k]), float(both[2, k])) if there[k] else None for k in range(len(there))),
        views=tuple(views),
    )


def _tile(latents: NDArray[np.float32], error: float, colours: Colours) -> Tile:
    return Tile(latent_picture(latents, colours), float(error))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
