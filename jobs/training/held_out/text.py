"""Held-out numbers as text."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.training.held_out.bootstrap import Interval
from jobs.training.held_out.pairs import PairKind
from jobs.training.held_out.result import HeldOut

PAIRS = {
    PairKind.OTHER_EPISODE: "with another episode",
    PairKind.SAME_EPISODE: "within the episode",
    PairKind.SAME_SCENE: "between twins",
}
"""How latent actions or images are exchanged; twins have the same picture and different instructions."""


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
                lines.append(f"  latent-action reliance, {words}: {interval_text(r.latent_action_reliance[kind].all)}")
        if r.two_alternative is not None:
            lines.append(f"  nearer to its own future than to its twin's: {percent_text(r.two_alternative)}")
        for kind, words in PAIRS.items():
            if kind in r.image_reliance:
                lines.append(f"  image reliance, {words}: {interval_text(r.image_reliance[kind])}")
    return "\n".join(lines)


def interval_text(interval: Interval) -> str:
    """As in "1.655 (1.629-1.682) over 200 pairs"."""
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f}) over {interval.pairs:,} pairs"


def percent_text(interval: Interval) -> str:
    """As in "98.5 % (96.0-100.0) of 200"."""
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.value:.1f} % ({low:.1f}-{high:.1f}) of {interval.pairs:,}"
