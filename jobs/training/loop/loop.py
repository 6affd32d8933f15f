"""The training loop: global batches, optimiser steps on the losses of all builds, checkpoints, held-out numbers.

Everything a step does is a function of (settings, builds, number of ranks, step): the order of samples is, and the
random numbers are seeded from (seed, step, rank). So a run that resumes from a checkpoint continues the loss curve bit
for bit on the CPU; on another number of ranks it sees the same global batches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jobs.training.loop.augment import shifted
from jobs.training.loop.checkpointing import Saver
from jobs.training.loop.data import BuildPart, Group, held_out_reader, make_groups, open_cache, steps_of
from jobs.training.loop.guards import SkippedSamples, StopSignal, Watch, batch_keys
from jobs.training.loop.held_out import HeldOut, evaluate, has_pair
from jobs.training.loop.metrics import MetricsLog
from jobs.training.loop.micro_batches import Pass, cut_into_passes, record
from jobs.training.loop.optimiser import Optimiser
from jobs.training.loop.ranks import Ranks, distribute, gradients_stay
from jobs.training.loop.schedule import step_seed
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.throughput import Throughput
from jobs.training.loop.weighted_mean import Means
from model.attention.attention import resolve_backend
from model.batch import to_device
from model.checkpoint.checkpoint import list_checkpoints, load_optimizer, load_weights, read_state
from model.checkpoint.sharding import compile_blocks
from model.student.images import GREY
from model.vla_jepa import VLAJEPA
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.format.build import Build
from pipeline.format.differences import first_difference
from pipeline.streaming.stream import NumpyBatch


class Trainer:
    """Trains a model on builds, on one rank of several.

    Args:
        weights: one a build, or none; see `jobs.training.loop.data`.
        state: what the run decided, stored with every checkpoint; a resumed run must have decided the same.

    Raises:
        SettingsError: a build is smaller than its share of a batch, ranks do not fit, or everything is frozen.
    """

    def __init__(
        self,
        model: VLAJEPA,
        builds: Sequence[Build],
        weights: Sequence[float],
        settings: TrainerSettings,
        out: Path,
        state: Mapping[str, Any],
        ranks: Ranks,
    ) -> None:
        self.settings, self.out, self.ranks, self.builds = settings, out, ranks, builds
        resolve_backend(model.settings.attention, ranks.device)  # refused here rather than in the first step
        cache = open_cache(builds, settings)
        self.groups: list[Group] = make_groups(builds, weights, settings, ranks, cache)
        self.model = model.to(ranks.device)
        if settings.compile:
            compile_blocks(self.model)
        alternate = settings.co_training == "alternate" and len(self.groups) > 1
        self._turns = [[group] for group in reversed(self.groups)] if alternate else [self.groups]
        self._wrapped = distribute(self.model, ranks, settings.strategy, unused=alternate)
        self.optimiser = Optimiser(self.model, settings)
        self._held_out = [held_out_reader(build, settings, cache) for build in builds if has_pair(build)]
        self._watch = Watch(settings.divergence)
        self._skipped = SkippedSamples(out, settings.max_skipped_share)
        self._state, self.step, self.stopped_by = state, 0, ""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints"

    def resume(self) -> bool:
        """Continue from the newest checkpoint, if there is one.

        Raises:
            BuildError: it belongs to a run that decided something else; the first difference is shown.
        """
        found = list_checkpoints(self.checkpoints)
        if not found:
            self._skipped.restore(0, 0, self.ranks.main)
            return False
        stored = read_state(found[-1])
        self.step, progress = stored.pop("step"), stored.pop("progress", {})
        stored.setdefault("robot", self._state.get("robot"))  # checkpoints of earlier versions do not have it
        stored["trainer"] = {"shift": self._state["trainer"]["shift"], "blind": False, **stored["trainer"]}  # nor these
        difference = first_difference(stored, dict(self._state))
        if difference:
            raise BuildError(
                f"{found[-1]} belongs to another run: {difference}; choose another out=, or start with "
                "the same settings"
            )
        load_weights(found[-1], self.model)
        load_optimizer(found[-1], self.model, self.optimiser.adamw)
        self._watch.loss_mean = progress["loss_mean"]
        self._skipped.restore(progress["samples_seen"], progress["samples_skipped"], self.ranks.main)
        return True

    def train(self, log: MetricsLog, throughput: Throughput) -> None:
        """Run to the last step, saving and evaluating on the way; SIGTERM saves and ends it early.

        Raises:
            RunError: the loss is not finite or has diverged, or a rank could not read its samples; the same on all
                ranks.
        """
        settings = self.settings
        stop = settings.last_step
        batches = steps_of(self.groups, self.step, stop)
        self.model.train()
        saver = Saver(self.checkpoints, self.ranks, settings.keep, settings.keep_every, settings.async_save)
        saved = self.step
        with StopSignal() as signal, saver:
            while self.step < stop:
                started = time.perf_counter()
                current, skipping, self.stopped_by = self._next(batches, signal)
                if self.stopped_by:
                    break
                waited = time.perf_counter() - started
                numbers = self._step(current)
                self._skipped.add(self.step, current, self.ranks, skipping)
                seconds = time.perf_counter() - started
                self.step += 1
                log.step(self.step, numbers | throughput.numbers(seconds, waited) | self._skipped.numbers())
                if settings.eval_every and self.step % settings.eval_every == 0 and self.step < stop:
                    log.held_out(self.step, self.evaluate())
                if self.step % settings.save_every == 0:
                    self._save(saver)
                    saved = self.step
            if saved < self.step:
                self._save(saver)

    def evaluate(self) -> dict[str, HeldOut]:
        """Held-out numbers of every build that has a validation split, by build name; the same on all ranks."""
        settings, was_training = self.settings, self.model.training
        self.model.eval()
        try:
            return {
                reader.build.name: evaluate(
                    self.model,
                    reader,
                    self.ranks,
                    self._to_device,
                    self._autocast,
                    settings.eval_batch,
                    settings.eval_samples,
                    settings.seed,
                )
                for reader in self._held_out
            }
        finally:
            self.model.train(was_training)

    def _next(self, batches: Any, signal: StopSignal) -> tuple[list[list[BuildPart]], bool, str]:
        """The batches of the next step, whether a rank skipped some of its samples, and the signal that came, if any.

        An error or a signal of one rank is one of all.
        """
        found: list[list[BuildPart]] = []
        error = ""
        try:
            found = next(batches)
        except (RunError, OSError) as problem:
            error = str(problem)
        skipping = any(part.batch.skipped for parts in found for part in parts)
        came = signal.name
        failed, asked, skipped = self.ranks.count(bool(error), bool(came), skipping)
        if failed:
            raise BuildError("; ".join(dict.fromkeys(text for text in self.ranks.gather(error) if text)))
        stopped_by = next(name for name in self.ranks.gather(came) if name) if asked else ""
        return found, bool(skipped), stopped_by

    def _step(self, groups: list[list[BuildPart]]) -> dict[str, float]:
        torch.manual_seed(step_seed(self.settings.seed, self.step, self.ranks.rank))
        by_kind = {group.kind: parts for group, parts in zip(self.groups, groups, strict=True)}
        numbers: dict[str, float] = {}
        dump = partial(batch_keys, self.out, self.step, groups, self.ranks)
        for turn, chosen in enumerate(self._turns):
            parts = [by_kind[group.kind] for group in chosen]
            means = Means(self.ranks.device)
            rates = self.optimiser.begin(self.step * len(self._turns) + turn)
            self._backward([p for group in parts for p in cut_into_passes(group, self.settings.accumulate)], means)
            found, norms = means.reduce(self.ranks), self.optimiser.norms()
            found["loss"] += numbers.get("loss", 0.0)
            numbers |= found | norms | rates
            self._watch.require_finite(numbers, dump)
            self.optimiser.step(norms["grad_norm"])
        self._watch.require_converging(numbers, dump)
        return numbers

    def _backward(self, passes: Sequence[Pass], means: Means) -> None:
        """Gradients of all passes add up, activations do not; the ranks' gradients meet in the last one."""
        local = torch.zeros((), device=self.ranks.device, dtype=torch.float64)
        for i, current in enumerate(passes):
            observation, targets = self._to_device(current.batch)
            if self.settings.shift:
                observation = replace(observation, images=shifted(observation.images, self.settings.shift))
            with gradients_stay(self._wrapped, i < len(passes) - 1):
                with self._autocast():
                    losses = self._wrapped(observation, targets)
                if not losses.total.requires_grad:
                    raise SettingsError(f"{current.name} trains nothing: model.freeze holds all that its losses reach")
                (losses.total * current.weight).backward()
            local += losses.total.detach().double() * current.weight
            record(means, current, losses, targets)
        means.add("loss", local, 1.0)

    def _save(self, saver: Saver) -> None:
        progress = {"loss_mean": self._watch.loss_mean, **self._skipped.progress()}
        saver.save(self.step, self.model, self.optimiser.adamw, {**self._state, "progress": progress})

    def _to_device(self, batch: NumpyBatch) -> tuple[Any, Any]:
        moved = to_device(batch, self.ranks.device, self.model.settings.predictor.views)
        observation = moved.observation
        if self.settings.blind:
            observation = replace(observation, images=torch.full_like(observation.images, GREY))
        return observation, moved.targets

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.bf16 and self.ranks.device.type == "cuda"
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=enabled)
