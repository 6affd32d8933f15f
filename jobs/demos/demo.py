"""`vlajepa demo`: the whole pipeline on sample data, by the same commands a user types, and a report of the results."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.common.processes.child import Child
from jobs.demos.command_runner import command_words
from jobs.demos.held_out_tables import READING, held_out_tables
from jobs.demos.settings import DemoConfig
from pipeline.errors import RunError
from pipeline.format.build import load_build
from pipeline.format.settings import plain
from pipeline.sample_world.variety import Variety
from pipeline.storage.atomic import write_atomic

WORLD = Variety(
    textures=False,
    shapes=False,
    colours=3,
    random_start=False,
    motor_noise=False,
    moving_cameras=False,
    tasks=("carry",),
    fps=4,
    frames=7,
)
"""The sample world where a model of this size learns within minutes which thing an instruction names."""


def _word(value: object) -> str:
    """A value on the command line."""
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value).lower()


VARIETY = " ".join(f"variety.{name}={_word(value)}" for name, value in plain(WORLD).items())

MODEL = (
    "model=tiny model.predictor.views=1 model.predictor.dim=96 model.predictor.depth=1 "
    "model.loss.world_model_on_robot=1 trainer=demo trainer.lr_backbone=2e-3 trainer.lr_rest=4e-3 "
    "trainer.eval_every=800 trainer.eval_samples=200"
)
ACTION = 0.1
"""Weight of the action loss: with 1 the colour words are bound to their things late or never."""


def run(settings: DemoConfig) -> Path:
    """The report."""
    require_empty(settings.out)
    seconds = [run_command(words) for words in commands(settings)]
    path = settings.out / "report.md"
    report = make_report(settings, seconds)
    write_atomic(path, report.encode())
    print("\n" + report + f"\nThis report: {path}")
    return path


def commands(settings: DemoConfig) -> list[tuple[str, ...]]:
    """The words of each command, in order."""
    out = settings.out
    common = "encoder=tiny inputs.image_size=64"
    sources = {
        "ssv2": f"source=ssv2 source.root={{out}}/data/ssv2 {common} out={{out}}/builds/ssv2",
        # An episode is one window, as a clip is: its present is the first frame
        "robot": f"source=lerobot source.root={{out}}/data/lerobot window.every=7 {common} out={{out}}/builds/robot",
    }
    templates = [
        "sample-data out={out}/data clips={s.clips} episodes={s.episodes} twins={s.twins} size=64 seed={s.seed} "
        + VARIETY,
        *(f"{command} {source}" for source in sources.values() for command in ("plan", "preprocess")),
        *(f"audit {{out}}/builds/{name}" for name in sources),
        f"train builds=[{{out}}/builds/robot,{{out}}/builds/ssv2] out={{out}}/run {MODEL} "
        f"model.loss.action={ACTION} trainer.steps={{s.steps}} trainer.seed={{s.seed}} model.seed={{s.seed}}",
        "report {out}/run",
    ]
    return [command_words(template, out=out, s=settings) for template in templates]


def make_report(settings: DemoConfig, seconds: Sequence[float]) -> str:
    """The closing summary, as Markdown. Every number is read from the files the commands wrote."""
    out = settings.out
    held_out = json.loads((out / "run" / "held_out.json").read_bytes())
    lines = ["# What the demonstration did", "", "| seconds | command |", "|---:|---|"]
    shown = [shlex.join(("vlajepa", *words)) for words in commands(settings)]
    lines += [f"| {each:.0f} | `{text}` |" for each, text in zip(seconds, shown, strict=True)]
    lines += ["", "| build | train samples | val samples | shards | audit |", "|---|---:|---:|---:|---|"]
    lines += [_build_row(out / "builds" / name) for name in ("ssv2", "robot")]
    lines += [
        "",
        f"Held-out world-model loss (L1, teacher forced) after {settings.steps} steps, on scenes of their own:",
        "",
        *held_out_tables(held_out),
        "",
        READING,
        "",
        "| where | what |",
        "|---|---|",
        f"| `{out}/data` | raw data: `ssv2/` and `lerobot/` |",
        f"| `{out}/builds` | audited shards; `audit/verdict.json` in each |",
        f"| `{out}/run` | `report.html`, with two futures of one picture; `checkpoints/`, `metrics.jsonl`, "
        "`held_out.json`, `tensorboard/` |",
    ]
    return "\n".join(lines) + "\n"


def require_empty(out: Path) -> None:
    """Raise RunError if a folder holds anything."""
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; delete it, or choose another folder with out=")


def run_command(words: Sequence[str], exit_code: int = 0) -> float:
    """Seconds of one command in a separate process. Raises RunError when it ends with another exit code."""
    text = shlex.join(("vlajepa", *words))
    print(f"\n$ {text}", flush=True)
    started = time.monotonic()
    code = Child(words).wait()
    if code != exit_code:
        raise RunError(f"{text} ended with exit code {code}; see its message above")
    return time.monotonic() - started


def _build_row(path: Path) -> str:
    build = load_build(path)
    verdict = json.loads((path / "audit" / "verdict.json").read_bytes())
    counts = build.manifest["counts"]
    samples = " | ".join(f"{counts.get(split, {}).get('samples', 0):,}" for split in ("train", "val"))
    checks = sum(rule["checked"] for rule in verdict["rules"].values())
    return f"| {build.name} | {samples} | {len(build.manifest['shards'])} | {verdict['status']}, {checks:,} checks |"
