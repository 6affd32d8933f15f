"""What the predictor is fed under teacher forcing, and what it must tell (rules L4, L5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.losses import merge_views
from pipeline.format.schema import Sizes, Targets


@dataclass(frozen=True)
class TeacherForced:
    """What the predictor is fed and what it must tell, float32 [B, K*N, V*D]; mask bool [B, K]. Without gradient."""

    inputs: Tensor
    targets: Tensor
    mask: Tensor

    @classmethod
    def joined(cls, batches: Sequence[TeacherForced]) -> TeacherForced:
        """Batches as one."""
        if len(batches) == 1:
            return batches[0]
        return cls(*(torch.cat([getattr(b, name) for b in batches]) for name in ("inputs", "targets", "mask")))

    @classmethod
    def of(cls, targets: Targets[Tensor], sizes: Sizes, views: int) -> TeacherForced:
        """z_0..z_{K-1} as inputs, z_1..z_K as targets.

        Raises:
            ValueError: the latents are not of these sizes, for a predictor of so many views.
        """
        expected = (len(targets.context), sizes.steps, views, sizes.tokens, sizes.width)
        found = tuple(targets.latents.shape)
        if found != expected or targets.context.shape != (expected[0], *expected[2:]):
            raise ValueError(
                f"latents must be {expected} and the context {(expected[0], *expected[2:])}, got {found} and "
                f"{tuple(targets.context.shape)}; model.batch.to_device fills up missing views"
            )
        # To float32 first: autocast refuses to join float16 tensors on the CPU.
        context, latents = targets.context.detach().float(), targets.latents.detach().float()
        inputs = torch.cat([context[:, None], latents[:, :-1]], dim=1)
        return cls(merge_views(inputs), merge_views(latents), targets.latent_mask)
