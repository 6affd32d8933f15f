"""AdamW with a learning rate and a gradient norm for each part of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from jobs.training.loop.settings import TrainerSettings
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError


class Optimiser:
    """Optimiser steps by the settings' schedule.

    Raises:
        SettingsError: everything is frozen.
    """

    def __init__(self, model: VLAJEPA, settings: TrainerSettings) -> None:
        self._settings = settings
        groups = model.param_groups(settings.lr_backbone, settings.lr_action_head, settings.lr_rest)
        if not groups:
            raise SettingsError(f"model.freeze={list(model.settings.freeze)} leaves nothing to train")
        on_cuda = groups[0]["params"][0].device.type == "cuda"
        self.adamw = torch.optim.AdamW(
            groups, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay, fused=on_cuda
        )
        self._peaks = [group["lr"] for group in groups]

    def begin(self, position: int) -> dict[str, float]:
        """Clear gradients and set the learning rates of a position in the schedule; returns them by metric name."""
        s, rates = self._settings, {}
        self.adamw.zero_grad(set_to_none=True)
        for group, peak in zip(self.adamw.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(position, s.steps, s.warmup_steps, peak, min(peak, s.lr_final))
            rates[f"lr_{group['name']}"] = group["lr"]
        return rates

    def norms(self) -> dict[str, float]:
        """L2 norms of the gradients, of all and by group of parameters. Collective if the model is sharded."""
        names = [f"grad_norm_{group['name']}" for group in self.adamw.param_groups]
        found = torch.stack([_norm(group["params"]) for group in self.adamw.param_groups]).tolist()
        return {"grad_norm": math.sqrt(sum(norm**2 for norm in found)), **dict(zip(names, found, strict=True))}

    def step(self, norm: float) -> None:
        """Scale gradients down to `clip_norm` if their norm is above it, and step."""
        parameters = [p for group in self.adamw.param_groups for p in group["params"]]
        total = torch.tensor(norm, device=parameters[0].device)
        torch.nn.utils.clip_grads_with_norm_(parameters, self._settings.clip_norm, total)
        self.adamw.step()


def _norm(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device)
    norm = torch.nn.utils.get_total_norm(gradients)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()


def learning_rate(step: int, steps: int, warmup: int, peak: float, final: float) -> float:
    """Linear warm-up from peak / warmup to `peak` over `warmup` steps, then a cosine to `final` at step steps-1.

    It stays at `final` from there on.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
