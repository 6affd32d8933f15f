"""Whether this machine can make a build's bytes again. Nothing a build says makes its audit weaker: where the machine
differs from the one it names, there is no audit, unless the auditor asks for an inexact one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.entries import ShardEntry
from pipeline.audit.rederive.reencode import Reencoder
from pipeline.errors import BuildError
from pipeline.format.libraries import library_versions
from pipeline.format.machine import Machine

IMAGE_LIBRARIES = ("av", "decord", "ffmpeg", "libjpeg", "pillow")
"""They decode frames, resize them and write JPEGs."""

LATENT_LIBRARIES = (*IMAGE_LIBRARIES, "torch", "transformers")


@dataclass(frozen=True)
class Exactness:
    """What must be equal on this machine.

    images   every JPEG, to the byte
    machine  latents that were computed on it must be equal to the bit; None: no latents, as libraries or encoder differ
    reasons  what differs from the build; empty when all of it must be equal
    """

    images: bool
    machine: Machine | None
    reasons: tuple[str, ...]

    def latents(self, shard: ShardEntry) -> bool:
        """Whether the latents of a shard must be equal to the bit."""
        return self.machine == shard.encoded_on


def find_exactness(build: ClaimedBuild, encoder: Reencoder, inexact: bool) -> Exactness:
    """Compare what made the build with this machine.

    Args:
        inexact: the auditor accepts bounds and statistics where something differs.

    Raises:
        BuildError: something differs, and `inexact` is False.
    """
    claimed, found = build.settings.get("versions"), library_versions()
    versions = _differences(claimed if isinstance(claimed, dict) else {}, {n: found[n] for n in LATENT_LIBRARIES})
    settings = build.settings.get("encoder")
    identity = _differences(settings if isinstance(settings, dict) else {}, encoder.identity)
    machines = sorted({str(shard.encoded_on) for shard in build.shards if shard.encoded_on != encoder.machine})
    dropped = bool(build.tasks.dropped.any())
    reasons = [f"{name} {theirs} (here {ours})" for name, theirs, ours in versions]
    reasons += [f"encoder.{name} {theirs} (here {ours})" for name, theirs, ours in identity]
    reasons += [f"latents computed on {machine} (here {encoder.machine})" for machine in machines]
    reasons += ["episodes dropped from the encoder's batches"] * dropped
    if reasons and not inexact:
        raise BuildError(
            f"{build.root} could not be audited exactly. It was made with {'; '.join(reasons)}. Install these versions "
            "on such a machine, or accept a weaker audit, which the verdict names, with inexact=true"
        )
    images = not any(name in IMAGE_LIBRARIES for name, _, _ in versions)
    return Exactness(images, None if versions or identity else encoder.machine, tuple(reasons))


def _differences(claimed: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, claimed, found) of every value that is found and differs from what is claimed."""
    return [
        (name, f"{claimed.get(name, 'unnamed')!s:.80}", f"{value!s:.80}")
        for name, value in found.items()
        if name not in claimed or claimed[name] != value
    ]
