"""`vlajepa report RUN`: a training run as one self-contained page, for people who would rather look than read.

No script, nothing fetched: plots are inline, images are data URIs, and a content security policy forbids the rest.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from jobs.common.policy.device import pick_device
from jobs.common.text import duration_text, size_text
from jobs.report.curves import chart_groups
from jobs.report.plots import POINTS, draw, short_number
from jobs.report.reliance import reliance_rows
from jobs.report.run_files import RunFolder, inner, number, read_run, wall_time
from jobs.report.samples import FoundBuild, PredictedFutures, find_builds, predict_futures
from jobs.report.settings import ReportConfig
from jobs.training.held_out.intervals import FEWEST
from model.checkpoint.vouched import VOUCHED
from pipeline.errors import RunError
from pipeline.storage.atomic import write_atomic

MOST_ROWS = 50
"""Of a table whose length the run decides."""
EPISODES = 5
"""Episodes shown at either end."""
PACKAGES = ("torch", "transformers", "numpy", "safetensors", "pyarrow")


def run(settings: ReportConfig) -> Path:
    path = write_report(settings)
    print(f"report: {path} ({size_text(path.stat().st_size)})")
    return path


def write_report(settings: ReportConfig) -> Path:
    """Write the page whole or not at all. Returns its path. Raises RunError if the folder is no training run,
    or `out` is a folder."""
    folder, checkpoint = _run_and_checkpoint(settings.run)
    path = settings.out or folder / "report.html"
    if path.is_dir():
        raise RunError(f"out={path} is a folder; name a file, as in out={path / 'report.html'}")
    device = pick_device(settings.device)
    record = read_run(folder)
    builds = find_builds(record, settings.builds)
    baselines = [read_run(path) for path in settings.baselines]
    futures = predict_futures(record, builds, settings.samples, device, checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(record, builds, futures, baselines).encode("utf-8", "backslashreplace"))
    return path


def _run_and_checkpoint(path: Path) -> tuple[Path, Path | None]:
    """A run's folder, and the checkpoint that is meant, if it is a checkpoint's."""
    place = path.resolve().parent
    return (place.parent, path) if place.name == "checkpoints" and (path / "state.json").is_file() else (path, None)


@cache
def _environment() -> Environment:
    """Compiles the page once."""
    environment = Environment(
        loader=PackageLoader("jobs.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": _number, "plain": plain, "percent": _percent, "l1": _l1, "gain": _gain_text}
    return environment


def render(
    record: RunFolder, builds: Sequence[FoundBuild], futures: PredictedFutures, baselines: Sequence[RunFolder] = ()
) -> str:
    """The page as text."""
    metrics = record.metrics
    held_out = [_held_out_row(name, numbers) for name, numbers in record.held_out.items()]
    groups = [
        (group, [draw(chart, metrics.first_step, metrics.last_step) for chart in group.charts])
        for group in chart_groups(metrics)
    ]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            run=record,
            name=record.path.resolve().name,
            steps=number(inner(record.config, "trainer").get("steps")),
            ending=_ending(record),
            wall="–" if (wall := wall_time(metrics)) is None else duration_text(wall),
            builds=[_build_row(record, found) for found in builds],
            held_out=held_out,
            worse=any(row["gain"] is not None and row["gain"] <= 0 for row in held_out),
            reliance=reliance_rows([record, *baselines]),
            fewest=FEWEST,
            groups=groups,
            points=POINTS,
            futures=futures,
            settings=_sections(record.config),
            skipped=record.skipped[-MOST_ROWS:],
            stopped_keys=_stopped_keys(record.stopped_batch)[:MOST_ROWS],
            versions=_versions(),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def nested(value: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str | None]]:
    """(depth, key, text of the value or None for one that is nested) of every entry, outer before inner."""
    for key, entry in value.items():
        if isinstance(entry, list) and any(isinstance(each, (Mapping, list)) for each in entry):
            entry = {str(i): each for i, each in enumerate(entry, 1)}
        if isinstance(entry, Mapping) and entry and depth < 8:
            yield depth, str(key), None
            yield from nested(entry, depth + 1)
        else:
            yield depth, str(key), _text(entry)


def _sections(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, str, str | None]]]]:
    """Entries of run.json by its outermost keys; those that are not nested come first, together."""
    single = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    sections = {"run": single} | {key: value for key, value in config.items() if isinstance(value, Mapping)}
    return [(name, list(nested(content))) for name, content in sections.items() if content]


def plain(text: object, limit: int = 200) -> str:
    """One line without control characters, of bounded length."""
    cut = "".join(c if c.isprintable() else "�" for c in str(text)[: limit + 1])
    return cut if len(cut) <= limit else cut[:limit] + "…"


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value) if number(value) is not None else "not finite"
    if isinstance(value, (list, Mapping)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def _build_row(record: RunFolder, found: FoundBuild) -> dict[str, Any]:
    sizes = inner(inner(record.config, "sizes"), found.name)
    counts = {} if found.build is None else found.build.manifest["counts"]
    samples = {split: inner(counts, split).get("samples", 0) for split in ("train", "val")} if counts else {}
    voucher = _voucher(record, found.name)
    verdict, _, _ = str(voucher.get("verdict", "")).partition(", build.json")
    verdict += "; samples were not compared with it" if voucher.get("compared") is False else ""
    kind = "robot" if sizes.get("action") else "human video"
    return {
        "name": found.name,
        "kind": kind if sizes else "",
        "samples": samples,
        "verdict": verdict,
        "signed_by": str(voucher.get("signed_by", "")),
        "fingerprint": str(inner(record.config, "builds").get(found.name, "")),
        "address": found.address,
        "problem": found.problem,
    }


def _voucher(record: RunFolder, build: str) -> Mapping[str, Any]:
    """What run.json says about who vouched for a build; empty if nothing."""
    listed = record.config.get(VOUCHED)
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return next((entry for entry in entries if entry.get("build") == build), {})


def _held_out_row(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    steps, copies = (
        found if isinstance(found := numbers.get(key), list) else [] for key in ("per_step", "per_step_nothing_changes")
    )
    episodes = sorted(_episodes(numbers), key=lambda entry: float(entry["model"]))
    some = len(episodes) > 2 * EPISODES
    return {
        **numbers,
        "name": name,
        "gain": _gain(numbers),
        "steps": list(zip_longest(steps, copies[: len(steps)])),
        "smallest": episodes[:EPISODES] if some else episodes,
        "largest": episodes[-EPISODES:] if some else [],
        "number_of_episodes": len(episodes),
    }


def _episodes(numbers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, errors in inner(numbers, "by_episode").items():
        if isinstance(errors, Mapping) and number(errors.get("model")) is not None:
            yield {**errors, "name": name, "gain": _gain(errors)}


def _gain(errors: Mapping[str, Any]) -> float | None:
    """How far the model is below "nothing changes", as a share of it."""
    model, copied = number(errors.get("model")), number(errors.get("nothing_changes"))
    return 1 - model / copied if model is not None and copied else None


def _ending(record: RunFolder) -> tuple[str, str]:
    """("good", "bad" or "", a sentence) about how the run ended."""
    step, last, ended = number(record.ended.get("step")), record.metrics.last_step, record.ended
    if "step" in record.stopped_batch and (number(record.stopped_batch["step"]) or 0) >= last:
        return "bad", f"Stopped at step {plain(record.stopped_batch['step'])} by its own numbers."
    if not ended:
        return "", "Still running, or killed: there is no ended.json."
    reason = plain(ended.get("reason", "?"))
    if step is not None and step < last:
        return "", f"Still running, or killed: ended.json has “{reason}” at step {step:,.0f}."
    known = {"finished": ("good", "Finished."), "stop_after": ("", "Ended at trainer.stop_after.")}
    return known.get(reason, ("", f"Stopped by {reason}; the same command continues."))


def _stopped_keys(stopped: Mapping[str, Any]) -> list[str]:
    """Keys of the samples of the batch that stopped the run."""
    ranks = stopped.get("keys_by_rank")
    by_build = [rank for rank in ranks if isinstance(rank, Mapping)] if isinstance(ranks, list) else []
    return [str(key) for rank in by_build for keys in rank.values() if isinstance(keys, list) for key in keys]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("vlajepa", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _number(value: Any) -> str:
    found = number(value)
    return "–" if found is None else f"{found:,.0f}" if isinstance(value, int) else short_number(found)


def _percent(value: Any) -> str:
    found = number(value)
    return "–" if found is None else f"{100 * found:.1f} %"


def _l1(value: Any) -> str:
    """Four decimals, so that numbers below each other compare."""
    found = number(value)
    return _number(value) if found is None or not 1e-3 <= abs(found) < 1000 else f"{found:.4f}"


def _gain_text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{abs(100 * value):.1f} % {'below' if value >= 0 else 'above'} “nothing changes”"
