"""Names of the runs and evaluations of `vlajepa demo-libero`: those of their folders in runs/ and results/."""

from __future__ import annotations

SCRIPT = "script"


def world_model(seed: int) -> str:
    """A training without actions."""
    return f"world-model-seed-{seed}"


def stand_in(kind: str, seed: int) -> str:
    """A world model that something else steers than latent actions."""
    return f"{kind}-seed-{seed}"


def policy(seed: int) -> str:
    """A policy, and its evaluation."""
    return f"policy-seed-{seed}"


def swapped(name: str) -> str:
    """The evaluation of a policy in which each task has the next one's instruction."""
    return f"{name}-swap"


def perturbed(name: str, axis: str, level: int) -> str:
    """The evaluation of a policy along an axis of LIBERO-Plus."""
    return f"{name}-{axis}-{level}"
