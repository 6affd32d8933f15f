"""Everything that commands read and somebody else may have written or damaged."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import huggingface_hub
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.audit.settings import VerifyConfig
from jobs.audit.verify import verify
from jobs.closed_loop.collect.attempts import Attempt
from jobs.closed_loop.outcomes import Outcome
from jobs.common.claim import claim
from jobs.common.driver_lock import DriverLock
from jobs.common.json_lines import JsonLines, recover_rows
from jobs.common.policy.load_model import load_model
from jobs.datasets.manifests import read_manifest
from jobs.preprocess.prediction import describe_prediction, read_prediction
from jobs.preprocess.status import describe, read_status
from jobs.report import report
from jobs.report.plots import Chart, Plot, draw
from jobs.report.settings import ReportConfig
from jobs.serving import wire as serving_wire
from jobs.simulator import wire as simulator_wire
from jobs.training.builds.open_builds import open_audited
from jobs.training.loop.settings import TrainerSettings
from model.checkpoint.checkpoint import newest_whole, save_weights
from model.checkpoint.state_file import _with_digest
from model.exchange.initial import load_initial
from model.exchange.lerobot import save_lerobot
from model.exchange.starvla import save_starvla
from model.normalize import BuildStats, unit_stats
from model.vla_jepa import build_model
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.attestation import require_signature, sign_verdict
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.building.records import find_records
from pipeline.derived.plan import drop_plan, join_plan, open_finished
from pipeline.planning.plan import read_plan
from pipeline.storage.atomic import hash_file
from pipeline.storage.store import LocalStore
from pipeline.streaming.reader import SampleReader
from tests.faults.stops.cases import SIZES, exchanged_settings
from tests.fuzz.subject import REFUSED, Subject
from tests.fuzz.unfinished import write_unfinished
from tests.pipeline.audit.tiny_build import (
    ROBOT,
    TUBELET_INT8,
    TinyWorld,
    fingerprint_of,
    pretty,
    rehash,
    tree_of,
    write_build,
)

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
LISTED = ("build.json", "samples.parquet", "stats.json", "ledger.jsonl", "plan.json", "tasks.jsonl")
SHARDS = ("train/*", "val/*")


def make_subjects(folder: Path) -> list[Subject]:
    """All of them, in new folders below `folder`."""
    builds = [_build(folder / name, world) for name, world in (("robot", ROBOT), ("tubelet", TUBELET_INT8))]
    return [
        *builds,
        _unfinished(folder / "unfinished"),
        _run(folder / "run"),
        *_models(folder),
        _others(folder / "others"),
    ]


def _build(folder: Path, world: TinyWorld) -> Subject:
    """An audited and signed build."""
    build = write_build(folder / "build", world)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    write_verdict(build, audit_build(build))
    sign_verdict(build, folder / "key.pem")
    return Subject(
        folder.name,
        folder,
        [*(f"build/{name}" for name in LISTED), *(f"build/{name}" for name in SHARDS), "build/audit/**/*", "*.pem"],
        {
            "audit": lambda copy: _audit(copy / "build"),
            "train": lambda copy: _train(copy / "build"),
            "train signed": lambda copy: _train(copy / "build", copy / "public.pem"),
            "verify": lambda copy: verify(VerifyConfig(build=copy / "build", public_key=copy / "public.pem")),
            "verify unsigned": lambda copy: verify(VerifyConfig(build=copy / "build")),
            "drop": lambda copy: drop_plan(open_finished(copy / "build"), ["ep_a"], ""),
            "merge": lambda copy: join_plan("merge", [open_finished(copy / "build"), open_finished(copy / "build")]),
            "sign": lambda copy: sign_verdict(copy / "build", copy / "key.pem"),
            "signature": lambda copy: require_signature(copy / "build", copy / "public.pem"),
            "write verdict": lambda copy: write_verdict(copy / "build", audit_build(copy / "build", "manifest")),
        },
        _repair_build,
        [*LISTED, "train/*", "val/*"],
        ["audit", "verify", "verify unsigned"],
    )


def _repair_build(copy: Path, name: str) -> None:
    """Hashes in build.json, and build.json's in a forged verdict."""
    build = copy / "build"
    try:
        _repair_fingerprint(build)
        if name.removeprefix("build/") != "build.json":
            rehash(build)
        verdict = json.loads((build / "audit/verdict.json").read_bytes())
        verdict["build_sha256"] = hash_file(build / "build.json")
        _rewrite(build / "audit/verdict.json", (json.dumps(verdict, sort_keys=True, indent=1) + "\n").encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # what was spoiled is one of these two


def _repair_fingerprint(build: Path) -> None:
    """The fingerprint of the settings in plan.json and of the tasks, in both files that name it."""
    plan, document = (json.loads((build / name).read_bytes()) for name in ("plan.json", "build.json"))
    tasks = (build / "tasks.jsonl").read_bytes()
    if plan["settings"].get("tasks_tree") != tree_of(tasks):
        plan["settings"]["tasks_tree"] = tree_of(tasks)
    fingerprint = fingerprint_of(plan["settings"], tasks)
    if fingerprint != document["fingerprint"]:
        plan["fingerprint"], document["fingerprint"], document["settings"] = fingerprint, fingerprint, plan["settings"]
        _rewrite(build / "plan.json", pretty(plan))
        _rewrite(build / "build.json", pretty(document))


def _rewrite(path: Path, data: bytes) -> None:
    """A new file: the old one is linked to the original."""
    path.unlink()
    path.write_bytes(data)


def _audit(build: Path) -> object:
    return None if audit_build(build).status == "clean" else REFUSED


def _train(build: Path, key: Path | None = None) -> None:
    """What a run reads of its builds."""
    settings = TrainerSettings(public_key=key) if key else TrainerSettings()
    opened = open_audited(str(build), False, settings).build
    BuildStats.parse(opened.read_file("stats.json"), "stats.json")
    for split in opened.manifest["counts"]:
        reader = SampleReader(opened, split)
        reader.read(np.arange(min(8, len(reader))))


def _unfinished(folder: Path) -> Subject:
    """A build that is being made: plan, shard records, progress, prediction and lock."""
    write_unfinished(folder)
    return Subject(
        "unfinished",
        folder,
        ("plan.json", "tasks.jsonl", "work/*", "logs/*", "lock/1/*"),
        {
            "status": lambda copy: describe(read_status(LocalStore(copy)), str(copy)),
            "plan": lambda copy: [task.episodes for task in read_plan(LocalStore(copy)).tasks],
            "records": _records,
            "prediction": _prediction,
            "lock": _lock,
        },
    )


def _records(copy: Path) -> object:
    plan = read_plan(LocalStore(copy))
    return find_records(LocalStore(copy), plan.tasks, plan.fingerprint)


def _prediction(copy: Path) -> object:
    found = read_prediction(LocalStore(copy))
    return found and describe_prediction(found)


def _lock(copy: Path) -> None:
    with DriverLock(LocalStore(copy), beat_s=0.01) as lock:
        lock.check()


def _run(folder: Path) -> Subject:
    """A training run and an evaluation, without their models."""
    _write_run(folder)
    outcome = Outcome(0, 1, True, 20, 3, 0, 1.5)
    log, attempts = (
        JsonLines(folder / "outcomes.jsonl", Outcome, "episode"),
        JsonLines(folder / "attempts.jsonl", Attempt, "attempt"),
    )
    for start in range(3):
        log.add(Outcome(**{**asdict(outcome), "start": start}))
        attempts.add(Attempt(0, start, "success", 10, 1.0))
    claim(folder / "claim.json", {"settings": {"a": 1, "b": [1, 2]}}, "evaluation")
    return Subject(
        "run",
        folder,
        ("*.json", "*.jsonl"),
        {
            "report": _reporter(),
            "resume": lambda copy: [recover_rows(copy / name) for name in ("metrics.jsonl", "skipped.jsonl")],
            "outcomes": lambda copy: JsonLines(copy / "outcomes.jsonl", Outcome, "episode").read(),
            "attempts": lambda copy: JsonLines(copy / "attempts.jsonl", Attempt, "attempt").read(),
            "claim": lambda copy: claim(copy / "claim.json", {"settings": {"a": 1, "b": [1, 2]}}, "evaluation"),
        },
    )


def _reporter() -> Callable[[Path], object]:
    """Writes the report of a run. The same chart is drawn once: that takes ten times as long as everything else."""
    drawn: dict[bytes, Plot] = {}

    def once(chart: Chart, first: int, last: int) -> Plot:
        key = pickle.dumps((chart, first, last))
        if key not in drawn:
            drawn[key] = draw(chart, first, last)
        return drawn[key]

    def write(copy: Path) -> object:
        with mock.patch.object(report, "draw", once):
            return report.write_report(ReportConfig(run=copy, out=copy / "page.html", samples=0))

    return write


def _write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    numbers = {
        "model": 0.5,
        "nothing_changes": 0.6,
        "shuffled": 0.7,
        "action": 0.1,
        "by_episode": {"ep_a": {"model": 0.5}},
    }
    rows = [{"step": step, "loss": 1 / step, "seconds": 0.5 * step, "samples_per_s": 8.0} for step in range(1, 5)]
    rows.append({"step": 4, "held_out": {"robot": numbers}})
    config = {
        "trainer": {"steps": 4},
        "model": {"a": [1, {"b": 2}]},
        "builds": {"robot": "0" * 64},
        "build_paths": {"robot": "/b"},
    }
    contents = {
        "run.json": {**config, "ranks": 1, "verdicts": {"robot": "clean"}, "versions": {"torch": "2"}},
        "held_out.json": {"robot": numbers},
        "ended.json": {"reason": "finished", "step": 4},
        "stopped_batch.json": {"step": 3, "keys_by_rank": [{"robot": ["ep_a-000001"]}], "numbers": {"loss": 1.0}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    skipped = [{"step": 2, "key": "ep_a-000001", "reason": "damaged", "rank": 0}]
    for name, lines in (("metrics.jsonl", rows), ("skipped.jsonl", skipped)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "log.txt").write_text("a log\n")


def _models(folder: Path) -> list[Subject]:
    """A checkpoint, the same as a LeRobot folder, and as the reference's file."""
    settings = exchanged_settings()
    model = build_model(settings, SIZES, unit_stats(SIZES))
    state = json.loads(json.dumps({"model": asdict(settings), "model_sizes": asdict(SIZES)}))
    save_weights(folder / "checkpoint" / "step-00000000", model, state)
    save_lerobot(model, folder / "lerobot" / "policy", ("front", "wrist"), "encoder")
    save_starvla(model, folder / "starvla" / "weights.pt")

    def load(name: str) -> Callable[[Path], object]:
        return lambda copy: load_initial(model, copy / name, scalers=True)

    checkpoint = Subject(
        "checkpoint",
        folder / "checkpoint",
        ("*/state.json", "*/state.json", "*/model.safetensors"),
        {
            "load": _load,
            "resume": newest_whole,
            "init_from": load("step-00000000"),
        },
        _repair_checkpoint,
        ("state.json", "*.safetensors"),
        ("load", "resume", "init_from"),
    )
    return [
        checkpoint,
        Subject("lerobot", folder / "lerobot", ("policy/*",), {"init_from": load("policy")}),
        Subject("starvla", folder / "starvla", ("*",), {"init_from": load("weights.pt")}),
    ]


def _load(copy: Path) -> object:
    """No model of a hub is asked for: a state that names one is refused without its answer."""
    with mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
        return load_model(copy / "step-00000000")


def _repair_checkpoint(copy: Path, name: str) -> None:
    """SHA-256 of every file in state.json."""
    path = copy / "step-00000000" / "state.json"
    try:
        content = json.loads(path.read_bytes())
        content.pop("sha256")
        if not name.endswith("state.json"):
            content["files"]["model.safetensors"] = hash_file(path.with_name("model.safetensors"))
        _rewrite(path, _with_digest(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def _others(folder: Path) -> Subject:
    """Messages of both wires, and manifests of datasets."""
    folder.mkdir(parents=True)
    observation = {
        "observation/image": np.zeros((8, 8, 3), np.uint8),
        "prompt": "lift",
        "seed": np.int64(3),
        "n": [1, 2.5],
    }
    (folder / "policy.msgpack").write_bytes(serving_wire.pack(observation))
    sent = io.BytesIO()
    simulator_wire.send(sent, {"images": {"front": np.zeros((4, 4, 3), np.uint8)}, "state": np.zeros(3), "step": 1})
    (folder / "simulator.message").write_bytes(sent.getvalue())
    (folder / "manifests").mkdir()
    for path in MANIFESTS.glob("*.yaml"):
        (folder / "manifests" / path.name).write_bytes(path.read_bytes())
    return Subject(
        "others",
        folder,
        ("policy.msgpack", "simulator.message", "manifests/*"),
        {"policy": _policy, "simulator": _simulator, "manifests": _manifests},
    )


def _policy(copy: Path) -> object:
    try:
        return serving_wire.unpack((copy / "policy.msgpack").read_bytes())
    except serving_wire.WireError:
        return REFUSED


def _simulator(copy: Path) -> object:
    with open(copy / "simulator.message", "rb") as file:
        try:
            return simulator_wire.receive(file)
        except (EOFError, ValueError):  # what the process that asked takes for the other's death
            return REFUSED


def _manifests(copy: Path) -> object:
    return [read_manifest(path) for path in (copy / "manifests").glob("*.yaml") if path.stat().st_nlink == 1]
