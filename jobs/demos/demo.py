"""`vlajepa demo`: the whole pipeline on sample data, by the same commands a user types, and a report of the results."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.common.child import Child
from jobs.demos.command_runner import command_words
from jobs.demos.settings import DemoConfig
from pipeline.errors import RunError
from pipeline.format.build import load_build
from pipeline.storage.atomic import write_atomic


def run(settings: DemoConfig) -> None:
    require_empty(settings.out)
    seconds = [run_command(words) for words in commands(settings)]
    path = settings.out / "report.md"
    report = make_report(settings, seconds)
    write_atomic(path, report.encode())
    print("\n" + report + f"\nThis report: {path}")


def commands(settings: DemoConfig) -> list[tuple[str, ...]]:
    """The words of each command, in order."""
    out = settings.out
    common = "encoder=tiny inputs.image_size=64 window.interval=3"  # at 12 frames a second, steps of half a second
    sources = {
        "ssv2": f"source=ssv2 source.root={{out}}/data/ssv2 window.per_episode=12 {common} out={{out}}/builds/ssv2",
        "robot": "source=lerobot source.root={out}/data/lerobot source.val_share=0.2 window.every=2 "
        f"{common} out={{out}}/builds/robot",
    }
    templates = [
        "sample-data out={out}/data clips={s.clips} episodes={s.episodes} seed={s.seed}",
        *(f"{command} {source}" for source in sources.values() for command in ("plan", "preprocess")),
        *(f"audit {{out}}/builds/{name}" for name in sources),
        "train builds=[{out}/builds/robot,{out}/builds/ssv2] out={out}/run model=tiny trainer=demo "
        "trainer.steps={s.steps} trainer.seed={s.seed}",
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
        f"Held-out world-model loss (L1, teacher forced) after {settings.steps} steps, on validation episodes:",
        "",
        "| build | model | nothing changes | latent actions shuffled | action loss |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [_held_out_row(name, numbers) for name, numbers in held_out.items()]
    lines += [
        "",
        _conclusion(held_out),
        "",
        "| where | what |",
        "|---|---|",
        f"| `{out}/data` | raw data: `ssv2/` and `lerobot/` |",
        f"| `{out}/builds` | audited shards; `audit/verdict.json` in each |",
        f"| `{out}/run` | `checkpoints/`, `metrics.jsonl`, `held_out.json`, `tensorboard/` |",
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


def _held_out_row(name: str, numbers: dict[str, Any]) -> str:
    action = "-" if numbers["action"] is None else f"{numbers['action']:.4f}"
    columns = " | ".join(f"{numbers[key]:.4f}" for key in ("model", "nothing_changes", "shuffled"))
    return f"| {name} | {columns} | {action} |"


def _conclusion(held_out: dict[str, Any]) -> str:
    """One sentence a build, from the numbers alone. The predictor of model=tiny starts at "nothing changes"."""
    parts = []
    for name, n in held_out.items():
        gain = 1 - n["model"] / n["nothing_changes"]
        reliance = n["shuffled"] / n["model"] - 1
        parts.append(
            f'{name}: {abs(gain):.1%} {"below" if gain > 0 else "ABOVE"} "nothing changes" (where model=tiny starts); '
            f"shuffling the latent actions changes the loss by {reliance:+.2%}."
        )
    return "\n".join(parts)
