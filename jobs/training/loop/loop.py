"""The training loop: global batches, optimiser steps on the losses of all builds, checkpoints, held-out numbers.

Everything a step does is a function of (settings, builds, number of ranks, step): the order of samples is, and the
random numbers are seeded from (seed, step, rank). So a run that resumes from a checkpoint continues the loss curve bit
for bit on the CPU; on another number of ranks it sees the same global batches.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from jobs.common.policy.image_ablation import GREY_LEVEL, ImageAblation
from jobs.common.policy.robot_interface import without_words
from jobs.training.held_out.result import HeldOut
from jobs.training.loop.checkpointing import CheckpointWriter
from jobs.training.loop.data import held_out_reader, make_streams, open_cache
from jobs.training.loop.evaluate import HeldOutSamples, evaluate, has_pair
from jobs.training.loop.guards import Dump, LossGuard, SkippedSamples, StopSignal, dump_keys, progress_of
from jobs.training.loop.ownership import Ownership
from jobs.training.loop.ranks import Ranks, distribute, gradients_stay
from jobs.training.loop.settings import CoTraining, TrainerSettings
from jobs.training.loop.step.garbage import collected_at_steps
from jobs.training.loop.step.micro_batches import MicroBatch, micro_batches, passes, record, weighted_total
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.phases import Phase, StepPhases
from jobs.training.loop.step.step_graph import StepGraphs
from jobs.training.loop.step.step_numbers import StepNumbers, UpdateNumbers, steps_under_way
from jobs.training.loop.step.weighted_mean import WeightedMeans
from jobs.training.loop.throughput import Throughput
from jobs.training.metrics.metrics_log import MetricsLog
from model.attention.backend import resolve_backend
from model.attention.quickest import choose_quickest, measure_attention
from model.batch import to_device
from model.checkpoint.checkpoint import load_averages, load_optimizer, load_weights, newest_whole
from model.checkpoint.sharding import compile_blocks, shard_model
from model.checkpoint.state_file import read_state
from model.checkpoint.vouched import VOUCHED, Voucher, as_json, vouched
from model.losses import Losses
from model.settings import AttentionBackend
from model.student.augment import shifted
from model.vla_jepa import VLAJEPA, TrainingBatch
from pipeline.errors import BuildError, RunError
from pipeline.format.build import Build
from pipeline.format.text.differences import first_difference
from pipeline.streaming.stream import NumpyBatch


class Trainer:
    """Trains a model on builds, on one rank of several.

    Args:
        weights: one a build, or none; see `jobs.training.loop.data`.
        state: what the run decided, stored with every checkpoint; a resumed run must have decided the same.
        vouchers: for the run's builds, then for the weights it starts from; stored with every checkpoint.

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
        vouchers: Sequence[Voucher],
        ranks: Ranks,
    ) -> None:
        self.vouchers = tuple(vouchers)
        self.settings, self.out, self.ranks, self.builds = settings, out, ranks, builds
        resolve_backend(model.settings.attention, ranks.device)  # refused here rather than in the first step
        cache = open_cache(builds, settings)
        self.streams = make_streams(builds, weights, settings, ranks, cache, model.settings)
        self.model = model.to(ranks.device)
        self.attention_said = self._choose_attention()
        bf16, sharded = settings.bf16 and ranks.device.type == "cuda", ranks.sharded(settings.strategy)
        if sharded:
            shard_model(self.model, ranks.mesh(), torch.bfloat16 if bf16 else None)
        self.optimiser = Optimiser(self.model, settings, rounded=bf16 and not sharded)
        if settings.compile:
            compile_blocks(self.model)
        self._alternate = settings.co_training == CoTraining.ALTERNATE and len(self.streams) > 1
        self._wrapped = self.model if sharded else distribute(self.model, ranks, unused=self._alternate)
        # peft copies the numbers of its tokens to the device in each forward, which no graph can record
        graphed = settings.cuda_graphs and bf16 and ranks.world == 1 and not self.model.settings.backbone.lora.rank
        self._graphs = StepGraphs(self.model, self.optimiser) if graphed else None
        self.not_held_out = tuple(build.name for build in builds if not has_pair(build))
        self._held_out_readers = [
            held_out_reader(build, settings, cache, model=model.settings) for build in builds if has_pair(build)
        ]
        self._phases = StepPhases(ranks.device, alone=ranks.world == 1)
        self._guard = LossGuard(settings.divergence)
        self._skipped = SkippedSamples(out, settings.max_skipped_share)
        self._state, self.step, self.stopped_by = state, 0, ""
        self._launched: deque[StepNumbers] = deque()
        self.damaged: list[str] = []

    def _choose_attention(self) -> str:
        """With attention=auto on CUDA, measure which kernel is quickest; all ranks take what rank 0 found."""
        device = self.ranks.device
        if self.model.settings.attention != AttentionBackend.AUTO or device.type != "cuda":
            return ""
        shapes = []
        for stream in self.streams:
            samples = stream.mixture.batch_size // (self.ranks.world * self.settings.accumulate)
            sizes = [reader.build.sizes for reader in stream.readers]
            most = max(size.views for size in sizes)
            shapes += self.model.student.packed_shapes(max(1, samples), most, bool(sizes[0].action))
        return choose_quickest(self.ranks.from_main(lambda: measure_attention(shapes, device)))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints"

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint, if there is one.

        Raises:
            BuildError: it belongs to a run that decided something else; the first difference is shown. Or there are
                checkpoints, and none is whole.
        """
        found, self.damaged = self.ranks.from_main(lambda: newest_whole(self.checkpoints))
        if found is None:
            self._skipped.restore(0, 0, self.ranks.main)
            return False
        stored = read_state(found)
        self.step, progress = stored.pop("step"), progress_of(stored.pop("progress", None), found)
        earlier, own = vouched(stored), self.vouchers[: len(self.builds)]
        both = zip(own, earlier, strict=False)  # of imported weights nothing but one entry is known
        self.vouchers = (*(one.after(before) for one, before in both), *earlier[len(own) :])
        stored.pop(VOUCHED, None)
        difference = first_difference(without_words(stored), without_words(self._state))
        if difference:
            raise BuildError(
                f"{found} belongs to another run: {difference}; choose another out=, or start with the same settings"
            )
        self._state = {**self._state, "robot": stored["robot"]}
        load_weights(found, self.model, masters=self.optimiser.masters, averaged=False)
        load_optimizer(found, self.optimiser.masters, self.optimiser.adamw)
        if self.optimiser.averages.tensors:
            load_averages(found, self.optimiser.averages.tensors)
        self.optimiser.publish()
        self._guard.loss_mean = progress.loss_mean
        self._skipped.restore(progress.samples_seen, progress.samples_skipped, self.ranks.main)
        return True

    def train(self, log: MetricsLog, throughput: Throughput, owner: Ownership) -> None:
        """Run to the last step, saving and evaluating on the way; SIGTERM saves and ends it early.

        Raises:
            RunError: the loss is not finite or has diverged, or a rank could not read its samples; the same on all
                ranks. Or another process has taken the folder over, which nothing more is written to.
        """
        settings, saved = self.settings, self.step
        stop = settings.last_step
        batches = micro_batches(self.streams, self.step, stop, settings.accumulate)
        self.model.train()
        writer = CheckpointWriter(self.checkpoints, self.ranks, settings)
        signal = StopSignal()
        with signal.noted(), writer, collected_at_steps(settings.collect_every) as collect:
            report = partial(self._report, log, throughput)
            throughput.begin()
            while self.step < stop:
                self._phases.begin()
                self.ranks.position.mark(f"reads the samples of step {self.step}")
                with throughput.waiting():
                    current, skipping, self.stopped_by = self._next(batches, signal)
                if self.stopped_by:
                    break
                updates, dump = self._step(current)
                owner.look()
                self._skipped.add(self.step, _all(current), self.ranks, skipping)
                self._phases.end_step()
                self._launched.append(StepNumbers(self.step, updates, self._skipped.numbers(), dump))
                self.step += 1
                report(steps_under_way(self.ranks.device))
                if settings.eval_every and self.step % settings.eval_every == 0 and self.step < stop:
                    report(0)
                    log.held_out(self.step, self.evaluate())
                    throughput.begin()
                collect(self.step)
                if self.step % settings.save_every == 0:
                    self._save(writer, owner, report)
                    saved = self.step
                    throughput.begin()
            if saved < self.step:
                self._save(writer, owner, report)

    def evaluate(self) -> dict[str, HeldOut]:
        """Held-out numbers of every build that has a validation split, by build name; the same on all ranks. Of the
        averaged weights, where there are any."""
        was_training = self.model.training
        self.model.eval()
        try:
            with self.optimiser.averages.in_place_of_weights(self.model):
                return {
                    samples.reader.build.name: evaluate(
                        self.model, samples, self.ranks, self._to_device, self._autocast, self.settings.seed
                    )
                    for samples in self._held_out
                }
        finally:
            self.model.train(was_training)

    @cached_property
    def _held_out(self) -> list[HeldOutSamples]:
        mark = self.ranks.position.mark
        return [HeldOutSamples.choose(reader, self.settings, mark) for reader in self._held_out_readers]

    def _next(self, batches: Any, signal: StopSignal) -> tuple[list[list[MicroBatch]], bool, str]:
        """The next step's micro batches by stream, whether a rank skipped samples, and the signal that came, if any.

        An error or a signal of one rank is one of all.
        """
        found: list[list[MicroBatch]] = []
        error = ""
        try:
            found = next(batches)
        except (RunError, OSError) as problem:
            error = str(problem)
        self._phases.end(Phase.DATA)
        skipping = any(micro.batch.skipped for micro in _all(found))
        came = signal.name
        failed, asked, skipped = self.ranks.count(bool(error), bool(came), skipping)
        if failed:
            raise BuildError("; ".join(dict.fromkeys(text for text in self.ranks.gather(error) if text)))
        stopped_by = next(name for name in self.ranks.gather(came) if name) if asked else ""
        self._phases.end(Phase.RANKS)
        return found, bool(skipped), stopped_by

    def _report(self, log: MetricsLog, throughput: Throughput, under_way: int) -> None:
        """Read the numbers of the steps launched but for the last so many, and stop the run by them."""
        while len(self._launched) > under_way:
            one = self._launched.popleft()
            self.ranks.position.mark(f"reads the numbers of step {one.step}")
            numbers: dict[str, float] = {}
            for update in one.updates:
                found = update.read()
                found["loss"] += numbers.get("loss", 0.0)
                numbers |= found
                self._guard.require_finite(numbers, one.dump)
            self._guard.require_converging(numbers, one.dump)
            throughput.end_step()
            if log.due(one.step + 1):
                numbers |= throughput.numbers() | self._phases.numbers() | dict(one.skipped)
            log.step(one.step + 1, numbers)

    def _step(self, streams: list[list[MicroBatch]]) -> tuple[list[UpdateNumbers], Dump]:
        """One optimiser step on the micro batches of all streams; alternating, one on each stream's, robots first.

        Nothing is read from the device: a step whose loss or gradients are not finite moves no weight, and ends the run
        when its numbers are read, before anything is saved.
        """
        self.ranks.position.mark(f"forward pass of step {self.step}")
        torch.manual_seed(step_seed(self.settings.seed, self.step, self.ranks.rank))
        numbers = []
        dump = partial(dump_keys, self.out, self.step, _all(streams), self.ranks)
        updates = streams[::-1] if self._alternate else [_all(streams)]
        for i, batches in enumerate(updates):
            means = WeightedMeans(self.ranks.device)
            rates = self.optimiser.begin(self.step * len(updates) + i)
            self._backward(batches, means)
            sums = means.sums(self.ranks)
            self._phases.end(Phase.RANKS)
            norms = self.optimiser.norms()
            self.optimiser.step(norms["grad_norm"])
            self._phases.end(Phase.OPTIMISER)
            numbers.append(UpdateNumbers.of(sums, norms, rates))
        return numbers, dump

    def _backward(self, batches: Sequence[MicroBatch], means: WeightedMeans) -> None:
        """Gradients of all passes add up; the ranks' gradients are reduced in the last one's backward pass."""
        loss = torch.zeros((), device=self.ranks.device, dtype=torch.float64)
        together = passes(batches)
        for i, micros in enumerate(together):
            moved = [self._to_device(micro.batch) for micro in micros]
            weights, names = [micro.weight for micro in micros], [micro.build.name for micro in micros]
            if self._graphs:
                found = self._graphs.run(moved, weights, names, first=i == 0)
                self._phases.end(Phase.PASSES)
            else:
                found = self._pass(moved, weights, names, last=i == len(together) - 1)
            for micro, losses, (_, targets) in zip(micros, found, moved, strict=True):
                loss += losses.total.detach().double() * micro.weight
                record(means, micro, losses, targets)
        means.add("loss", loss, 1.0)

    def _pass(
        self, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str], last: bool
    ) -> tuple[Losses, ...]:
        """One forward and backward pass."""
        with gradients_stay(self._wrapped, not last):
            with self._autocast():
                found: tuple[Losses, ...] = self._wrapped(*batches)
            self._phases.end(Phase.FORWARD)
            self.ranks.position.mark(f"backward pass of step {self.step}")
            weighted_total(found, weights, names).backward()
        # DDP averages in the last pass what the model's own parameters have collected.
        if last or self.ranks.world == 1:
            self.optimiser.collect()
        self._phases.end(Phase.BACKWARD)
        return found

    def _save(self, writer: CheckpointWriter, owner: Ownership, report: Callable[[int], None]) -> None:
        """Once the numbers of all steps were found good."""
        report(0)
        owner.check()
        self.ranks.position.mark(f"saves step {self.step}")
        progress = {"loss_mean": self._guard.loss_mean, **self._skipped.progress()}
        writer.save(
            self.step,
            self.model,
            self.optimiser,
            {**self._state, VOUCHED: as_json(self.vouchers), "progress": progress},
        )

    def _to_device(self, batch: NumpyBatch) -> TrainingBatch:
        moved = to_device(batch, self.ranks.device, self.model.settings.predictor.views)
        observation = moved.observation
        if self.settings.shift and self.model.training:
            observation = replace(observation, images=shifted(observation.images, self.settings.shift))
        if self.settings.image_ablation is ImageAblation.GREY:
            observation = replace(observation, images=torch.full_like(observation.images, GREY_LEVEL))
        return observation, moved.targets

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.bf16 and self.ranks.device.type == "cuda"
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=enabled)


def _all(streams: Sequence[Sequence[MicroBatch]]) -> list[MicroBatch]:
    return [micro for batches in streams for micro in batches]


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Seed of the random numbers of one step (noise, dropout) on a rank: 63 bits of SHA-256 of "seed:step[:rank]"."""
    name = f"{seed}:{step}" + (f":{rank}" if rank else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
