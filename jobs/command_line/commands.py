"""The commands: where each is, and what its help begins with. None is imported before it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True)
class Command:
    """One command: its module below `jobs`, its settings in the `settings.py` beside it, and a line of help.

    example        words that work, behind the command's name
    first          setting that a first argument without `=` sets
    reads_dataset  it has `source=`, for which the manifests have to be choices
    """

    module: str
    settings: str
    text: str
    example: str
    first: str = ""
    reads_dataset: bool = False

    @property
    def config(self) -> str:
        """Name of its configuration."""
        return self.module.rpartition(".")[2]

    def settings_class(self) -> type[Any]:
        """The class of its settings, imported when it is needed."""
        module = importlib.import_module(f"jobs.{self.module.rpartition('.')[0]}.settings")
        return cast(type[Any], getattr(module, self.settings))


COMMANDS = {
    "sources": Command(
        "datasets.sources",
        "SourcesConfig",
        "list the datasets with manifests, or show one",
        "droid",
        first="name",
    ),
    "inspect": Command(
        "datasets.inspect",
        "InspectConfig",
        "compare a dataset folder with its manifest",
        "source=ssv2 source.root=/data/ssv2",
        reads_dataset=True,
    ),
    "plan": Command(
        "preprocess.plan",
        "BuildConfig",
        "shards, samples, bytes and encoder FLOPs of a build",
        "source=ssv2 source.root=/data/ssv2 encoder=vitl window.interval=1 out=/builds/ssv2 cluster=gpu",
        reads_dataset=True,
    ),
    "preprocess": Command(
        "preprocess.preprocess",
        "BuildConfig",
        "make a build on a Ray cluster, or continue it",
        "source=ssv2 source.root=/data/ssv2 encoder=vitl window.interval=1 out=/builds/ssv2 cluster=gpu",
        reads_dataset=True,
    ),
    "extend": Command(
        "preprocess.extend",
        "ExtendConfig",
        "a build and its dataset's new episodes, as a new build",
        "build=/builds/bottle source=lerobot source.name=bottle source.root=/data/bottle encoder=vitl "
        "out=/builds/bottle-2",
        reads_dataset=True,
    ),
    "merge": Command(
        "preprocess.merge",
        "MergeConfig",
        "a new build of several with the same settings",
        "'builds=[/builds/part-a,/builds/part-b]' out=/builds/whole",
    ),
    "drop": Command(
        "preprocess.drop",
        "DropConfig",
        "a new build without some episodes, as for a takedown request",
        "build=/builds/ssv2 out=/builds/ssv2-2 --episode ssv2-1234 --reason 'takedown 17'",
    ),
    "status": Command(
        "preprocess.status",
        "StatusConfig",
        "how far a preprocessing run is, or was when it stopped",
        "/builds/ssv2",
        first="build",
    ),
    "audit": Command(
        "audit.audit",
        "AuditConfig",
        "prove from a build's bytes that no input holds anything of the future",
        "/builds/ssv2 level=source root=/data/ssv2 encoder_path=/weights/vitl",
        first="build",
    ),
    "verify": Command(
        "audit.verify",
        "VerifyConfig",
        "check that a build is the one that was audited, and who signed it",
        "/builds/ssv2 public_key=public.pem",
        first="build",
    ),
    "probe": Command(
        "audit.probe.probe",
        "ProbeConfig",
        "which later frames move the context that another pipeline makes",
        "my_package.my_module:encode root=/data/videos",
        first="function",
    ),
    "push": Command(
        "sharing.push",
        "PushConfig",
        "a build or a checkpoint to the Hugging Face Hub or a bucket, with its card",
        "/builds/ssv2 out=hf://datasets/me/ssv2-latents",
        first="what",
    ),
    "view": Command(
        "viewing.view",
        "ViewConfig",
        "samples and findings of a build, or an evaluation's rollouts, for Rerun",
        "/builds/ssv2 out=ssv2.rrd",
        first="what",
    ),
    "train": Command(
        "training.train",
        "TrainConfig",
        "train on audited builds",
        "'builds=[/builds/ssv2,/builds/droid]' out=/runs/first",
    ),
    "report": Command(
        "report.report",
        "ReportConfig",
        "a training run as one page: curves, held-out numbers, latents",
        "/runs/first",
        first="run",
    ),
    "estimate": Command(
        "training.estimate",
        "EstimateConfig",
        "memory and FLOPs of a training step at any batch size",
        "batch_size=32 model.backbone.kind=random",
    ),
    "evaluate": Command(
        "closed_loop.evaluate.evaluate",
        "EvaluateConfig",
        "success rates of a policy in LIBERO, LIBERO-Plus or SimplerEnv",
        "policy=/runs/libero simulator=/opt/sim/bin/python suite=libero_object out=/results/object",
    ),
    "collect": Command(
        "closed_loop.collect.collect",
        "CollectConfig",
        "scripted demonstrations in LIBERO, as LeRobot and HDF5",
        "simulator=/opt/sim/bin/python suite=libero_object task=0 episodes=60 out=/data/demos",
    ),
    "serve": Command(
        "serving.serve",
        "ServeConfig",
        "a checkpoint as a policy server for robots and evaluators",
        "policy=/runs/first port=8000",
    ),
    "import": Command(
        "training.import_checkpoint",
        "ImportConfig",
        "a checkpoint from the reference's .pt or a LeRobot folder",
        "checkpoint=/released/VLA-JEPA.pt out=/checkpoints/released",
    ),
    "export": Command(
        "training.export_checkpoint",
        "ExportConfig",
        "a checkpoint as a LeRobot folder or the reference's .pt",
        "checkpoint=/runs/tuned/checkpoints/step-00050000 out=/policies/tuned 'cameras=[front,wrist]'",
    ),
    "sample-data": Command(
        "datasets.sample_data",
        "SampleDataConfig",
        "a small tabletop world as SSv2 and LeRobot folders",
        "out=demo-out/data clips=100 episodes=100",
    ),
    "probe-latents": Command(
        "latent_probes.probe_latents",
        "ProbeLatentsConfig",
        "what a run's latent actions hold, by linear probes",
        "demo-out/run 'truth=[demo-out/data/lerobot/truth.jsonl,demo-out/data/ssv2/truth.jsonl]'",
        first="run",
    ),
    "demo": Command(
        "demos.demo",
        "DemoConfig",
        "sample data to trained checkpoint, with a summary at the end",
        "out=demo-out",
    ),
    "demo-steering": Command(
        "demos.demo_steering",
        "DemoSteeringConfig",
        "what demo's latent actions are worth, beside baselines",
        "out=demo-out",
    ),
    "demo-pretraining": Command(
        "demos.pretraining.demo_pretraining",
        "DemoPretrainingConfig",
        "what a world model pretrained without actions is worth to a policy",
        "out=/data/pretraining",
    ),
    "demo-libero": Command(
        "demos.libero.demo_libero",
        "DemoLiberoConfig",
        "demonstrations in LIBERO to one policy for several tasks, with controls and a report",
        "simulator=/opt/sim/bin/python out=/data/demo-libero",
    ),
    "demo-libero-pretraining": Command(
        "demos.libero.demo_libero_pretraining",
        "DemoLiberoPretrainingConfig",
        "what a world model of other LIBERO tasks is worth to a new one",
        "simulator=/opt/sim/bin/python out=/data/libero-pretraining",
    ),
    "demo-leak": Command(
        "demos.demo_leak",
        "DemoLeakConfig",
        "what the future leaves in the context, by the reference's encoding and ours",
        "out=demo-leak-out",
    ),
}
