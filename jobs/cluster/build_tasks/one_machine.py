"""Encoders of a build run on devices of one model, so that its latents are reproducible to the bit."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import RunError
from pipeline.format.machine import Machine


def require_one_machine(machines: Iterable[Machine], mixed: bool) -> frozenset[Machine]:
    """The machines, which are one unless `mixed` allows several.

    Raises:
        RunError: they differ, and `mixed` is False.
    """
    found = frozenset(machines)
    if len(found) > 1 and not mixed:
        listed = "; ".join(sorted(map(str, found)))
        raise RunError(
            f"encoders of this build run on {len(found)} kinds of devices: {listed}. Their latents differ in the last "
            "bits; keep to one kind (cluster.encoder_resources chooses nodes), or set cluster.mixed_devices=true"
        )
    return found
