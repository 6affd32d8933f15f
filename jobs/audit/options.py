"""What the deep levels of the audit need, put together from a build's own settings and the raw data's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from jobs.audit.channels import channel_names
from jobs.audit.encoder import AuditEncoder
from jobs.audit.model import model_trials
from jobs.audit.raw_place import given_raw_data
from jobs.audit.settings import AuditConfig
from jobs.common.policy.device import pick_device
from model.encoder_kernels import encoder_kernels
from pipeline.audit.build import open_build
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.levels.options import DeepOptions, Tools
from pipeline.audit.samples import share_seed
from pipeline.audit.verdicts.audited import read_audited
from pipeline.building.rebuild import SampleRebuilder
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.weights.released import release_of
from pipeline.format.build_settings import EncoderSettings
from pipeline.planning.plan import read_plan
from pipeline.sources.registry import make_source
from pipeline.storage.store import open_store


def deep_options(settings: AuditConfig, nonce: str, fetcher: ShardFetcher | None = None) -> DeepOptions:
    """Options of levels "source" and "perturb". Raises SettingsError without root, BuildError without a plan."""
    root = given_raw_data(settings)
    read_plan(open_store(settings.build))
    build = Path(settings.build)
    seed = share_seed(read_audited(build).sha256, nonce)
    student = partial(model_trials, build, settings.checkpoint, seed, fetcher)
    tools = partial(_tools, build, str(root), settings.encoder_path, settings.device)
    chosen = (nonce, settings.share, settings.least)
    names = channel_names(open_build(build), str(settings.root))
    return DeepOptions(root, tools, student, *chosen, settings.workers, settings.inexact, names)


def _tools(build: Path, root: str, encoder_path: str, device: str) -> Tools:
    """Raises SettingsError when there is no such encoder."""
    plan = read_plan(open_store(build))
    encoder = load_encoder(dict(plan.content["encoder"]), encoder_path, device)
    raw = {**plan.content["source"], "root": root}
    rebuilder = SampleRebuilder(plan, make_source(raw.pop("type"), **raw), encoder.encode)
    return Tools(AuditEncoder(encoder), rebuilder)


def load_encoder(claimed: dict[str, Any], name_or_path: str, device: str) -> Encoder:
    """The encoder that build.json describes; its weights are compared by the audit."""
    names = ("kind", "mode", "resize", "dtype", "attention", "batch", "cpu_threads")
    values = {name: claimed[name] for name in names} | {"name_or_path": name_or_path, "seed": claimed.get("seed", 0)}
    if Path(name_or_path).exists() and not (Path(name_or_path) / "config.json").is_file():
        values["release"] = release_of(claimed)  # a file of weights does not say which encoder it is
    values["compile"] = claimed.get("compile", False)
    chosen = str(pick_device(device))
    return Encoder(EncoderSettings(**values), chosen, *encoder_kernels(values["attention"], chosen))
