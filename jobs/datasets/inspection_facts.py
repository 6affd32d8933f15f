"""What there is in a dataset, as pairs of a label and a text: for the terminal and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

from pipeline.inspection.checks import Inspection, Range
from pipeline.inspection.timing.camera_lag import CLEAR

SHOWN = 5
"""Entries and texts that are listed; inspection.json holds all."""


def facts_of(found: Inspection) -> Iterator[tuple[str, str]]:
    """The facts in the order they are shown; a label is empty where a fact goes on."""
    index = found.index
    splits = Counter(ref.split for ref in index.refs)
    yield "episodes", ", ".join(f"{split} {count:,}" for split, count in sorted(splits.items()))
    yield from (("note", note) for note in index.notes)
    yield "opened", f"{found.opened:,}, of which {found.unusable:,} cannot be used"
    if found.lengths:
        lengths = found.lengths.values()
        yield "frames", f"{min(lengths)} to {max(lengths)}, median {median(lengths):g}"
    for view, facts in found.views.items():
        rate = f"{min(facts.fps):.4g} to {max(facts.fps):.4g} frames/s" if facts.fps else "no rate"
        uneven = f", {facts.uneven} with uneven times" if facts.uneven else ""
        yield view, f"{_counts(facts.sizes)}; {_counts(facts.codecs)}; {rate}{uneven}"
    yield from (("text", f"{text!r} ({count})") for text, count in found.texts.most_common(SHOWN))
    for kind, values in (("state", found.state), ("action", found.action)):
        yield from _ranges(kind, values, found.survey.channel_names(kind))
    yield from _timing(found)
    reasons = Counter(entry.reason for entry in found.left_out).most_common()
    yield from (("left out", f"{reason}: {count:,}") for reason, count in reasons)
    yield from (("", f"{entry.episode}: {entry.reason}: {entry.detail}") for entry in found.left_out[:SHOWN])


def _timing(found: Inspection) -> Iterator[tuple[str, str]]:
    lag, survey = found.survey.action_lag, found.survey
    if lag is not None:
        action, state = survey.channel_names("action")[lag.action], survey.channel_names("state")[lag.state]
        when = "n" if not lag.lag else f"n{lag.lag:+d}"
        detail = (
            f"action {action} of frame {when} moves state {state} from n to n+1 (correlation {lag.correlation:.2f})"
        )
        yield "action lag", detail
    for own in survey.camera_lags:
        if own.correlation >= CLEAR:
            yield "camera lag", f"{own.view}: {own.lag} frames after the state (correlation {own.correlation:.2f})"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" if len(counter) > 1 else name for name, count in counter.most_common()) or "-"


def _ranges(kind: str, values: Range, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if values.low is None or values.high is None:
        return
    labels = names if len(names) == len(values.low) else [str(i) for i in range(len(values.low))]
    cells = [f"{n} {a:.3g}..{b:.3g}" for n, a, b in zip(labels, values.low, values.high, strict=True)]
    for at in range(0, len(cells), 4):
        yield kind if not at else "", "  ".join(cells[at : at + 4])
