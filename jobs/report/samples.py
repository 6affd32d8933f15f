"""Held-out samples for a run's report: what the world model predicts of them, as images.

Shapes: B samples, K future steps, V views of the predictor, N tokens, D latent width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from jobs.common.policy.chosen_cameras import camera_names
from jobs.common.policy.load_model import load_model
from jobs.report.latent_images import Colours, fit_colours, input_image, latent_image
from jobs.report.pixel_decoder import LARGEST
from jobs.report.run_files import RunFolder, inner
from jobs.report.two_futures import Present, TwoFutures, draw_two_futures, find_twins
from jobs.training.held_out.pairs import PairKind
from jobs.training.loop.cache_folders import cache_folder
from jobs.training.loop.data import held_out_reader, open_cache
from jobs.training.loop.evaluate import HeldOutSamples
from jobs.training.loop.settings import TrainerSettings
from model.attention.backend import resolve_backend
from model.batch import to_device
from model.checkpoint.folders import list_checkpoints
from model.vla_jepa import VLAJEPA
from model.world_model.latents import predict_latents, roll_out
from pipeline.errors import RunError
from pipeline.format.build import Build, load_build
from pipeline.storage.atomic import hash_file
from pipeline.storage.download import mirror_build
from pipeline.storage.store import is_remote
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import NumpyBatch, ordered_indices

BATCH = 8
PRESENT = 256
"""Samples from which pixels are learned, at most."""
GUESSES = ("true", "predicted", "nothing changes", "predicted from the first step alone")


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
class ViewImages:
    """`rows` are (guess, a tile for each future step, None where the step lies past the episode's end)."""

    name: str
    image: str
    rows: tuple[tuple[str, tuple[Tile | None, ...]], ...]


@dataclass(frozen=True)
class SampleImages:
    """A held-out sample. `errors`: for each future step the mean L1 of the prediction and of "nothing changes" over all
    views of the predictor, as `VLAJEPA.world_model_errors` has it; None past the episode's end."""

    build: str
    key: str
    episode: str
    instruction: str
    errors: tuple[tuple[float, float] | None, ...]
    views: tuple[ViewImages, ...]


@dataclass
class PredictedFutures:
    """All samples, the part of the variance that the colours show, what was missing, and a figure for each view of the
    builds that have twins."""

    checkpoint: str = ""
    samples: list[SampleImages] = field(default_factory=list)
    share: float = 0.0
    notes: list[str] = field(default_factory=list)
    twins: list[TwoFutures] = field(default_factory=list)


@dataclass(frozen=True)
class Predictions:
    """Latents of a batch, float32 [4, B, K, V, N, D] in the order of GUESSES, and its images of the cameras that the
    world model sees, by name in `views`; figures of the twins among its samples, if there are any."""

    build: Build
    views: tuple[str, ...]
    batch: NumpyBatch
    episodes: tuple[str, ...]
    latents: NDArray[np.float32]
    twins: tuple[TwoFutures, ...] = ()


def find_builds(run: RunFolder, given: Sequence[str]) -> list[FoundBuild]:
    """The builds of a run at their addresses in run.json, or at those given."""
    fingerprints = inner(run.config, "builds")
    addresses = {str(name): str(path) for name, path in inner(run.config, "build_paths").items()}
    opened, unusable = {}, []
    for address in given:
        try:
            build = open_build(address)
        except (RunError, OSError) as error:
            unusable.append(FoundBuild(address, address, problem=str(error)))
            continue
        opened[build.name], addresses[build.name] = build, address
        if build.name not in fingerprints:
            problem = f"the run was not trained on a build of this name ({', '.join(fingerprints)})"
            unusable.append(FoundBuild(build.name, address, problem=problem))
    audited = inner(run.config, "build_sha256")
    found = [_find(n, str(f), audited.get(n), addresses.get(n), opened.get(n)) for n, f in fingerprints.items()]
    return found + unusable


def open_build(address: str) -> Build:
    """A build by its folder or URL; the small files of a remote one are copied here."""
    if not is_remote(address):
        return load_build(Path(address))
    return replace(load_build(mirror_build(address, cache_folder(TrainerSettings()) / "builds")), remote=address)


def predict_futures(
    run: RunFolder, builds: Sequence[FoundBuild], count: int, device: torch.device, checkpoint: Path | None = None
) -> PredictedFutures:
    """Predictions for `count` samples of each build, spread over its validation split. Problems are noted, not raised.

    Args:
        checkpoint: that predicts; None: the run's newest.
    """
    if not count:
        return PredictedFutures(notes=["Turned off by samples=0."])
    checkpoints = list_checkpoints(run.path / "checkpoints") if checkpoint is None else [checkpoint]
    if not checkpoints:
        return PredictedFutures(notes=[f"{run.path / 'checkpoints'} holds no checkpoint, so there is no model."])
    name, notes = checkpoints[-1].name, []
    try:
        model = load_model(checkpoints[-1]).to(device)
        resolve_backend(model.settings.attention, device)
    except (RunError, OSError, RuntimeError, SafetensorError) as error:
        return PredictedFutures(name, notes=[f"{checkpoints[-1]} cannot be used: {error}"])
    predictions: list[Predictions] = []
    for found in builds:
        try:
            predictions += [] if found.build is None else _predict(model, found.build, count, device)
        except (RunError, OSError, ValueError) as error:
            notes.append(f"{found.name}: {error}.")
    if all(found.build is None for found in builds):
        notes.append("No build of the run is available (see its table); give builds=[FOLDER,…].")
    true = [latents for part in predictions if len(latents := _true_latents(part))]
    if not true:
        return PredictedFutures(name, notes=notes)
    colours = fit_colours(np.concatenate(true))
    samples = [_sample(part, i, colours) for part in predictions for i in range(len(part.batch.keys))]
    return PredictedFutures(
        name, samples, colours.share, notes, [figure for part in predictions for figure in part.twins]
    )


def _find(name: str, fingerprint: str, sha256: object, address: str | None, build: Build | None) -> FoundBuild:
    """sha256: of the build.json that was audited, as run.json has it."""
    if address is None:
        return FoundBuild(name, problem="its folder is not in run.json; give builds=[FOLDER,…]")
    if build is None and is_remote(address):
        # A run that somebody handed over must not make this machine ask servers of its choice, with its own keys
        return FoundBuild(name, address, problem=f"it is not on this machine; if you trust it, give builds=[{address}]")
    try:
        build = build or open_build(address)
    except (RunError, OSError) as error:
        return FoundBuild(name, address, problem=str(error))
    if build.fingerprint != fingerprint:
        problem = f"{address} has fingerprint {build.fingerprint}, the run was trained on {fingerprint}: another build"
        return FoundBuild(name, address, problem=problem)
    if hash_file(build.path / "build.json") != sha256:
        return FoundBuild(name, address, problem=f"{address}/build.json is not the one that the run was trained on")
    return FoundBuild(name, address, build)


def _predict(model: VLAJEPA, build: Build, count: int, device: torch.device) -> list[Predictions]:
    if not build.manifest["counts"].get("val", {"samples": 0})["samples"]:
        raise RunError("the build has no validation split")
    settings = TrainerSettings()
    cache, own = open_cache([build], settings), model.settings
    reader = held_out_reader(build, settings, cache, model=own)
    shown = reader  # with images of the cameras whose latents are drawn
    if own.student_cameras != own.world_model_cameras:
        shown = held_out_reader(build, settings, cache, model=replace(own, student_cameras=own.world_model_cameras))
    found = [_predict_batch(model, reader, shown, chosen, device) for chosen in _shown(reader, settings, count)]
    twins = find_twins(found[0].batch, found[0].latents[0]) if found else None
    if twins is None:
        return found
    (true, _, _, told), present = found[0].latents, _present(shown, model.settings.predictor.views)
    figures = draw_two_futures(build.name, found[0].views, found[0].batch, twins, true, told, present)
    return [replace(found[0], twins=tuple(figures)), *found[1:]]


def _present(reader: SampleReader, views: int) -> Present:
    """Of held-out samples, spread over the split: fewer than would be fitted on are read of large latents."""
    contexts, images = [], []
    count = max(16, min(PRESENT, LARGEST // reader.build.sizes.tokens))
    for chosen in ordered_indices(len(reader), BATCH, count):
        batch = reader.read(chosen)
        contexts.append(to_device(batch, torch.device("cpu"), views).targets.context.float().numpy())
        images.append(batch.observation.images)
    return Present(np.concatenate(contexts), np.concatenate(images))


def _shown(reader: SampleReader, settings: TrainerSettings, count: int) -> Sequence[NDArray[np.int64]]:
    """Batches of samples to show: twins beside each other, where the split has any, or else spread over the split."""
    samples = HeldOutSamples.choose(reader, settings)
    if PairKind.SAME_SCENE not in samples.pairs.partners:
        return ordered_indices(len(reader), BATCH, count)
    partner = samples.pairs.partners[PairKind.SAME_SCENE][:, 0]
    firsts = [i for i in np.flatnonzero(partner >= 0) if i < partner[i]][: count // 2]
    both = [position for i in firsts for position in (i, partner[i])]
    every = np.concatenate(samples.batches)
    return [every[both[start : start + BATCH]] for start in range(0, len(both), BATCH)]


def _predict_batch(
    model: VLAJEPA, reader: SampleReader, shown: SampleReader, chosen: NDArray[np.int64], device: torch.device
) -> Predictions:
    moved = to_device(reader.read(chosen), device, model.settings.predictor.views)
    predicted, true, before = predict_latents(model, moved.observation, moved.targets)
    rolled = roll_out(model, moved.observation, moved.targets)
    latents: NDArray[np.float32] = torch.stack([true, predicted, before, rolled]).cpu().numpy()
    names, episodes = camera_names(reader.build, shown.cameras.latents), (reader.episode(int(i)) for i in chosen)
    return Predictions(reader.build, names, shown.read(chosen), tuple(episodes), latents)


def _true_latents(part: Predictions) -> NDArray[np.float32]:
    """[M, D] of the steps that exist, without views that fill up the predictor's."""
    views = len(part.views)
    true = part.latents[0][part.batch.targets.latent_mask][:, :views]
    return true.reshape(-1, true.shape[-1])


def _sample(part: Predictions, i: int, colours: Colours) -> SampleImages:
    latents = part.latents[:, i]
    there = part.batch.targets.latent_mask[i]
    errors = np.abs(latents - latents[0]).mean(axis=(3, 4))  # [guess, K, V]
    both = errors.mean(axis=2)

    def tile(guess: int, step: int, view: int) -> Tile | None:
        if not there[step]:
            return None
        return Tile(latent_image(latents[guess, step, view], colours), float(errors[guess, step, view]))

    steps = range(len(there))
    views = tuple(
        ViewImages(
            name,
            input_image(part.batch.observation.images[i, v]),
            tuple((guess, tuple(tile(g, k, v) for k in steps)) for g, guess in enumerate(GUESSES)),
        )
        for v, name in enumerate(part.views)
    )
    return SampleImages(
        build=part.build.name,
        key=part.batch.keys[i],
        episode=part.episodes[i],
        instruction=part.batch.observation.instruction[i],
        errors=tuple((float(both[1, k]), float(both[2, k])) if there[k] else None for k in steps),
        views=views,
    )
