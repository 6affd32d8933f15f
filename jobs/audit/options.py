"""What the deep levels of the audit need, put together from a build's own settings and the raw data's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from jobs.audit.encoder import AuditEncoder
from jobs.audit.model import model_trials
from jobs.audit.settings import AuditConfig
from jobs.common.device import pick_device
from model.attention.transformers_attention import use_attention
from pipeline.audit.audited import read_audited
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.levels.perturb import PerturbOptions
from pipeline.audit.levels.source import SourceOptions
from pipeline.audit.samples import share_seed
from pipeline.building.rebuild import SampleRebuilder
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.weights.released import release_of
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderSettings
from pipeline.planning.plan import read_plan
from pipeline.sources.registry import make_source
from pipeline.storage.store import open_store


def deep_options(
    settings: AuditConfig, nonce: str, fetcher: ShardFetcher | None = None
) -> tuple[SourceOptions, PerturbOptions]:
    """Options of levels "source" and "perturb". Raises SettingsError without root or encoder, BuildError without a
    plan."""
    if settings.root is None or not settings.root.is_dir():
        raise SettingsError(
            f"level={settings.level} compares the build with its raw data; give root=FOLDER of the data, got "
            f"{settings.root}"
        )
    plan = read_plan(open_store(settings.build))
    encoder = load_encoder(dict(plan.content["encoder"]), settings.encoder_path, settings.device)
    raw = {**plan.content["source"], "root": str(settings.root.resolve())}
    rebuilder = SampleRebuilder(plan, make_source(raw.pop("type"), **raw), encoder.encode)
    seed = share_seed(read_audited(Path(settings.build)).sha256, nonce)
    student = partial(model_trials, Path(settings.build), settings.checkpoint, seed, fetcher)
    chosen = (nonce, settings.share, settings.least)
    source = SourceOptions(settings.root, AuditEncoder(encoder), *chosen, settings.workers, settings.inexact)
    return source, PerturbOptions(rebuilder, student, *chosen)


def load_encoder(claimed: dict[str, Any], name_or_path: str, device: str) -> Encoder:
    """The encoder that build.json describes; its weights are compared by the audit."""
    names = ("kind", "mode", "resize", "dtype", "attention", "batch", "cpu_threads")
    values = {name: claimed[name] for name in names} | {"name_or_path": name_or_path, "seed": claimed.get("seed", 0)}
    if Path(name_or_path).exists() and not (Path(name_or_path) / "config.json").is_file():
        values["release"] = release_of(claimed)  # a file of weights does not say which encoder it is
    values["compile"] = claimed.get("compile", False)
    attend = None if values["attention"] == "sdpa" else partial(use_attention, backend=values["attention"])
    return Encoder(EncoderSettings(**values), str(pick_device(device)), attend)
