"""The training loop: batches of every build, one optimiser step on the sum of their losses, held-out losses.

Everything a step does is a function of (settings, builds, step): the order of samples is, and the random numbers are
seeded from (seed, step). So a run that resumes from a checkpoint continues the loss curve bit for bit on the CPU.
"""

from __future__ import annotations

import hashlib
import math
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.metrics import MetricsLog
from jobs.train_settings import TrainerSettings
from model.attention import resolve_backend
from model.batch import TorchBatch, to_device
from model.checkpoint import list_checkpoints, load_optimizer, load_weights, read_state, save_checkpoint
from model.losses import Losses
from model.vla_jepa import VLAJEPA
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.manifest import Build
from pipeline.order import Order
from pipeline.reader import Allocate, SampleReader
from pipeline.schema import Batch
from pipeline.stream import Stream, ordered_batches


@dataclass(frozen=True)
class HeldOut:
    """Held-out numbers of one build: mean L1 of the world model over future steps, and the action loss.

    nothing_changes  the last true latent repeated;  shuffled  with the latent actions of another sample
    per_step         the model's error at each future step; None where no sample has that step
    """

    model: float
    nothing_changes: float
    shuffled: float
    per_step: tuple[float | None, ...]
    action: float | None
    samples: int


class Trainer:
    """Trains a model on builds.

    Args:
        state: what the run decided, stored with every checkpoint; a resumed run must have decided the same.

    Raises:
        SettingsError: a build's train split is smaller than a batch, or everything is frozen.
    """

    def __init__(
        self, model: VLAJEPA, builds: Sequence[Build], settings: TrainerSettings, out: Path, state: Mapping[str, Any]
    ) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        resolve_backend(model.settings.attention, self.device)  # refused here rather than in the first step
        self.model = model.to(self.device)
        self.builds = builds
        self.out = out
        self.step = 0
        self._state = state
        allocate = _allocate_pinned if self.device.type == "cuda" else None
        self.streams = [self._stream(build, allocate) for build in builds]
        _allow_open_files(2 * sum(stream.order.open_shards for stream in self.streams))
        self._held_out = [SampleReader(build, "val", 2, verify=settings.verify) for build in builds if _has_pair(build)]
        groups = model.param_groups(settings.lr_backbone, settings.lr_action_head, settings.lr_rest)
        if not groups:
            raise SettingsError(f"model.freeze={list(model.settings.freeze)} leaves nothing to train")
        self.optimizer = torch.optim.AdamW(
            groups, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay
        )
        self._peaks = [group["lr"] for group in groups]

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
            return False
        stored = read_state(found[-1])
        self.step = stored.pop("step")
        difference = first_difference(stored, self._state)
        if difference:
            raise BuildError(
                f"{found[-1]} belongs to another run: {difference}; choose another out=, or start with "
                "the same settings"
            )
        load_weights(found[-1], self.model)
        load_optimizer(found[-1], self.model, self.optimizer)
        return True

    def train(self, log: MetricsLog) -> None:
        """Run to the last step, saving and evaluating on the way.

        Raises:
            RunError: the loss is not finite; the message names the step and the sample keys.
        """
        settings = self.settings
        stop = min(settings.steps, settings.stop_after or settings.steps)
        batches = [stream.batches(self.step, stop) for stream in self.streams]
        self.model.train()
        while self.step < stop:
            started = time.perf_counter()
            current = [next(batch) for batch in batches]
            waited = time.perf_counter() - started
            numbers = self._step(current)
            seconds = time.perf_counter() - started
            self.step += 1
            samples = sum(len(batch.keys) for batch in current)
            numbers |= {"samples_per_s": samples / seconds, "data_wait_share": waited / seconds}
            log.step(self.step, numbers)
            if settings.eval_every and self.step % settings.eval_every == 0 and self.step < stop:
                log.held_out(self.step, self.evaluate())
            if self.step % settings.save_every == 0 or self.step == stop:
                self.save()

    def evaluate(self) -> dict[str, HeldOut]:
        """Held-out numbers of every build that has a validation split, by build name."""
        was_training = self.model.training
        self.model.eval()
        try:
            return {reader.build.name: self._evaluate(reader) for reader in self._held_out}
        finally:
            self.model.train(was_training)

    def save(self) -> Path:
        """Write a checkpoint of the current step."""
        return save_checkpoint(self.checkpoints, self.step, self.model, self.optimizer, self._state, self.settings.keep)

    def _stream(self, build: Build, allocate: Allocate | None) -> Stream:
        s = self.settings
        sizes = [shard["samples"] for shard in build.manifest["shards"] if shard["split"] == "train"]
        order = Order(sizes, build.fingerprint, s.seed, s.batch_size, s.streams, s.block_shards)
        reader = SampleReader(build, "train", order.open_shards, allocate, s.verify)
        return Stream(reader, order, threads=s.threads, ahead=s.ahead)

    def _step(self, batches: Sequence[Batch[NDArray[Any]]]) -> dict[str, float]:
        torch.manual_seed(step_seed(self.settings.seed, self.step))
        rates = self._set_learning_rates()
        self.optimizer.zero_grad(set_to_none=True)
        numbers: dict[str, float] = {}
        total = 0.0
        for build, batch in zip(self.builds, batches, strict=True):
            with self._autocast():
                losses = self.model.losses(*self._to_device(batch))
            if not losses.total.requires_grad:
                raise SettingsError(f"{build.name} trains nothing: model.freeze holds all that its losses reach")
            losses.total.backward()  # one build at a time: gradients add up, activations do not
            total += losses.total.item()
            numbers |= _named(build.name, losses)
        self._require_finite("loss", total, batches)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._require_finite("gradient norm", norm.item(), batches)
        self.optimizer.step()
        return {"loss": total, **numbers, "grad_norm": norm.item(), **rates}

    def _require_finite(self, name: str, value: float, batches: Sequence[Batch[NDArray[Any]]]) -> None:
        if not math.isfinite(value):
            keys = ", ".join(key for batch in batches for key in batch.keys)
            raise RunError(f"the {name} is {value} at step {self.step}; samples of the batch: {keys}")

    def _set_learning_rates(self) -> dict[str, float]:
        s, rates = self.settings, {}
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(self.step, s.steps, s.warmup_steps, peak, min(peak, s.lr_final))
            rates[f"lr_{group['name']}"] = group["lr"]
        return rates

    @torch.no_grad()
    def _evaluate(self, reader: SampleReader) -> HeldOut:
        shuffle = torch.Generator().manual_seed(step_seed(self.settings.seed, 0))
        noise = torch.Generator(self.device).manual_seed(step_seed(self.settings.seed, 0))
        sums: dict[str, torch.Tensor] = {}
        action, actions, samples = 0.0, 0, 0
        for batch in _evaluation_batches(reader, self.settings.batch_size, self.settings.eval_samples):
            observation, targets = self._to_device(batch)
            with self._autocast():
                errors = self.model.world_model_errors(observation, targets, shuffle)
                losses = self.model.losses(observation, targets, noise)
            for name in ("model", "nothing_changes", "shuffled"):
                weighted = torch.nan_to_num(getattr(errors, name)) * errors.count
                sums[name] = sums.get(name, torch.zeros_like(weighted)) + weighted
            sums["count"] = sums.get("count", torch.zeros_like(errors.count)) + errors.count
            if losses.action is not None and targets.action_mask is not None:
                valid = targets.action_mask.sum().item()
                action, actions = action + losses.action.item() * valid, actions + valid
            samples += len(batch.keys)
        per_step = {name: (sums[name] / sums["count"]).tolist() for name in ("model", "nothing_changes", "shuffled")}
        means = {name: float(np.nanmean(values)) for name, values in per_step.items()}
        return HeldOut(
            **means,
            per_step=tuple(None if math.isnan(value) else value for value in per_step["model"]),
            action=action / actions if actions else None,
            samples=samples,
        )

    def _to_device(self, batch: Batch[NDArray[Any]]) -> tuple[Any, Any]:
        moved: TorchBatch = to_device(batch, self.device, self.model.settings.predictor.views)
        return moved.observation, moved.targets

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.bf16 and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def learning_rate(step: int, steps: int, warmup: int, peak: float, final: float) -> float:
    """Linear warm-up from peak / warmup to `peak` over `warmup` steps, then a cosine to `final` at step steps-1."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def step_seed(seed: int, step: int) -> int:
    """Seed of the random numbers of one step (noise, dropout): 63 bits of SHA-256 of "seed:step"."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8], "little") >> 1


def pick_device(name: str) -> torch.device:
    """The device of a setting; "auto" is CUDA where there is one.

    Raises:
        RunError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError("trainer.device=cuda, but PyTorch sees no CUDA device; use trainer.device=auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def first_difference(stored: Any, asked: Any, where: str = "") -> str:
    """The first place where two JSON-like values differ, as text; empty if they are equal."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        for key in sorted(stored.keys() | asked.keys()):
            inner = first_difference(stored.get(key), asked.get(key), f"{where}.{key}" if where else str(key))
            if inner:
                return inner
        return ""
    if isinstance(stored, list | tuple) and isinstance(asked, list | tuple) and len(stored) == len(asked):
        for i, (a, b) in enumerate(zip(stored, asked, strict=True)):
            inner = first_difference(a, b, f"{where}[{i}]")
            if inner:
                return inner
        return ""
    return "" if stored == asked else f"{where} was {stored!r}, now {asked!r}"


def _evaluation_batches(reader: SampleReader, size: int, limit: int) -> Iterator[Batch[NDArray[Any]]]:
    """Batches for held-out losses; a last batch of one sample is left out, since it has nobody to exchange with."""
    for batch in ordered_batches(reader, max(2, size), limit):
        if len(batch.keys) > 1:
            yield batch


def _has_pair(build: Build) -> bool:
    """Whether held-out numbers can be had: exchanging latent actions takes two samples."""
    return build.manifest["counts"].get("val", {"samples": 0})["samples"] > 1


def _allow_open_files(needed: int) -> None:
    """Raise this process's limit of open files to what the shards take.

    Raises:
        RunError: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed + 256  # what PyTorch, TensorBoard and the rest keep open
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise RunError(
                f"training keeps {needed} shard files open, the system allows {hard} (ulimit -Hn); raise that limit, "
                "or lower trainer.streams or trainer.block_shards"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _named(build: str, losses: Losses) -> dict[str, float]:
    numbers = {f"{build}/world_model": losses.world_model.item()}
    if losses.rollout is not None:
        numbers[f"{build}/rollout"] = losses.rollout.item()
    if losses.action is not None:
        numbers[f"{build}/action"] = losses.action.item()
    return numbers


def _allocate_pinned(size: int) -> NDArray[np.uint8]:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
