"""Runs of the commands in this process, on the sample world at its smallest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.cluster.settings import ClusterSettings
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.plan import prepare
from jobs.preprocess.settings import BuildConfig
from jobs.training.loop.settings import TrainerSettings
from jobs.training.settings import TrainConfig
from model.encoder_kernels import encoder_kernels
from model.settings import tiny_settings
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.building.commit import commit
from pipeline.building.shard_jobs import decode_group, write_inputs_shard, write_targets_shard
from pipeline.encoder.encoder import Encoder
from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy

CLUSTER = ClusterSettings(num_cpus=2, encoders=1, encoder_cpus=0.0, object_store_mb=256)
TRAINER = TrainerSettings(
    steps=6,
    warmup_steps=2,
    batch_size=4,
    lr_rest=1e-3,
    lr_backbone=1e-3,
    eval_every=0,
    eval_samples=8,
    save_every=3,
    log_every=1,
    count_flops=False,
)


def build_config(out: Path, source: dict[str, Any], **changes: Any) -> BuildConfig:
    """A build with the tiny encoder, 64 px inputs and shards of about twelve samples."""
    base = BuildConfig(
        out=out,
        source=configured_source(source),
        window=WindowPolicy(interval=2, every=0, per_episode=4),
        inputs=InputSettings(image_size=64),
        encoder=EncoderSettings(kind="tiny", resize="squash"),
        shards=ShardSettings(samples=12, group_samples=6),
        cluster=CLUSTER,
    )
    return replace(base, **changes)


def ssv2_source(root: Path) -> dict[str, Any]:
    return {"type": "ssv2", "name": "ssv2", "root": str(root)}


def robot_source(root: Path, **settings: Any) -> dict[str, Any]:
    return {"type": "lerobot", "name": "robot", "root": str(root), "val_share": 0.3, **settings}


def robot_words(root: Path, out: Path | str) -> list[str]:
    """`vlajepa preprocess` of the robot episodes with `build_config`'s sizes, as words of a command line."""
    sizes = (
        "shards.samples=12 shards.group_samples=6 encoder=tiny inputs.image_size=64 window.interval=2 window.every=6"
    )
    ray = "cluster.num_cpus=2 cluster.encoders=1 cluster.object_store_mb=256"
    source = ["source=lerobot", f"source.root={root}", "source.val_share=0.3"]
    return ["preprocess", *source, *sizes.split(), *ray.split(), f"out={out}"]


def make_here(settings: BuildConfig, device: str = "cpu") -> Build:
    """What `preprocess` does, one shard after the other in this process. What is wrong with an episode must show when
    its inputs are made."""
    preparation = prepare(settings)
    plan, source, store = preparation.plan, preparation.source, preparation.store
    recipe = plan.recipe()
    encoder = Encoder(settings.encoder, device, *encoder_kernels(settings.encoder.attention, device))
    for task in plan.tasks:
        failed = [entry.episode for entry in write_inputs_shard(source, task, recipe, (), store).left_out]
        groups = [decode_group(source, refs, recipe, failed) for refs in task.groups]
        write_targets_shard(groups, encoder.encode, encoder.machine, task, recipe, failed, store)
    commit(plan, store)
    return load_build(Path(settings.out))


def audited(config: BuildConfig) -> Build:
    """Make a build here, without Ray, and audit it; the verdict must be clean."""
    return with_verdict(make_here(config))


def with_verdict(build: Build) -> Build:
    """Audit a build; the verdict must be clean."""
    verdict = audit_build(build.path)
    assert verdict.status == "clean", verdict.findings
    write_verdict(build.path, verdict)
    return build


def train_config(out: Path, builds: Sequence[Build], **trainer: Any) -> TrainConfig:
    settings = replace(TRAINER, **trainer)
    return TrainConfig(
        out=out, builds=tuple(str(build.path) for build in builds), model=tiny_settings(), trainer=settings
    )


def build_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a build but logs and verdicts, which carry times."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.relative_to(path).parts[0] not in ("logs", "audit")
    }
