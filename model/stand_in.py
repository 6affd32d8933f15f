"""What takes the place of the student's latent actions, to measure what those are worth.

The predictor is trained on it as on latent actions. The robot's true motion gives a ceiling, a constant the floor, and
the instruction's words what the instruction gives without an image. Shapes: B batch, S steps, A action tokens a step,
E width of latent actions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from model.settings import SteeredBy
from pipeline.format.schema import Targets

STAND_INS = (SteeredBy.TRUE_MOTION, SteeredBy.CONSTANT, SteeredBy.WORDS)
BUCKETS = 1024
"""Words, and pairs of neighbouring words, are numbered by their CRC-32 modulo this."""


class StandIn(nn.Module):
    """Learned tokens in place of latent actions.

    Args:
        kind: of STAND_INS.
        tokens: S x A.
        width: E.
        motion: numbers of the robot's motion: S state channels, and T actions of A channels.

    Raises:
        ValueError: the robot's motion is asked for, and there is no robot.
    """

    def __init__(self, kind: SteeredBy, tokens: int, width: int, motion: int) -> None:
        super().__init__()
        self.kind, self.tokens = kind, tokens
        self.constant = nn.Parameter(torch.zeros(tokens, width))
        if kind == SteeredBy.WORDS:
            self.words = nn.Linear(BUCKETS, tokens * width)
        if kind == SteeredBy.TRUE_MOTION:
            if not motion:
                raise ValueError(
                    "model.predictor.steered_by=true_motion needs a build with actions, and these have none; choose "
                    "another value"
                )
            self.motion = nn.Sequential(nn.Linear(motion, 4 * width), nn.GELU(), nn.Linear(4 * width, tokens * width))

    def forward(self, instructions: Sequence[str], motion: Tensor | None) -> Tensor:
        """[B, S*A, E].

        Args:
            instructions: B of them.
            motion: float32 [B, M], scaled; None for human video.

        Raises:
            ValueError: the robot's motion is needed and not there.
        """
        if self.kind == SteeredBy.CONSTANT:
            return self.constant.expand(len(instructions), -1, -1)
        if self.kind == SteeredBy.WORDS:
            rows = torch.stack([word_counts(text) for text in instructions])
            found = self.words(rows.to(self.constant.device))
        elif motion is None:
            raise ValueError("model.predictor.steered_by=true_motion needs actions; train on robot builds alone")
        else:
            found = self.motion(motion)
        return self.constant + found.unflatten(1, (self.tokens, -1))


def of_another(latent_actions: Tensor) -> Tensor:
    """Each sample's [B, L, E] from the sample before it; zeros where there is one sample alone, which may not keep its
    own. The order of samples is drawn anew each epoch."""
    return latent_actions.roll(1, dims=0) if len(latent_actions) > 1 else 0.0 * latent_actions


def with_another_future(targets: Targets[Tensor]) -> Targets[Tensor]:
    """Targets whose future latents, not the context, are those of the sample before; nothing of a sample alone."""
    latents, mask = targets.latents.roll(1, dims=0), targets.latent_mask.roll(1, dims=0)
    return replace(targets, latents=latents, latent_mask=mask if len(mask) > 1 else torch.zeros_like(mask))


@lru_cache(maxsize=4096)
def word_counts(text: str) -> Tensor:
    """How often each word and each pair of neighbouring words occurs, float32 [BUCKETS]."""
    words = text.lower().split()
    counts = torch.zeros(BUCKETS)
    for part in (*words, *map(" ".join, pairwise(words))):
        counts[zlib.crc32(part.encode()) % BUCKETS] += 1
    return counts
