"""The report of `vlajepa demo-libero`. Every number is read from the files that its commands wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.closed_loop.outcomes import Rate, difference, rate_text, success_rate, total
from jobs.common.text import markdown_table
from jobs.demos.demo_libero_trials import Trial, trials
from jobs.demos.settings import DemoLiberoConfig


@dataclass(frozen=True)
class Timed:
    """A line of parts.jsonl: a complete command, and the seconds of its last call."""

    command: str
    seconds: float


@dataclass(frozen=True)
class TrialResult:
    """A finished trial.

    rate      of its successes;  swapped_instruction_success  the same as text, empty without swapped instructions
    held_out  numbers of its policy's training
    """

    trial: Trial
    rate: Rate
    held_out: Mapping[str, Any]
    swapped_instruction_success: str = ""


def make_report(settings: DemoLiberoConfig, timed: Sequence[Timed]) -> str:
    """The summary so far, as Markdown. There are demonstrations and the largest build's verdict at least."""
    out = settings.out
    collected = json.loads((out / "demonstrations" / "collected.json").read_bytes())
    verdict = json.loads((out / f"builds/{max(settings.demonstrations)}" / "audit" / "verdict.json").read_bytes())
    wanted = trials(settings)
    results = [each for trial in wanted if (each := _read(settings.out, trial)) is not None]
    rest = len(wanted) - len(results)
    header = (
        "policy",
        "demonstrations a task",
        "steps",
        "action loss",
        "image reliance",
        "successes, and their 95 % interval",
    )
    lines = [
        f"# {settings.suite}, tasks {', '.join(map(str, settings.tasks))}: from demonstrations to the closed loop",
        "",
        *([f"**Not finished: {rest} of {len(wanted)} policies are missing.**", ""] if rest else []),
        f"Start states 0..{settings.episodes - 1} of the benchmark for each task; demonstrations have others.",
        "Action loss and image reliance (that loss with another sample's images, over it) are of held-out "
        f"demonstrations{_held_out(results)}.",
        "",
        markdown_table(header, [_row(settings, each) for each in results]),
        "",
        *(_worth(settings, results) if settings.compare else ()),
        *[_demonstrations(task) for task in collected["tasks"]],
        f"Audit of the largest build: {verdict['status']}.",
        "",
        markdown_table(("command", "seconds"), [(f"`{part.command}`", f"{part.seconds:.0f}") for part in timed]),
    ]
    return "\n".join(lines) + "\n"


def _held_out(results: Sequence[TrialResult]) -> str:
    """Number of held-out samples and episodes, by the number of demonstrations trained on."""
    counts = {
        each.trial.policy.demonstrations: (each.held_out["episodes"], each.held_out["samples"])
        for each in results
        if each.held_out
    }
    parts = [f"of {most}: {samples} samples, episodes: {count}" for most, (count, samples) in sorted(counts.items())]
    return f" ({'; '.join(parts)})" if parts else ""


def _read(out: Path, trial: Trial) -> TrialResult | None:
    path = out / "results" / trial.name / "results.json"
    if not path.exists():
        return None
    content = json.loads(path.read_bytes())
    counts, swapped = content["total"], content.get("swapped_instruction_success")
    builds = json.loads((out / "runs" / trial.policy.name / "held_out.json").read_bytes())
    rate = success_rate(counts["successes"], counts["episodes"])
    return TrialResult(trial, rate, next(iter(builds.values()), {}), "" if swapped is None else swapped["text"])


def _row(settings: DemoLiberoConfig, results: TrialResult) -> tuple[str, ...]:
    policy = results.trial.policy
    pretrained = f"{settings.pretrain_steps:,} + " if policy.start == "pretrained" else ""
    untrained, swapped = policy.start == "untrained", results.swapped_instruction_success
    return (
        results.trial.name,
        "0" if untrained else str(policy.demonstrations),
        "1" if untrained else f"{pretrained}{settings.steps:,}",
        _number(results.held_out.get("action"), ".4f"),
        _number(_image_reliance(results.held_out), ".1f"),
        rate_text(results.rate) + (f"; swapped-instruction success: {swapped}" if swapped else ""),
    )


def _image_reliance(held_out: Mapping[str, Any]) -> float | None:
    """With the images of another episode, or where one alone is held out of another sample."""
    found = held_out.get("image_reliance", {})
    return next((found[kind]["value"] for kind in ("other_episode", "same_episode") if kind in found), None)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _worth(settings: DemoLiberoConfig, results: Sequence[TrialResult]) -> Iterator[str]:
    """With and without the pretrained world model, of the seeds that have both."""
    rows = [row for count in sorted(settings.demonstrations) if (row := _worth_row(results, count)) is not None]
    if not rows:
        return
    yield "What the pretrained world model is worth (successes of each seed; all seeds together with 95 % intervals"
    yield "that hold for other start states, not for other seeds):"
    yield ""
    yield markdown_table(("demonstrations a task", "pretrained", "from scratch", "difference, percentage points"), rows)
    yield ""


def _worth_row(results: Sequence[TrialResult], count: int) -> tuple[str, ...] | None:
    found: dict[str, dict[int, Rate]] = {"pretrained": {}, "scratch": {}}
    for each in results:
        policy = each.trial.policy
        if policy.demonstrations == count and policy.start in found and not policy.grey and not each.trial.swap:
            found[policy.start][policy.seed] = each.rate
    seeds = sorted(found["pretrained"].keys() & found["scratch"].keys())
    if not seeds:
        return None
    rates = {start: {seed: of_seed[seed] for seed in seeds} for start, of_seed in found.items()}
    cells = [
        f"{', '.join(str(rate.successes) for rate in of_seed.values())}: {rate_text(total(of_seed))}"
        for of_seed in rates.values()
    ]
    share, low, high = difference(total(rates["pretrained"]), total(rates["scratch"]))
    return str(count), *cells, f"{100 * share:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _demonstrations(task: Mapping[str, Any]) -> str:
    return f"Task {task['task']} ({task['instruction']}): {task['successes']} successes in {task['attempts']} attempts."
