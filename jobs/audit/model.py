"""Experiments on the model through its training code (rules L3, L4, L5), on a batch of a build.

Every target of the batch is replaced; outputs of student and policy must stay equal to the bit. A latent of
step k may change only predictions of later steps. Controls: other targets change the loss, other images the student.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.common.policy.chosen_cameras import chosen_cameras
from jobs.common.policy.load_model import load_model
from model.batch import to_device
from model.normalize import BuildStats
from model.settings import ModelSettings, PredictorInit, tiny_settings
from model.student.backbone import StudentOutput
from model.vla_jepa import VLAJEPA, build_model
from pipeline.audit.build import open_build
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.levels.options import Trial
from pipeline.format.build import Build, load_build
from pipeline.format.schema import Batch, Observation, Targets
from pipeline.streaming.reader import SampleReader

BATCH = 4


def model_trials(build: Path, checkpoint: Path | None, seed: int, fetcher: ShardFetcher | None) -> Sequence[Trial]:
    """See `pipeline.audit.levels.options.StudentTrial`.

    Args:
        build: folder whose first samples are the batch.
        checkpoint: a step-… folder; None: the demonstration's tiny model with random weights.
        fetcher: brings the shards when the folder holds only the small files.
    """
    loaded = load_build(build)
    model = load_model(checkpoint) if checkpoint else _tiny_model(loaded)
    batch = to_device(
        _first_samples(loaded, fetcher, model.settings), torch.device("cpu"), model.settings.predictor.views
    )
    student = student_trials(model, batch.observation, batch.targets, seed)
    return student + predictor_trials(model, batch.observation, batch.targets)


def _first_samples(build: Build, fetcher: ShardFetcher | None, model: ModelSettings) -> Batch[NDArray[Any]]:
    """A batch of the first split's first samples; while they are read, their shards are here."""
    reader = SampleReader(build, next(iter(build.manifest["counts"])), cameras=chosen_cameras(build, model))
    listed = open_build(build.path, fetcher)
    with contextlib.ExitStack() as stack:
        missing = BATCH
        for shard in listed.shards:
            if shard.split == reader.split and missing > 0:
                stack.enter_context(listed.present(shard))
                missing -= shard.samples
        return reader.read(np.arange(min(BATCH, len(reader))))


def _tiny_model(build: Any) -> VLAJEPA:
    stats = BuildStats.parse(build.read_file("stats.json"), build.path / "stats.json") if build.sizes.action else None
    settings = tiny_settings(views=max(2, build.sizes.views))
    # As it starts for training, it copies its input and ignores latent actions: the controls would fail.
    predictor = replace(settings.predictor, init=PredictorInit.REFERENCE)
    return build_model(replace(settings, predictor=predictor), build.sizes, stats).eval()


def student_trials(
    model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor], seed: int
) -> list[Trial]:
    """Replace all targets; then the images."""
    before = _Outputs(model, observation, targets, seed)
    swapped = _Outputs(model, observation, _other(targets), seed)
    inverted = _Outputs(model, replace(observation, images=255 - observation.images), targets, seed)
    return [
        Trial("L3", "the student's outputs change when all targets of the batch do", swapped.student == before.student),
        Trial("L3", "the policy's actions change when all targets of the batch do", swapped.acted == before.acted),
        Trial(
            "L3", "control: the student's outputs do not change when the images do", inverted.student != before.student
        ),
        Trial("L5", "control: the loss does not change when the targets do", swapped.loss != before.loss),
        Trial("L5", "a target gets a gradient", _no_gradient(model, observation, targets, seed)),
    ]


class _Outputs:
    """One pass of the training code, in bytes: the student's outputs, the actions, the loss."""

    @torch.no_grad()
    def __init__(self, model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor], seed: int) -> None:
        student: list[bytes] = []

        def record(_module: Any, _inputs: Any, outputs: tuple[StudentOutput, ...]) -> None:
            parts = [part for output in outputs for part in (output.latent_actions, output.embodied)]
            student.extend(_bytes(part) for part in parts if part is not None)

        handle = model.student.register_forward_hook(record)
        try:
            self.loss = _bytes(model.losses(observation, targets, torch.Generator().manual_seed(seed)).total)
            self.acted = b""
            if observation.state is not None:
                self.acted = _bytes(model.act(observation, torch.Generator().manual_seed(seed)))
        finally:
            handle.remove()
        self.student = student


def _no_gradient(model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor], seed: int) -> bool:
    tracked = replace(
        targets,
        context=targets.context.float().requires_grad_(),
        latents=targets.latents.float().requires_grad_(),
        actions=None if targets.actions is None else targets.actions.clone().requires_grad_(),
    )
    model.losses(observation, tracked, torch.Generator().manual_seed(seed)).total.backward()
    model.zero_grad()
    tensors = (tracked.context, tracked.latents, tracked.actions)
    return all(tensor is None or tensor.grad is None for tensor in tensors)


@torch.no_grad()
def predictor_trials(model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor]) -> list[Trial]:
    """Change one step's latent, then one step's latent actions: earlier predictions must stay equal to the bit."""
    actions = model.student(observation)[0].latent_actions
    forced = model._teacher_forced(targets)
    steps, tokens, per_step = model.sizes.steps, model.sizes.tokens, model.settings.prompt.action_tokens_per_step
    before = model.predictor(forced.inputs, actions)
    trials = []
    for step in range(steps):
        latents, moved = forced.inputs.clone(), actions.clone()
        latents[:, step * tokens : (step + 1) * tokens] += 1
        moved[:, step * per_step : (step + 1) * per_step] += 1
        for name, after in (
            (f"latent of step {step}", model.predictor(latents, actions)),
            (f"latent action of step {step}", model.predictor(forced.inputs, moved)),
        ):
            early, own = slice(0, step * tokens), slice(step * tokens, (step + 1) * tokens)
            trials.append(
                Trial("L4", f"a {name} changes an earlier prediction", torch.equal(after[:, early], before[:, early]))
            )
            changed = not torch.equal(after[:, own], before[:, own])
            trials.append(Trial("L4", f"control: a {name} does not change the prediction of step {step + 1}", changed))
    return trials


def _other(targets: Targets[Tensor]) -> Targets[Tensor]:
    """All numbers replaced; masks as they are."""
    return replace(
        targets,
        context=1 - targets.context.flip(0),
        latents=1 - targets.latents.flip(0),
        actions=None if targets.actions is None else targets.actions.flip(0) + 1,
    )


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().float().contiguous().numpy().data)
