"""The policies that `vlajepa demo-libero` trains, and how each is evaluated in the closed loop."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.demos.settings import DemoLiberoConfig


@dataclass(frozen=True)
class Policy:
    """A policy that is evaluated.

    name            of its folders in runs/ and results/
    demonstrations  of each task;  seed  of its training
    start           "pretrained", "scratch", or "untrained"
    grey            trained and evaluated with image_ablation=grey
    """

    name: str
    demonstrations: int
    seed: int
    start: str
    grey: bool = False


@dataclass(frozen=True)
class Trial:
    """A policy in the closed loop. `swap`: each task has the next one's instruction, a control."""

    policy: Policy
    swap: bool = False

    @property
    def name(self) -> str:
        """Of its folder in results/."""
        return f"{self.policy.name}-swap" if self.swap else self.policy.name


def policies(settings: DemoLiberoConfig) -> list[Policy]:
    """The untrained one and the one that sees the state alone; then seed by seed, most demonstrations first."""
    most, first = max(settings.demonstrations), settings.seeds[0]
    found = [Policy("untrained", most, first, "untrained"), Policy("state-only", most, first, "scratch", grey=True)]
    for seed in settings.seeds:
        for count in sorted(settings.demonstrations, reverse=True):
            for start in ("pretrained", "scratch") if settings.compare else ("pretrained",):
                found.append(Policy(f"{start}-{count}-seed-{seed}", count, seed, start))
    return found


def trials(settings: DemoLiberoConfig) -> list[Trial]:
    """Every policy, and of several tasks the first pretrained one with swapped instructions too."""
    found = []
    for policy in policies(settings):
        found.append(Trial(policy))
        first = policy.start == "pretrained" and policy.seed == settings.seeds[0]
        if first and len(settings.tasks) > 1:
            found.append(Trial(policy, swap=True))
    return found
