"""The curves of each chart. Every numeric field of metrics.jsonl is in one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.report.plots import Chart, Series
from jobs.report.run_files import Curve, Metrics
from jobs.training.held_out.text import PAIRS
from jobs.training.loop.step.phases import PREFIX, Phase

COLOURS = 6
"""Colours of series; two more are kept for baselines."""
BASELINE, SHUFFLED = 6, 7
MOST_OTHER = 100
"""Charts of fields that are in no group; the note has the number of the others."""

_PARTS = (("world_model", "world model"), ("action", "action"), ("rollout", "rollout"))
_FIELD = re.compile(r"(?P<build>.+)/(?:world_model|action|rollout|(?:step|nothing_changes)_\d{1,4})")
_IN_TABLES = ("samples", "episodes", "latent_action_reliance", "image_reliance", "two_alternative")
"""Held-out fields that are no curves: the tables show them."""


@dataclass(frozen=True)
class Group:
    """Charts under one heading."""

    title: str
    note: str
    charts: tuple[Chart, ...]


def chart_groups(metrics: Metrics) -> list[Group]:
    """All charts of a run, in the order in which they are read; groups without a curve are left out."""
    train = dict(metrics.train)
    held_out = {build: dict(fields) for build, fields in metrics.held_out.items()}
    groups = [
        Group("Loss", "Training batches.", _losses(train)),
        Group(
            "World model, step by step",
            "Latent L1 of each future step on training batches. Dashed: the true latent of the step before, repeated.",
            _steps(train),
        ),
        Group("Held out", "The same model on validation episodes.", _held_out(held_out)),
        Group("Optimiser", "Gradient norms before clipping, and learning rates.", _optimiser(train)),
        Group(
            "Speed",
            "Each point is a mean since the one before. Data wait: the part of a step in which its batch was not there "
            "yet. Phases follow each other and add up to a step, of rank 0; on a GPU, as the device sees them.",
            _speed(train),
        ),
    ]
    other = _other(train, held_out)
    more = f" {len(other) - MOST_OTHER:,} more are not shown." if len(other) > MOST_OTHER else ""
    groups.append(Group("Other fields", f"Everything else that metrics.jsonl holds.{more}", other[:MOST_OTHER]))
    return [group for group in groups if group.charts]


def _losses(left: dict[str, Curve]) -> tuple[Chart, ...]:
    charts = [_chart("Total loss", [("", left.pop("loss", None))], log=True, smooth=True)]
    for build in _builds(left):
        parts = [(label, left.pop(f"{build}/{name}", None)) for name, label in _PARTS]
        charts.append(_chart(build, parts, log=True, smooth=True))
    return _there(charts)


def _steps(left: dict[str, Curve]) -> tuple[Chart, ...]:
    found = [(build, _pop_steps(left, f"{build}/step_", f"{build}/nothing_changes_")) for build in _builds(left)]
    return tuple(Chart(build, series, log=True, smooth=True) for build, series in found if series)


def _pop_steps(left: dict[str, Curve], model: str, baseline: str) -> tuple[Series, ...]:
    """Each future step and its baseline, dashed, in one colour."""
    names = [name.removeprefix(prefix) for prefix in (model, baseline) for name in left if name.startswith(prefix)]
    steps = sorted({int(name) for name in names if re.fullmatch(r"\d{1,4}", name)})
    lines = (("step {}", model, False), ("step {}, nothing changes", baseline, True))
    return tuple(
        Series(label.format(step), curve, i % COLOURS, dashed)
        for i, step in enumerate(steps)
        for label, prefix, dashed in lines
        if (curve := left.pop(f"{prefix}{step}", None)) is not None
    )


def _held_out(left: dict[str, dict[str, Curve]]) -> tuple[Chart, ...]:
    charts, latent_actions, action, images, twins = [], [], [], [], []
    for i, (build, fields) in enumerate(left.items()):
        latent_actions += _by_pairs(build, fields, "latent_action_reliance/{}/all/value")
        action.append((build, fields.pop("action", None)))
        images += _by_pairs(build, fields, "image_reliance/{}/value")
        twins.append((build, fields.pop("two_alternative/value", None)))
        found = [
            Series(label, fields.pop(name), colour, dashed)
            for name, label, colour, dashed in (
                ("model", "model", i % COLOURS, False),
                ("nothing_changes", "nothing changes", BASELINE, True),
                ("shuffled", "latent actions shuffled", SHUFFLED, True),
            )
            if name in fields
        ]
        charts.append(Chart(f"{build}: latent L1", tuple(found)) if found else None)
        steps = _pop_steps(fields, "per_step/", "per_step_nothing_changes/")
        charts.append(Chart(f"{build}: latent L1 of each future step", steps) if steps else None)
        for name in [name for name in fields if name.split("/")[0] in _IN_TABLES]:
            del fields[name]
    charts.append(_chart("Latent-action reliance: L1 with exchanged latent actions / L1", latent_actions, line=1.0))
    charts.append(_chart("Nearer to its own future than to its twin's, share", twins, line=0.5))
    charts.append(_chart("Action loss", action))
    charts.append(_chart("Image reliance: action loss with other images / action loss", images, line=1.0))
    return _there(charts)


def _by_pairs(build: str, fields: dict[str, Curve], name: str) -> list[tuple[str, Curve | None]]:
    """A curve for each kind of pairs that samples were exchanged in."""
    return [(f"{build}, {words}", fields.pop(name.format(kind), None)) for kind, words in PAIRS.items()]


def _optimiser(left: dict[str, Curve]) -> tuple[Chart, ...]:
    norms = [("all", left.pop("grad_norm", None))]
    norms += [(_words(name, "grad_norm_"), left.pop(name)) for name in _starting(left, "grad_norm_")]
    rates = [(_words(name, "lr_"), left.pop(name)) for name in _starting(left, "lr_")]
    return _there([_chart("Gradient norm", norms, log=True, smooth=True), _chart("Learning rate", rates, zero=True)])


def _speed(left: dict[str, Curve]) -> tuple[Chart, ...]:
    """Phases of a step in one chart, else one field a chart: their units differ."""
    known = (
        ("samples_per_s", "Samples per second", 1.0, ""),
        ("data_wait_share", "Data wait, %", 100.0, "%"),
        ("memory_gib", "Memory, GiB", 1.0, "GiB"),
        ("tflops", "TFLOP/s of a device", 1.0, ""),
        ("mfu", "Model FLOPs utilisation, %", 100.0, "%"),
        ("seconds", "Time since the start or last restart, min", 1 / 60, "min"),
        ("skipped", "Corrupt samples skipped so far", 1.0, ""),
    )
    phases = [(phase, left.pop(f"{PREFIX}{phase}")) for phase in Phase if f"{PREFIX}{phase}" in left]
    charts = [_chart("Where a step's time goes, ms", phases, unit="ms", zero=True, smooth=True)]
    for name, title, factor, unit in known:
        curve = left.pop(name, None)
        scaled = None if curve is None else Curve(curve.x, factor * curve.y)
        smooth = name not in ("seconds", "skipped", "memory_gib")
        charts.append(_chart(title, [("", scaled)], unit=unit, zero=True, smooth=smooth))
    return _there(charts)


def _other(train: dict[str, Curve], held_out: dict[str, dict[str, Curve]]) -> tuple[Chart, ...]:
    rest = dict(train)
    rest |= {f"held out: {build}/{name}": curve for build, fields in held_out.items() for name, curve in fields.items()}
    return _there([_chart(name, [("", curve)]) for name, curve in rest.items()])


def _builds(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found["build"] for name in names if (found := _FIELD.fullmatch(name))))


def _starting(names: Iterable[str], prefix: str) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _words(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).replace("_", " ")


def _chart(
    title: str,
    named: Iterable[tuple[str, Curve | None]],
    *,
    unit: str = "",
    log: bool = False,
    zero: bool = False,
    smooth: bool = False,
    line: float | None = None,
) -> Chart | None:
    series = tuple(Series(name, c, i % COLOURS) for i, (name, c) in enumerate(named) if c is not None)
    return Chart(title, series, unit, log, zero, smooth, line) if series else None


def _there(charts: Iterable[Chart | None]) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)
