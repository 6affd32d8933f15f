"""`vlajepa demo-leak`: the reference's way of encoding (mode `clip`) beside ours (mode `prefix`), on the same data.

The numbers are reported as they come out. What they can show is how far a context moves with the future, what a linear
map reads of the future in it, and what the predictor does with shuffled latent actions.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from omegaconf import DictConfig

from jobs.common.config import parse
from jobs.common.svg import COLOURS, empty_axes, inline_svg
from jobs.demos.demo import Step, run_step
from jobs.demos.leak_experiment import KINDS, common, context_shifts, explained, read_latents
from jobs.demos.settings import DemoLeakConfig
from pipeline.errors import RunError
from pipeline.format.build import load_build
from pipeline.storage.atomic import write_atomic

MODES = ("prefix", "clip")


def run(config: DictConfig) -> None:
    settings = parse(DemoLeakConfig, config)
    out = settings.out
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; delete it, or choose another folder with out=")
    for step, codes in commands(settings):
        run_step(step, codes)
    result = measure(settings)
    write_atomic(out / "leak.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(out / "leak.html", render(result).encode())
    print("\n" + describe(result) + f"\nnumbers: {out / 'leak.json'}; plots: {out / 'leak.html'}")


def commands(settings: DemoLeakConfig) -> list[tuple[Step, tuple[int, ...]]]:
    """What runs, with the exit codes that are right: the audit must find the clip build leaky."""
    out = settings.out
    sizes = ("clips=4", f"episodes={settings.episodes}", f"seed={settings.seed}")
    steps: list[tuple[Step, tuple[int, ...]]] = [(Step(("sample-data", f"out={out}/data", *sizes)), (0,))]
    for mode in MODES:
        build = ("source=lerobot", f"source.root={out}/data/lerobot", "source.val_share=0.25", "window.every=2",
                 "window.interval=3", "encoder=tiny", f"encoder.mode={mode}", "inputs.image_size=64",
                 f"out={out}/{mode}")  # fmt: skip
        train = ("train", f"builds=[{out}/{mode}]", f"out={out}/run-{mode}", "model=tiny", "trainer=demo",
                 f"trainer.steps={settings.steps}", f"trainer.seed={settings.seed}")  # fmt: skip
        leaky = mode == "clip"
        steps.append((Step(("preprocess", *build)), (0,)))
        steps.append((Step(("audit", f"{out}/{mode}")), (1,) if leaky else (0,)))
        steps.append((Step((*train, "allow_leaky=true") if leaky else train), (0,)))
    return steps


def measure(settings: DemoLeakConfig) -> dict[str, Any]:
    """All numbers, from the builds and runs in the output folder."""
    out, root = settings.out, settings.out / "data" / "lerobot"
    builds = {mode: load_build(out / mode) for mode in MODES}
    runs = {mode: json.loads((out / f"run-{mode}" / "held_out.json").read_bytes()) for mode in MODES}
    return {
        "settings": {"episodes": settings.episodes, "steps": settings.steps, "seed": settings.seed},
        "fingerprints": {mode: builds[mode].fingerprint for mode in MODES},
        "context_shift": {mode: context_shifts(out / mode, root, settings.samples, settings.seed) for mode in MODES},
        "world_model": {mode: runs[mode][builds[mode].name] for mode in MODES},
        "explained": _explained(out),
    }


def _explained(out: Path) -> dict[str, list[float]]:
    """R^2 of each future step from a context alone: own targets, and the prefix targets from the clip context."""
    train, held = (
        dict(zip(MODES, common(*(read_latents(load_build(out / mode), split) for mode in MODES)), strict=True))
        for split in ("train", "val")
    )
    pairs = {"prefix": ("prefix", "prefix"), "clip": ("clip", "clip"), "prefix targets, clip context": MODES[::-1]}
    return {
        name: [
            explained(train[source].context, train[goal].future[k], held[source].context, held[goal].future[k])
            for k in range(len(train[goal].future))
        ]
        for name, (source, goal) in pairs.items()
    }


def describe(result: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = ["Change of the context when only frames after now change (median, largest; relative):", "",
             "| future replaced by | prefix (ours) | clip (the reference's way) |", "|---|---:|---:|"]  # fmt: skip
    for kind in KINDS:
        cells = [result["context_shift"][mode][kind] for mode in MODES]
        lines.append(f"| {kind} | " + " | ".join(f"{statistics.median(c):.3g}, {max(c):.3g}" for c in cells) + " |")
    lines += ["", "R^2 of a linear map from the context alone to future latents, on held-out episodes:", "",
              "| targets and context | " + " | ".join(f"step {k + 1}" for k in range(len(result["explained"]["clip"])))
              + " |", "|---|" + "---:|" * len(result["explained"]["clip"])]  # fmt: skip
    lines += [f"| {name} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for name, row in result["explained"].items()]
    lines += ["", f"Held-out world-model loss after {result['settings']['steps']} steps:", "",
              "| build | model | latent actions shuffled | nothing changes |", "|---|---:|---:|---:|"]  # fmt: skip
    for mode in MODES:
        n = result["world_model"][mode]
        change = n["shuffled"] / n["model"] - 1
        lines.append(
            f"| {mode} | {n['model']:.4f} | {n['shuffled']:.4f} ({change:+.3%}) | {n['nothing_changes']:.4f} |"
        )
    return "\n".join(lines) + "\n\nThe steps of mode clip end one interval later, so losses of the two are no contest."


def render(result: dict[str, Any]) -> str:
    """leak.html: the same numbers as plots; no script, nothing fetched."""
    environment = Environment(loader=PackageLoader("jobs.demos", "."), autoescape=True, trim_blocks=True)
    return environment.get_template("demo_leak.html.jinja").render(
        result=result, shifts=_draw_shifts(result), explained=_draw_explained(result), text=describe(result)
    )


def _draw_shifts(result: dict[str, Any]) -> Markup:
    """A row for each kind of replacement, and in it a line of dots for each mode."""
    axes = empty_axes(width=800, height=70 * len(KINDS) + 40, left=150, bottom=30)
    largest = max(max(values) for shifts in result["context_shift"].values() for values in shifts.values()) or 1.0
    for column, mode in enumerate(MODES):
        for row, kind in enumerate(KINDS):
            values = result["context_shift"][mode][kind]
            dots = axes.plot(values, [row + 0.4 * column] * len(values), "o", color=COLOURS[f"c{column}"])[0]
            dots.set(markersize=9, alpha=0.55, clip_on=False, gid=f"dots {mode}")
    ticks = [largest * i / 4 for i in range(5)]
    axes.set(xlim=(0, largest), ylim=(len(KINDS) - 0.3, -0.3))
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_yticks([row + 0.2 for row in range(len(KINDS))], KINDS)
    axes.spines.bottom.set(visible=True, color=COLOURS["line"])
    return inline_svg(axes)


def _draw_explained(result: dict[str, Any]) -> Markup:
    """A group of bars for each pair of targets and context."""
    groups = result["explained"]
    axes = empty_axes(width=800, height=90 * len(groups) + 20, left=210, bottom=10)
    for group, values in enumerate(groups.values()):
        at = [group + (step + 0.5) / (len(values) + 0.5) for step in range(len(values))]
        bars = axes.barh(at, [max(0.0, v) for v in values], 0.7 / len(values), color=COLOURS[f"c{group}"], gid="bar")
        labels = [f"step {step}: {value:.3f}" for step, value in enumerate(values, 1)]
        axes.bar_label(bars, labels, padding=6, color=COLOURS["ink"])
    axes.set(xlim=(0, 1.2), ylim=(len(groups), 0))
    axes.set_xticks([])
    axes.set_yticks([group + 0.5 for group in range(len(groups))], groups)
    return inline_svg(axes)
