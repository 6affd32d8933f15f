"""`vlajepa demo-leak`: the reference's way of encoding (mode `clip`) beside ours (mode `prefix`), on the same data.

The numbers show how far a context changes with the future, what a linear map predicts of the future from it, and what
the predictor does with shuffled latent actions.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from jobs.common.svg import COLOURS, empty_axes, inline_svg
from jobs.common.text import markdown_table
from jobs.demos.command_runner import command_words
from jobs.demos.demo import require_empty, run_command
from jobs.demos.leak_experiment import KINDS, common, context_shifts, read_latents
from jobs.demos.settings import DemoLeakConfig
from jobs.latent_probes.ridge import explained
from pipeline.format.build import load_build
from pipeline.storage.atomic import write_atomic

MODES = ("prefix", "clip")


def run(settings: DemoLeakConfig) -> Path:
    """The report."""
    out = settings.out
    require_empty(out)
    for words, code in commands(settings):
        run_command(words, code)
    result = measure(settings)
    write_atomic(out / "leak.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(out / "leak.html", render(result).encode())
    print("\n" + describe(result) + f"\nnumbers: {out / 'leak.json'}; plots: {out / 'leak.html'}")
    return out / "leak.html"


def commands(settings: DemoLeakConfig) -> list[tuple[tuple[str, ...], int]]:
    """What runs, with the expected exit codes: the audit must find the clip build leaky."""
    templates = [("sample-data out={out}/data clips=4 episodes={s.episodes} seed={s.seed}", 0)]
    for mode in MODES:
        leaky = mode == "clip"
        build = (
            "preprocess source=lerobot source.root={out}/data/lerobot source.val_share=0.25 window.every=2 "
            f"window.interval=3 encoder=tiny encoder.mode={mode} inputs.image_size=64 out={{out}}/{mode}"
        )
        train = (
            f"train builds=[{{out}}/{mode}] out={{out}}/run-{mode} model=tiny trainer=demo "
            "trainer.steps={s.steps} trainer.seed={s.seed}" + (" allow_leaky=true" if leaky else "")
        )
        templates += [(build, 0), (f"audit {{out}}/{mode}", int(leaky)), (train, 0)]
    return [(command_words(template, out=settings.out, s=settings), code) for template, code in templates]


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
    steps = range(1, len(result["explained"]["clip"]) + 1)
    by_mode = [result["context_shift"][mode] for mode in MODES]
    shifts = [
        (kind, *(f"{statistics.median(shift[kind]):.3g}, {max(shift[kind]):.3g}" for shift in by_mode))
        for kind in KINDS
    ]
    losses = [(mode, result["world_model"][mode]) for mode in MODES]
    parts = [
        "Change of the context when only frames after now change (median, largest; relative):",
        markdown_table(("future replaced by", "prefix (ours)", "clip (the reference's way)"), shifts),
        "R^2 of a linear map from the context alone to future latents, on held-out episodes:",
        markdown_table(
            ("targets and context", *(f"step {k}" for k in steps)),
            [(name, *(f"{value:.3f}" for value in row)) for name, row in result["explained"].items()],
        ),
        f"Held-out world-model loss after {result['settings']['steps']} steps:",
        markdown_table(("build", "model", "latent actions shuffled", "nothing changes"), map(_loss_row, losses)),
        "The steps of mode clip end one interval later, so losses of the two modes cannot be compared.",
    ]
    return "\n\n".join(parts)


def _loss_row(entry: tuple[str, dict[str, float]]) -> tuple[str, ...]:
    mode, n = entry
    change = "-" if n["shuffled"] is None else f"{n['shuffled']:.4f} ({n['shuffled'] / n['model'] - 1:+.3%})"
    return mode, f"{n['model']:.4f}", change, f"{n['nothing_changes']:.4f}"


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
