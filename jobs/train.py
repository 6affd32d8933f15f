"""`vlajepa train`: trains on audited builds. The same command resumes from the last checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from jobs.config import parse
from jobs.metrics import MetricsLog
from jobs.train_settings import TrainConfig
from jobs.training import HeldOut, Trainer, first_difference
from model.attention import resolve_backend
from model.exchange.initial import load_initial
from model.normalize import BuildStats, merge_stats
from model.vla_jepa import build_model
from pipeline.audit.verdict import require_clean_verdict
from pipeline.errors import AuditRefusedError, SettingsError
from pipeline.manifest import Build, load_build
from pipeline.schema import Sizes
from pipeline.shards import write_atomic

RUNTIME_ONLY = (
    "device",
    "bf16",
    "threads",
    "ahead",
    "log_every",
    "eval_every",
    "eval_samples",
    "save_every",
    "keep",
    "stop_after",
    "verify",
)
"""Trainer settings that a resumed run may change: they do not change the order of samples or the schedule."""


def run(config: DictConfig) -> None:
    train(parse(TrainConfig, config))


def train(config: TrainConfig) -> dict[str, HeldOut]:
    """Train, evaluate on the validation splits, and write the results. Returns the held-out numbers by build.

    Raises:
        AuditRefusedError: a build has no clean verdict, or is stamped leaky.
        SettingsError: the builds do not fit each other.
    """
    if (config.out / "plan.json").exists():
        raise SettingsError(f"{config.out} is a build; choose another folder for out=, the run would spoil it")
    builds = [open_audited(path, config.allow_leaky) for path in config.builds]
    for build in builds:
        if not build.manifest["counts"].get("train", {"samples": 0})["samples"]:
            raise SettingsError(
                f"{build.path} has no train samples, only {', '.join(build.manifest['counts'])}; build it with a lower "
                "source.val_share or more episodes"
            )
    sizes, stats = common_sizes(builds)
    model = build_model(config.model, sizes, stats)
    state = run_state(config, builds, sizes)
    trainer = Trainer(model, builds, config.trainer, config.out, state)
    _enter(config, trainer)
    config.out.mkdir(parents=True, exist_ok=True)
    write_atomic(config.out / "run.json", (json.dumps(state, indent=2) + "\n").encode())
    print(describe(trainer, builds))
    settings = config.trainer
    stop = min(settings.steps, settings.stop_after or settings.steps)
    with MetricsLog(config.out, trainer.step, stop, settings.log_every) as log:
        trainer.train(log)
        results = trainer.evaluate()
        log.held_out(trainer.step, results)
    content = {name: asdict(result) for name, result in results.items()}
    write_atomic(config.out / "held_out.json", (json.dumps(content, indent=2) + "\n").encode())
    print(describe_results(results))
    print(f"checkpoint: {trainer.checkpoints}; curves: tensorboard --logdir {config.out / 'tensorboard'}")
    return results


def open_audited(path: Path, allow_leaky: bool) -> Build:
    """Open a build that has a clean verdict.

    A build stamped leaky never has one; with `allow_leaky` it is opened for comparison.
    """
    build = load_build(path)
    if build.manifest["leaky"]:
        if not allow_leaky:
            raise AuditRefusedError(
                f"{path} is stamped leaky (encoder mode clip): its targets' context has seen the future. Train on a "
                "build of mode prefix, or say allow_leaky=true for a comparison"
            )
        return build
    require_clean_verdict(path)
    return build


def common_sizes(builds: Sequence[Build]) -> tuple[Sizes, BuildStats | None]:
    """Sizes and statistics of the model: those of the robot builds together, or sizes alone if none has actions.

    Raises:
        SettingsError: builds differ in encoder, steps or latent sizes, or two robot builds differ in state or action.
    """
    first = builds[0]
    names = [build.name for build in builds]
    if len(set(names)) < len(names):
        raise SettingsError(f"two builds have the same name ({', '.join(names)}); give source.name when building")
    for other in builds[1:]:
        for key in ("steps", "tokens", "width", "image_size"):
            _require_equal(f"sizes.{key}", first, other, getattr(first.sizes, key), getattr(other.sizes, key))
        difference = first_difference(_encoder(first), _encoder(other))
        if difference:
            raise SettingsError(f"{first.path} and {other.path} have targets of different encoders: {difference}")
    robots = [build for build in builds if build.has_actions]
    if not robots:
        return replace(first.sizes, state=0, chunk=0, action=0), None
    for other in robots[1:]:
        for key in ("state", "chunk", "action"):
            _require_equal(f"sizes.{key}", robots[0], other, getattr(robots[0].sizes, key), getattr(other.sizes, key))
    views = max(build.sizes.views for build in builds)
    return replace(robots[0].sizes, views=views), merge_stats(
        [BuildStats.read(robot.path / "stats.json") for robot in robots]
    )


def run_state(config: TrainConfig, builds: Sequence[Build], sizes: Sizes) -> dict[str, Any]:
    """What the run decided and a resumed run must decide again, as plain JSON values."""
    trainer = {key: value for key, value in asdict(config.trainer).items() if key not in RUNTIME_ONLY}
    verdicts = {build.name: _verdict(build) for build in builds}
    content = {
        "model": asdict(config.model),
        "model_sizes": asdict(sizes),
        "init_from": None if config.init_from is None else str(config.init_from),
        "reinitialise": list(config.reinitialise),
        "trainer": trainer,
        "builds": {build.name: build.fingerprint for build in builds},
        "verdicts": verdicts,
        "sizes": {build.name: asdict(build.sizes) for build in builds},
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def describe(trainer: Trainer, builds: Sequence[Build]) -> str:
    """Model, builds and position in a few lines."""
    parts = {
        "backbone": trainer.model.student,
        "predictor": trainer.model.predictor,
        "action head": trainer.model.action_head,
    }
    sizes = ", ".join(f"{name} {_count(part) / 1e6:.2f} M" for name, part in parts.items() if part is not None)
    backend = resolve_backend(trainer.model.settings.attention, trainer.device)
    lines = [f"model on {trainer.device}, attention by {backend}: {sizes} parameters"]
    for build, stream in zip(builds, trainer.streams, strict=True):
        order = stream.order
        unused = order.samples % order.batch_size
        lines.append(
            f"{build.name}: {order.samples:,} samples, {order.steps_per_epoch:,} steps an epoch; "
            f"the {unused} that do not fill a batch change each epoch"
        )
    lines.append(f"from step {trainer.step} of {trainer.settings.steps}")
    return "\n".join(lines)


def describe_results(results: Mapping[str, HeldOut]) -> str:
    """Held-out numbers as a table."""
    lines = [
        f"{'held-out world-model loss (L1)':32} {'model':>9} {'nothing changes':>16} {'actions shuffled':>17} "
        f"{'action':>9}"
    ]
    for name, r in results.items():
        action = f"{r.action:9.4f}" if r.action is not None else f"{'-':>9}"
        lines.append(f"{name:32} {r.model:9.4f} {r.nothing_changes:16.4f} {r.shuffled:17.4f} {action}")
    return "\n".join(lines)


def _enter(config: TrainConfig, trainer: Trainer) -> None:
    resumed = trainer.resume() if config.resume == "auto" else False
    if config.resume == "never" and any(trainer.checkpoints.glob("*")):
        raise SettingsError(f"{config.out} holds checkpoints and resume=never; choose another out= or resume=auto")
    if resumed:
        print(f"resumed at step {trainer.step}")
    elif config.init_from is not None:
        print(load_initial(trainer.model, config.init_from, config.reinitialise))


def _encoder(build: Build) -> dict[str, Any]:
    """What two builds' encoders must have in common: all but how the work was cut up."""
    encoder: dict[str, Any] = build.manifest["settings"]["encoder"]
    return {key: value for key, value in encoder.items() if key not in ("batch", "cpu_threads", "device")}


def _require_equal(name: str, first: Build, other: Build, a: int, b: int) -> None:
    if a != b:
        raise SettingsError(f"{name} is {a} in {first.path} and {b} in {other.path}; build them with the same settings")


def _verdict(build: Build) -> str:
    if build.manifest["leaky"]:
        return "leaky"
    verdict = json.loads((build.path / "audit" / "verdict.json").read_bytes())
    return f"{verdict['status']} at level {verdict['level']}, build.json {verdict['build_sha256']}"


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
