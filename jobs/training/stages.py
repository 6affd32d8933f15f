"""Several trainings in a row, each from the weights of the one before; their builds can be made of sample data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig

from jobs.cluster.connect import ray_joined
from jobs.cluster.settings import ClusterSettings
from jobs.common.config import parse
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.preprocess import preprocess
from jobs.preprocess.settings import BuildConfig
from jobs.training.settings import Stage, TrainConfig
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import RunError
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.format.enums import EncoderKind, Resize
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2

CLIPS, EPISODES, SIZE = 16, 5, 64
"""Of each sample dataset; SIZE in pixels."""

VIDEO = ("ssv2",)
"""Stage builds that are human video; the others are robots."""


def train_stages(config: TrainConfig, train: Callable[[TrainConfig], None]) -> None:
    """Train every stage in its own folder of `out`; the same command continues where it was interrupted.

    Args:
        train: trains one stage.
    """
    make_sample_builds(config.out, [name for stage in config.stages for name in stage.builds])
    before: Path | None = None
    for stage in config.stages:
        out = config.out / stage.experiment
        print(f"\n== {stage.experiment}: {', '.join(stage.builds)}", flush=True)
        words = [*_overrides(config, stage, out, before), *_asked_for()]
        train(parse(TrainConfig, compose("train", overrides=words)))
        before = out


def make_sample_builds(out: Path, names: Iterable[str]) -> None:
    """Audited builds of sample data in `out`/builds, each of its own seed; those that are there already stay."""
    seeds = {name: seed for seed, name in enumerate(dict.fromkeys(names))}
    missing = [name for name in seeds if not (out / "builds" / name / "audit" / "verdict.json").exists()]
    if not missing:
        return
    with ray_joined(None):
        for name in missing:
            print(f"\n== sample data and build {name}", flush=True)
            root = out / "data" / name
            if not root.exists():
                _write_data(root, name, seeds[name])
            build = preprocess(_build_config(out / "builds" / name, root, name))
            verdict = audit_build(build.path)
            write_verdict(build.path, verdict)
            if verdict.status != "clean":
                raise RunError(f"{build.path}: the audit found {verdict.status}; vlajepa audit {build.path} shows why")


def _write_data(root: Path, name: str, seed: int) -> None:
    if name in VIDEO:
        write_ssv2(root, clips=CLIPS, seed=seed, size=SIZE)
    else:
        write_lerobot(root, episodes=EPISODES, seed=seed, size=SIZE)


def _build_config(out: Path, root: Path, name: str) -> BuildConfig:
    video = name in VIDEO
    source = {"type": "ssv2" if video else "lerobot", "name": name, "root": str(root)}
    return BuildConfig(
        out=out,
        source=configured_source(source if video else source | {"val_share": 0.3}),
        window=WindowPolicy(interval=2, every=0, per_episode=4) if video else WindowPolicy(interval=2, every=6),
        inputs=InputSettings(image_size=SIZE),
        encoder=EncoderSettings(kind=EncoderKind.TINY, resize=Resize.SQUASH),
        shards=ShardSettings(samples=12, group_samples=6),
        cluster=ClusterSettings(encoders=1, encoder_cpus=0.0, object_store_mb=256),
    )


def _overrides(config: TrainConfig, stage: Stage, out: Path, before: Path | None) -> list[str]:
    builds = ",".join(str(config.out / "builds" / name) for name in stage.builds)
    words = [f"experiment={stage.experiment}", f"out={out}", f"builds=[{builds}]", "stages=[]"]
    words += [f"init_from={before}"] if before is not None else []
    return [*words, *config.stage_settings, *stage.settings]


def _asked_for() -> list[str]:
    """What the user set on the command line goes to every stage."""
    if not HydraConfig.initialized():
        return []
    words = HydraConfig.get().overrides.task
    return [word for word in words if word.split("=")[0] not in ("experiment", "out", "stages", "stage_settings")]
