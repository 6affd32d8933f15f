"""Held-out numbers as text."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.training.held_out.intervals import FEWEST, Interval
from jobs.training.held_out.pairs import PairKind
from jobs.training.held_out.result import HeldOut

PAIRS = {
    PairKind.OTHER_EPISODE: "with another episode",
    PairKind.SAME_EPISODE: "within the episode",
    PairKind.SAME_SCENE: "between twins",
}
"""How latent actions or images are exchanged; twins have the same picture and different instructions."""


def groups_word(kind: PairKind) -> str:
    """What intervals of pairs of a kind are over."""
    return "scenes" if kind is PairKind.SAME_SCENE else "episodes"


def describe_results(results: Mapping[str, HeldOut]) -> str:
    """Held-out numbers of each build in lines."""
    lines = []
    for name, r in results.items():
        action = "" if r.action is None else f"; action loss {r.action:.4f}"
        lines.append(
            f'{name}, held out: world-model loss (L1) {r.model:.4f}, "nothing changes" {r.nothing_changes:.4f}{action}'
        )
        for kind, words in PAIRS.items():
            if kind in r.latent_action_reliance:
                text = interval_text(r.latent_action_reliance[kind].all, groups_word(kind))
                lines.append(f"  latent-action reliance, {words}: {text}")
        if r.two_alternative is not None:
            lines.append(f"  nearer to its own future than to its twin's: {percent_text(r.two_alternative)}")
        for kind, words in PAIRS.items():
            if kind in r.image_reliance:
                lines.append(f"  image reliance, {words}: {interval_text(r.image_reliance[kind], groups_word(kind))}")
    return "\n".join(lines)


def interval_text(interval: Interval, groups: str) -> str:
    """As in "1.655 (1.629-1.682) over 200 pairs, 100 scenes"."""
    value = value_text(interval.value, interval.low, interval.high)
    return f"{value} over {interval.pairs:,} pairs, {interval.groups:,} {groups}"


def percent_text(interval: Interval) -> str:
    """As in "98.5 % (95.1-99.6) of 200, 100 scenes"."""
    value = value_text(interval.value, interval.low, interval.high, 100, ".1f", " %")
    return f"{value} of {interval.pairs:,}, {interval.groups:,} scenes"


def value_text(
    value: float, low: float | None, high: float | None, factor: float = 1, form: str = ".3f", unit: str = ""
) -> str:
    """As in "1.655 (1.629-1.682)", or "1.655 (fewer than 5: no interval)"."""
    if low is None or high is None:
        return f"{value * factor:{form}}{unit} (fewer than {FEWEST}: no interval)"
    return f"{value * factor:{form}}{unit} ({low * factor:{form}}-{high * factor:{form}})"
