"""One training, as one rank of it: from builds and settings to checkpoints, metrics and held-out numbers."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobs.common.driver_lock import DriverLock
from jobs.common.policy.bounded_loading import bounded_loading
from jobs.common.policy.chosen_cameras import camera_names, chosen_cameras
from jobs.common.policy.robot_interface import RobotInterface
from jobs.common.run_folder import require_plain
from jobs.datasets.contract.build_contract import interface_of
from jobs.training.agreement import require_agreement, weights_digest
from jobs.training.builds.common_sizes import common_sizes
from jobs.training.builds.open_builds import AuditedBuild, open_builds
from jobs.training.ended import ENDED_FILE, HELD_OUT_FILE
from jobs.training.held_out.result import HeldOut
from jobs.training.held_out.text import describe_results
from jobs.training.loop.data import describe_streams
from jobs.training.loop.loop import Trainer
from jobs.training.loop.ownership import Ownership
from jobs.training.loop.rank_watch import watched
from jobs.training.loop.ranks import Ranks, joined
from jobs.training.loop.throughput import measure_throughput
from jobs.training.metrics.metrics_log import MetricsLog
from jobs.training.metrics.sinks import require_packages
from jobs.training.settings import CheckpointFormat, Resume, TrainConfig
from model.attention.backend import resolve_backend
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.vouched import VOUCHED, as_json, vouched_of
from model.exchange.initial import load_initial
from model.exchange.lerobot import require_lerobot
from model.exchange.starvla import require_starvla
from model.settings import ModelSettings
from model.student.adapters import require_peft
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import RunError, SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Sizes
from pipeline.format.settings import deciding, plain
from pipeline.storage.atomic import write_atomic
from pipeline.storage.store import open_store

PACKAGES = ("torch", "transformers", "numpy", "pyarrow", "pillow", "safetensors")
"""Whose versions a run writes down."""


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
    with joined(config.trainer.device, config.trainer.rank_timeout_s) as ranks:
        ranks.from_main(lambda: _require_packages(config))  # before anything is read or written
        opened = open_builds(config)
        builds = [one.build for one in opened]
        sizes, stats = common_sizes(builds, config.model)
        found = ranks.from_main(lambda: _has_checkpoints(config))
        loads = found or config.init_from is not None
        model = build_model(config.model, sizes, stats, adapters=False, backbone_weights=not loads)
        _require_exportable(config, model)
        state = run_state(config, opened, sizes)
        loaded = "" if found else _load_initial(config, model)
        fresh = tuple(f"action_head.{part}." for part in config.reinitialise)
        digest = weights_digest(model, fresh) if loaded and ranks.world > 1 else ""
        require_agreement(ranks, state, digest)
        model.add_adapters()
        before = () if config.init_from is None or not loaded else vouched_of(config.init_from)
        vouchers = (*(one.voucher for one in opened), *before)
        trainer = Trainer(model, builds, config.weights, config.trainer, config.out, state, vouchers, ranks)
        with _alone(config.out, ranks) as owner:
            ranks.from_main(lambda: _require_as_found(config, found))
            return _run(config, trainer, state, loaded, owner)


def _load_initial(config: TrainConfig, model: VLAJEPA) -> str:
    """What was loaded, for people; "" if the run starts from none."""
    if config.init_from is None:
        return ""
    with bounded_loading(config.init_from):
        return load_initial(model, config.init_from, config.reinitialise)


def _require_packages(config: TrainConfig) -> None:
    """Raise SettingsError if a package that a setting needs is not installed."""
    require_peft(config.model.backbone.lora)
    require_packages(config.trainer.sinks)


def _require_exportable(config: TrainConfig, model: VLAJEPA) -> None:
    if config.for_export == CheckpointFormat.LEROBOT:
        require_lerobot(model)
    elif config.for_export == CheckpointFormat.STARVLA:
        require_starvla(model)


def _run(
    config: TrainConfig,
    trainer: Trainer,
    state: Mapping[str, Any],
    loaded: str,
    owner: Ownership,
) -> dict[str, HeldOut]:
    """From the first step, or the newest checkpoint, to the results."""
    ranks = trainer.ranks
    resumed = config.resume == Resume.AUTO and trainer.resume()
    if ranks.main:
        for name in (HELD_OUT_FILE, ENDED_FILE):  # of an earlier end: they would be taken for this run's
            (config.out / name).unlink(missing_ok=True)
        write_atomic(config.out / "run.json", _json_bytes({**state, **_circumstances(config, trainer)}))
        start = f"resumed at step {trainer.step}" if resumed else loaded
        damaged = [f"WARNING: {problem}; set aside, an older checkpoint is used" for problem in trainer.damaged]
        log_line(config.out, "\n".join(filter(None, (*damaged, start, describe(trainer)))))
    throughput = measure_throughput(trainer.streams, config.model, trainer.model.sizes, config.trainer, ranks)
    with (
        MetricsLog(
            config.out,
            trainer.step,
            (config.trainer.last_step, config.trainer.log_every),
            config.trainer.sinks,
            state,
            ranks.main,
        ) as log,
        watched(ranks, config.trainer.rank_timeout_s, config.out),
    ):
        trainer.train(log, throughput, owner)
        results = {}
        if not trainer.stopped_by:
            results = trainer.evaluate()
            log.held_out(trainer.step, results)
    owner.check()
    if ranks.main:
        _write_end(config, trainer, results)
    return results


@contextlib.contextmanager
def _alone(out: Path, ranks: Ranks) -> Iterator[Ownership]:
    """Makes the folder of a run, which no other process may write to meanwhile.

    Raises:
        RunError: one does, and lives; on all ranks.
    """
    out.mkdir(parents=True, exist_ok=True)
    ranks.from_main(lambda: require_plain(out))
    store = open_store(out)
    lock = DriverLock(store)
    with contextlib.ExitStack() as stack:

        def take() -> None:
            stack.enter_context(lock)
            store.tidy()

        ranks.from_main(take)
        yield Ownership(lambda: ranks.from_main(lock.check), lock.look if ranks.main else lambda: None)


def _write_end(config: TrainConfig, trainer: Trainer, results: Mapping[str, HeldOut]) -> None:
    """How the run ended, and its results unless a signal ended it."""
    reason = trainer.stopped_by or ("finished" if trainer.step == config.trainer.steps else "stop_after")
    if trainer.stopped_by:
        text = (
            f"stopped by {reason} at step {trainer.step} of {config.trainer.steps}; saved to {trainer.checkpoints}; "
            "the same command continues from here"
        )
    else:
        content = {name: asdict(result) for name, result in results.items()}
        write_atomic(config.out / HELD_OUT_FILE, _json_bytes(content))
        where = f"checkpoint: {trainer.checkpoints}; curves: vlajepa report {config.out}"
        text = f"{describe_results(results)}\n{where}"
    write_atomic(config.out / ENDED_FILE, _json_bytes({"reason": reason, "step": trainer.step}))
    log_line(config.out, text)


def log_line(out: Path, text: str) -> None:
    """Print, and append to log.txt, from where `tail_run` shows it to who started the workers."""
    print(text, flush=True)
    with open(out / "log.txt", "a") as file:
        file.write(text + "\n")


def run_state(config: TrainConfig, opened: Sequence[AuditedBuild], sizes: Sizes) -> dict[str, Any]:
    """What the run decided and a resumed run must decide again, as plain JSON values."""
    builds = [one.build for one in opened]
    content = {
        "model": asdict(config.model),
        "model_sizes": asdict(sizes),
        "init_from": None if config.init_from is None else str(config.init_from),
        "reinitialise": list(config.reinitialise),
        "trainer": deciding(config.trainer),
        "weights": list(config.weights),
        "builds": {build.name: build.fingerprint for build in builds},
        "build_sha256": {one.build.name: one.sha256 for one in opened},
        "build_order": [build.name for build in builds],
        "sizes": {build.name: asdict(build.sizes) for build in builds},
        "robot": next((asdict(_interface(build, config.model)) for build in builds if build.sizes.action), None),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _interface(build: Build, model: ModelSettings) -> RobotInterface:
    """Of the policy: its cameras are those that the student sees."""
    shown = camera_names(build, chosen_cameras(build, model).images)
    return replace(interface_of(build.manifest), views=shown)


def _circumstances(config: TrainConfig, trainer: Trainer) -> dict[str, Any]:
    """What may change when a run is resumed: paths of its builds and who vouches, its ranks, versions, the rest."""
    paths = {build.name: build.remote or str(build.path.resolve()) for build in trainer.builds}
    decided = deciding(config.trainer)
    other = {name: value for name, value in plain(config.trainer).items() if name not in decided}
    return {
        "build_paths": paths,
        VOUCHED: as_json(trainer.vouchers),
        "ranks": trainer.ranks.world,
        "device": trainer.ranks.device.type,
        "trainer_runtime": other,
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
    lines = [f"model on {where}, attention by {backend}: {sizes} parameters", *describe_streams(trainer.streams)]
    lines += [trainer.attention_said] if trainer.attention_said else []
    lines += [
        f"WARNING: {name} has no two samples to hold out (split val), so no held-out number will say what was learnt; "
        "preprocess with source.val_share above 0, or more episodes"
        for name in trainer.not_held_out
    ]
    lines.append(f"from step {trainer.step} of {trainer.settings.steps}")
    return "\n".join(lines)


def _has_checkpoints(config: TrainConfig) -> bool:
    """Whether the run goes on from a checkpoint of its own, and so needs no weights of `init_from`."""
    found = bool(list_checkpoints(config.out / "checkpoints"))
    if config.resume == Resume.NEVER and found:
        raise SettingsError(f"{config.out} holds checkpoints and resume=never; choose another out= or resume=auto")
    return found


def _require_as_found(config: TrainConfig, found: bool) -> None:
    """Once no other run writes: one may have, since the folder was looked at, and with it the weights to begin with."""
    if _has_checkpoints(config) != found:
        raise RunError(f"{config.out}: another run changed its checkpoints while this one started; start it again")


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
