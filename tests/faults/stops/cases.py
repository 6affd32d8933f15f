"""The commands that are stopped at every call: how each is started, and what it must leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model.checkpoint.checkpoint import save_weights
from model.normalize import unit_stats
from model.settings import ModelSettings, tiny_settings
from model.vla_jepa import build_model
from pipeline.errors import RunError
from pipeline.format.build import load_build
from pipeline.format.build_settings import WindowPolicy
from pipeline.format.schema import Sizes
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.storage.atomic import hash_file
from tests.jobs.runs import build_config, build_hashes, make_here, ssv2_source
from tests.pipeline.audit.tiny_build import ROBOT, TinyEpisode, write_build

SIZES = Sizes(views=2, image_size=64, steps=3, tokens=16, width=32, state=8, chunk=7, action=7)
PARTS = {
    "a": ROBOT,
    "b": replace(ROBOT, episodes=(TinyEpisode("ep_m", "train", 0, 12), TinyEpisode("ep_o", "val", 0, 10))),
}
OLD = b'{"level": "shards", "status": "clean", "findings": [], "schema_version": 0, "build_sha256": "of another"}\n'
"""A verdict on something else, which goes to the history."""


@dataclass(frozen=True)
class Case:
    """A command that works in the folder of a trial. `given`: the folder of what commands read.

    words    of the command
    result   what it left, by name
    half     what a reader would trip over after a kill; empty if nothing
    prepare  fills the folder before the command
    again    exit code of the command where all is done already
    """

    name: str
    words: Callable[[Path, Path], Sequence[str]]
    result: Callable[[Path], dict[str, Any]]
    half: Callable[[Path], list[str]]
    prepare: Callable[[Path, Path], object] = lambda given, folder: None
    again: int = 0


def make_given(given: Path) -> None:
    """Builds, a key, a checkpoint and the same in the form of another system."""
    for name, world in PARTS.items():
        write_build(given / name, world)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (given / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    settings = exchanged_settings()
    state = json.loads(json.dumps({"model": asdict(settings), "model_sizes": asdict(SIZES)}))
    save_weights(given / "checkpoint", build_model(settings, SIZES, unit_stats(SIZES)), state)
    write_ssv2(given / "clips", clips=8, seed=0, size=64)
    shutil.copytree(given / "clips", given / "before")
    labels = given / "before" / "labels" / "train.json"
    labels.write_text(json.dumps(sorted(json.loads(labels.read_text()), key=lambda entry: int(entry["id"]))[:-2]))
    make_here(video_config(given / "old", given / "before"))


def exchanged_settings() -> ModelSettings:
    """Of a tiny model that LeRobot's policy can hold."""
    base = tiny_settings()
    return replace(
        base,
        prompt=replace(base.prompt, action_token_groups=4 * SIZES.chunk, embodied_tokens=4),
        predictor=replace(base.predictor, dim=SIZES.width, init="reference"),
        action_head=replace(base.action_head, max_positions=1024),
    )


def video_config(out: Path, root: Path) -> Any:
    return build_config(out, ssv2_source(root), window=WindowPolicy(interval=2, every=0, per_episode=3))


def extend_here(given: str, folder: str) -> None:
    """`vlajepa extend`; the build of the new episodes is made in this process, without Ray."""
    from jobs.preprocess.extend import extend
    from jobs.preprocess.settings import BuildConfig, ExtendConfig

    base = video_config(Path(folder) / "out", Path(given) / "clips")
    values = {field.name: getattr(base, field.name) for field in fields(BuildConfig)}
    extend(ExtendConfig(**values, build=Path(given) / "old"), make_here)


def model_words(given: Path) -> list[str]:
    """Settings of the checkpoint's model."""
    groups = f"model.prompt.action_token_groups={4 * SIZES.chunk}"
    sizes = [f"sizes.{name}={value}" for name, value in asdict(SIZES).items()]
    small = f"model.predictor.dim={SIZES.width} model.predictor.init=reference model.action_head.max_positions=1024"
    return ["model=tiny", groups, "model.prompt.embodied_tokens=4", *small.split(), *sizes]


def _build(folder: Path) -> dict[str, Any]:
    return dict(build_hashes(folder / "out"))


def _half_build(folder: Path) -> list[str]:
    """A folder with build.json is a whole build."""
    out = folder / "out"
    if not (out / "build.json").exists():
        return []
    try:
        build = load_build(out)
    except RunError as error:
        return [f"build.json: {error}"]
    listed = dict(build.manifest["files"])
    for shard in build.manifest["shards"]:
        listed |= {shard[kind]["file"]: shard[kind] for kind in ("inputs", "targets", "latents") if kind in shard}
    return [name for name, entry in listed.items() if not _is(out / name, entry["sha256"])]


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def _audited(folder: Path) -> dict[str, Any]:
    """Verdict, report and signature by their bytes; of the history all but the dates."""
    found: dict[str, Any] = dict(build_hashes(folder / "out"))
    audit = folder / "out" / "audit"
    for path in sorted(audit.rglob("*")):
        if path.is_file() and path.parent.name != "history":
            found[str(path.relative_to(folder))] = hash_file(path)
    entries = [json.loads(path.read_bytes()) for path in (audit / "history").glob("*")]
    kept = [{name: value for name, value in entry.items() if name != "date"} for entry in entries]
    return found | {"history": sorted(kept, key=lambda entry: json.dumps(entry, sort_keys=True))}


def _half_verdict(folder: Path) -> list[str]:
    """Verdict and signature are JSON documents, and entries of the history too."""
    wrong = []
    for path in (folder / "out" / "audit").rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            wrong.append(f"{path.name}: {error}" if not path.name.startswith(".") else "")
    return [text for text in wrong if text]


def _tree(folder: Path) -> dict[str, Any]:
    """Every file by its hash."""
    return {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _nothing_half(folder: Path) -> list[str]:
    """What stands there under the final name is compared by the next run, which leaves it alone."""
    return []


def _copy_build(given: Path, folder: Path) -> None:
    shutil.copytree(given / "a", folder / "out")


def _copy_audited(given: Path, folder: Path) -> None:
    _copy_build(given, folder)
    (folder / "out" / "audit").mkdir()
    (folder / "out" / "audit" / "verdict.json").write_bytes(OLD)


CASES = (
    Case("drop", lambda g, f: ["drop", f"build={g}/a", "episode=ep_a", f"out={f}/out"], _build, _half_build),
    Case(
        "drop, copies",
        lambda g, f: ["drop", f"build={g}/a", "episode=ep_a", f"out={f}/out", "link=false"],
        _build,
        _half_build,
    ),
    Case("merge", lambda g, f: ["merge", f"builds=[{g}/a,{g}/b]", f"out={f}/out"], _build, _half_build),
    Case("extend", lambda g, f: ["call:tests.faults.stops.cases:extend_here", f"{g}", f"{f}"], _build, _half_build),
    Case("audit", lambda g, f: ["audit", f"build={f}/out"], _audited, _half_verdict, _copy_build),
    Case(
        "audit and sign, over another verdict",
        lambda g, f: ["audit", f"build={f}/out", f"sign_key={g}/key.pem"],
        _audited,
        _half_verdict,
        _copy_audited,
    ),
    Case(
        "export to LeRobot",
        lambda g, f: ["export", f"checkpoint={g}/checkpoint", f"out={f}/out", "cameras=[front,wrist]"],
        _tree,
        _nothing_half,
        again=2,
    ),
    Case(
        "export to .pt",
        lambda g, f: ["export", f"checkpoint={g}/checkpoint", f"out={f}/out.pt", "format=starvla"],
        _tree,
        _nothing_half,
        again=2,
    ),
    Case(
        "import",
        lambda g, f: ["import", f"checkpoint={g}/exported/out", f"out={f}/out", *model_words(g)],
        _tree,
        _nothing_half,
        again=2,
    ),
)
