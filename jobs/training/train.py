"""`vlajepa train`: trains on audited builds. The same command resumes from the last checkpoint."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from jobs.common.config import parse
from jobs.common.differences import first_difference
from jobs.common.driver_lock import DriverLock
from jobs.common.robot_interface import RobotInterface
from jobs.training.loop.data import cache_folder, describe_groups
from jobs.training.loop.held_out import HeldOut
from jobs.training.loop.loop import Trainer
from jobs.training.loop.metrics import MetricsLog
from jobs.training.loop.ranks import Ranks, joined
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.throughput import measure_throughput
from jobs.training.settings import TrainConfig
from model.attention.attention import resolve_backend
from model.exchange.initial import load_initial
from model.normalize import BuildStats, merge_stats
from model.vla_jepa import VLAJEPA, build_model
from pipeline.audit.verdict import require_clean_verdict
from pipeline.errors import AuditRefusedError, RunError, SettingsError
from pipeline.format.build import Build, load_build
from pipeline.format.schema import Sizes
from pipeline.storage.atomic import write_atomic
from pipeline.storage.download import mirror_build
from pipeline.storage.store import is_remote, open_store

DECIDES = (
    "steps", "warmup_steps", "batch_size", "mixture_unit", "accumulate", "co_training", "lr_backbone", "lr_action_head",
    "lr_rest", "lr_final", "beta1", "beta2", "weight_decay", "clip_norm", "seed", "streams", "block_shards",
    "on_corrupt", "shift", "blind",
)  # fmt: skip
"""Trainer settings that decide what a run learns: a resumed run must have the same. The others may change."""


PACKAGES = ("torch", "transformers", "numpy", "pyarrow", "pillow", "safetensors")
"""Whose versions a run writes down."""


def run(config: DictConfig) -> None:
    settings = parse(TrainConfig, config)
    if settings.stages:
        from jobs.training.stages import train_stages

        train_stages(settings)
    elif settings.trainer.num_workers is not None:
        from jobs.cluster.train_launcher import train_on_ray

        train_on_ray(settings)
    else:
        train(settings)


def train(config: TrainConfig) -> dict[str, HeldOut]:
    """Train, evaluate on the validation splits, and write the results. Returns the held-out numbers by build.

    Runs on one rank of however many this process belongs to.

    Raises:
        AuditRefusedError: a build has no clean verdict, or is stamped leaky.
        SettingsError: the builds do not fit each other.
        RunError: another process writes to `out`, or the training fails.
    """
    if (config.out / "plan.json").exists():
        raise SettingsError(f"{config.out} is a build; choose another folder for out=, the run would spoil it")
    with joined(config.trainer.device) as ranks:
        return _train(config, ranks)


def _train(config: TrainConfig, ranks: Ranks) -> dict[str, HeldOut]:
    builds = open_builds(config)
    sizes, stats = common_sizes(builds)
    model = build_model(config.model, sizes, stats)
    state = run_state(config, builds, sizes)
    loaded = _initial_weights(config, model)
    trainer = Trainer(model, builds, config.weights, config.trainer, config.out, state, ranks)
    with _alone(config.out, ranks):
        return _run(config, trainer, builds, state, loaded)


def _run(
    config: TrainConfig, trainer: Trainer, builds: Sequence[Build], state: Mapping[str, Any], loaded: str
) -> dict[str, HeldOut]:
    """From the first step, or the newest checkpoint, to the results."""
    ranks = trainer.ranks
    resumed = config.resume == "auto" and trainer.resume()
    if ranks.main:
        write_atomic(config.out / "run.json", _json_bytes({**state, **_circumstances(config, builds, ranks)}))
        start = f"resumed at step {trainer.step}" if resumed else loaded
        tell(config.out, "\n".join(filter(None, (start, describe(trainer)))))
    s = config.trainer
    throughput = measure_throughput(trainer.groups, config.model, trainer.model.sizes, s, ranks)
    with MetricsLog(config.out, trainer.step, s.last_step, s.log_every, ranks.main, s.wandb, state) as log:
        trainer.train(log, throughput)
        if trainer.stopped_by:
            return _stopped(config, trainer)
        results = trainer.evaluate()
        log.held_out(trainer.step, results)
    if ranks.main:
        _write_results(config, trainer, results)
    return results


@contextlib.contextmanager
def _alone(out: Path, ranks: Ranks) -> Iterator[None]:
    """Makes the folder of a run, which no other process may write to meanwhile.

    Raises:
        RunError: one does, and lives; on all ranks.
    """
    with contextlib.ExitStack() as stack:
        problem = ""
        if ranks.main:
            out.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(DriverLock(open_store(out)))
            except RunError as error:
                problem = str(error)
        problem = next(filter(None, ranks.gather(problem)), "")
        if problem:
            raise RunError(problem)
        yield


def _stopped(config: TrainConfig, trainer: Trainer) -> dict[str, HeldOut]:
    if trainer.ranks.main:
        tell(
            config.out,
            f"stopped by {trainer.stopped_by} at step {trainer.step} of {config.trainer.steps}; saved to "
            f"{trainer.checkpoints}; the same command continues from here",
        )
        ended = {"reason": trainer.stopped_by, "step": trainer.step}
        write_atomic(config.out / "ended.json", _json_bytes(ended))
    return {}


def _write_results(config: TrainConfig, trainer: Trainer, results: Mapping[str, HeldOut]) -> None:
    content = {name: asdict(result) for name, result in results.items()}
    write_atomic(config.out / "held_out.json", _json_bytes(content))
    reason = "finished" if trainer.step == config.trainer.steps else "stop_after"
    write_atomic(config.out / "ended.json", _json_bytes({"reason": reason, "step": trainer.step}))
    where = f"checkpoint: {trainer.checkpoints}; curves: vlajepa report {config.out}"
    tell(config.out, f"{describe_results(results)}\n{where}")


def tell(out: Path, text: str) -> None:
    """Print, and append to log.txt, where those who started this process can read it."""
    print(text, flush=True)
    with open(out / "log.txt", "a") as file:
        file.write(text + "\n")


def open_builds(config: TrainConfig) -> list[Build]:
    """The audited builds of a run, each with train samples.

    Raises:
        AuditRefusedError: a build has no clean verdict, or is stamped leaky.
        SettingsError: a build has no train samples.
    """
    builds = [open_audited(str(path), config.allow_leaky, config.trainer) for path in config.builds]
    for build in builds:
        if not build.manifest["counts"].get("train", {"samples": 0})["samples"]:
            raise SettingsError(
                f"{build.path} has no train samples, only {', '.join(build.manifest['counts'])}; build it with a lower "
                "source.val_share or more episodes"
            )
    return builds


def open_audited(address: str, allow_leaky: bool, settings: TrainerSettings) -> Build:
    """Open a build that has a clean verdict; of one that lies elsewhere the small files are copied here.

    A build stamped leaky never has one; with `allow_leaky` it is opened for comparison.
    """
    remote = address if is_remote(address) else None
    path = Path(address) if remote is None else mirror_build(address, cache_folder(settings) / "builds")
    build = replace(load_build(path), remote=remote)
    if build.manifest["leaky"]:
        if not allow_leaky:
            raise AuditRefusedError(
                f"{address} is stamped leaky (encoder mode clip): its targets' context has seen the future. Train on a "
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
    unknown = set(DECIDES) - {field.name for field in fields(TrainerSettings)}
    assert not unknown, unknown
    content = {
        "model": asdict(config.model),
        "model_sizes": asdict(sizes),
        "init_from": None if config.init_from is None else str(config.init_from),
        "reinitialise": list(config.reinitialise),
        "trainer": {name: getattr(config.trainer, name) for name in DECIDES},
        "weights": list(config.weights),
        "builds": {build.name: build.fingerprint for build in builds},
        "build_order": [build.name for build in builds],
        "verdicts": {build.name: _verdict(build) for build in builds},
        "sizes": {build.name: asdict(build.sizes) for build in builds},
        "robot": next((asdict(RobotInterface.of(build.manifest)) for build in builds if build.sizes.action), None),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _circumstances(config: TrainConfig, builds: Sequence[Build], ranks: Ranks) -> dict[str, Any]:
    """What may change when a run is resumed: where its builds lie, on how many ranks it runs, versions, the rest."""
    paths = {build.name: build.remote or str(build.path.resolve()) for build in builds}
    other = {name: value for name, value in asdict(config.trainer).items() if name not in DECIDES}
    return {
        "build_paths": paths,
        "ranks": ranks.world,
        "device": ranks.device.type,
        "trainer_runtime": json.loads(json.dumps(other, default=str)),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def describe(trainer: Trainer) -> str:
    """Model, builds, ranks and position in a few lines."""
    parts = {
        "backbone": trainer.model.student,
        "predictor": trainer.model.predictor,
        "action head": trainer.model.action_head,
    }
    sizes = ", ".join(f"{name} {_count(part) / 1e6:.2f} M" for name, part in parts.items() if part is not None)
    ranks = trainer.ranks
    backend = resolve_backend(trainer.model.settings.attention, ranks.device)
    where = (
        f"{ranks.device.type}, {ranks.world} ranks ({trainer.settings.strategy})" if ranks.world > 1 else ranks.device
    )
    lines = [f"model on {where}, attention by {backend}: {sizes} parameters", *describe_groups(trainer.groups)]
    lines.append(f"from step {trainer.step} of {trainer.settings.steps}")
    return "\n".join(lines)


def describe_results(results: Mapping[str, HeldOut]) -> str:
    """Held-out numbers as a table."""
    lines = [
        f"{'held-out world-model loss (L1)':32} {'model':>9} {'nothing changes':>16} {'actions shuffled':>17} "
        f"{'action':>9} {'other images':>13}"
    ]
    for name, r in results.items():
        action = "-" if r.action is None else f"{r.action:.4f}"
        blind = "-" if r.action_shuffled is None else f"{r.action_shuffled:.4f}"
        errors = f"{r.model:9.4f} {r.nothing_changes:16.4f} {r.shuffled:17.4f}"
        lines.append(f"{name:32} {errors} {action:>9} {blind:>13}")
    return "\n".join(lines)


def _initial_weights(config: TrainConfig, model: VLAJEPA) -> str:
    """Weights of `init_from`, unless the run goes on from a checkpoint of its own. What was loaded, for people."""
    found = any((config.out / "checkpoints").glob("step-*"))
    if config.resume == "never" and found:
        raise SettingsError(f"{config.out} holds checkpoints and resume=never; choose another out= or resume=auto")
    if found or config.init_from is None:
        return ""
    return load_initial(model, config.init_from, config.reinitialise)


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


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
