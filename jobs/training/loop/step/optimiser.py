"""AdamW with a learning rate and a gradient norm for each part of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.averages import Averages
from model.checkpoint.sharding import is_sharded
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError


class Optimiser:
    """Optimiser steps by the settings' schedule.

    Args:
        model: on its device, and sharded if it will be.
        fused: AdamW in one kernel, which clips too; None: on CUDA.
        rounded: keep float32 weights here, and let the model compute with bfloat16 copies of them. Its parameters
            change their type in place, so this comes before anything is compiled.

    Attributes:
        masters: the float32 weights by name; the model's own where nothing is rounded.
        averages: of them; of none with `TrainerSettings.ema` 0.

    Raises:
        SettingsError: everything is frozen.
    """

    def __init__(
        self, model: VLAJEPA, settings: TrainerSettings, rounded: bool = False, fused: bool | None = None
    ) -> None:
        self._settings = settings
        groups = model.param_groups(settings.lr_backbone, settings.lr_action_head, settings.lr_rest)
        if not groups:
            raise SettingsError(f"model.freeze={list(model.settings.freeze)} leaves nothing to train")
        own = dict(model.named_parameters())
        self.masters = {name: _rounded(parameter) for name, parameter in own.items()} if rounded else own
        self._pairs = [(own[name], master) for name, master in self.masters.items() if rounded]
        self._gradients: dict[nn.Parameter, Tensor] = {}
        master_of = {id(parameter): master for parameter, master in self._pairs}
        for group in groups:
            group["params"] = [master_of.get(id(parameter), parameter) for parameter in group["params"]]
        self._device = groups[0]["params"][0].device
        fused = self._device.type == "cuda" if fused is None else fused
        self.adamw = torch.optim.AdamW(
            groups, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay, fused=fused
        )
        self._scales_in_kernel = fused and not is_sharded(model)
        self._peaks = [group["lr"] for group in groups]
        finals = {
            "backbone": settings.lr_final_backbone,
            "action_head": settings.lr_final_action_head,
            "rest": settings.lr_final_rest,
        }
        self._finals = [min(group["lr"], finals[group["name"]]) for group in groups]
        self.averages = Averages(self.masters if settings.ema else {}, settings.ema)

    def begin(self, position: int) -> dict[str, float]:
        """Clear gradients and set the learning rates of a position in the schedule; returns them by metric name."""
        s, rates = self._settings, {}
        self.adamw.zero_grad(set_to_none=True)
        for group, peak, final in zip(self.adamw.param_groups, self._peaks, self._finals, strict=True):
            group["lr"] = learning_rate(position, s.steps, s.warmup_steps, peak, final)
            rates[f"lr_{group['name']}"] = group["lr"]
        return rates

    @torch.no_grad()
    def collect(self) -> list[nn.Parameter]:
        """Add the gradients of the model's rounded parameters to those of the float32 weights, and clear them.

        Returns:
            The weights concerned. Their gradients have the same memory in every step.
        """
        found = []
        first: tuple[list[Tensor], list[Tensor]] = ([], [])
        later: tuple[list[Tensor], list[Tensor]] = ([], [])
        for own, master in self._pairs:
            if own.grad is None:
                continue
            if master not in self._gradients:
                self._gradients[master] = torch.empty_like(master)
            sums, parts = first if master.grad is None else later
            sums.append(self._gradients[master])
            parts.append(own.grad)
            master.grad, own.grad = self._gradients[master], None
            found.append(master)
        if first[0]:
            torch._foreach_copy_(*first)
        if later[0]:
            torch._foreach_add_(*later)
        return found

    def collected(self, masters: Sequence[nn.Parameter]) -> None:
        """As after `collect`, where a recorded one has written the gradients of these weights."""
        for master in masters:
            master.grad = self._gradients[master]

    @torch.no_grad()
    def norms(self) -> dict[str, Tensor]:
        """L2 norms of the gradients, float64 [] on the device, of all and by group of parameters. Collective if the
        model is sharded."""
        names = [f"grad_norm_{group['name']}" for group in self.adamw.param_groups]
        found = torch.stack([_norm(group["params"]) for group in self.adamw.param_groups]).double()
        return {"grad_norm": found.square().sum().sqrt(), **dict(zip(names, found, strict=True))}

    def step(self, norm: Tensor) -> None:
        """Scale gradients down to `clip_norm` if their norm is above it, and step; nothing moves if it is not finite.

        Args:
            norm: float64 [], on the device. The fused kernel reads it there: nobody waits.
        """
        total = norm.float()
        if self._scales_in_kernel:  # divides the gradients, which saves a pass over them; as GradScaler asks for it
            scale = ((total + 1e-6) / self._settings.clip_norm).clamp(min=1.0)
            setattr(self.adamw, "grad_scale", scale)  # noqa: B010  the class does not declare it
            setattr(self.adamw, "found_inf", total.isfinite().logical_not().float())  # noqa: B010
        elif not total.isfinite():
            return
        else:
            parameters = [p for group in self.adamw.param_groups for p in group["params"]]
            torch.nn.utils.clip_grads_with_norm_(parameters, self._settings.clip_norm, total)
        self.adamw.step()
        self.averages.update()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the float32 weights into the model's own."""
        if self._pairs:
            torch._foreach_copy_([own for own, _ in self._pairs], [master for _, master in self._pairs])


def _rounded(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter's float32 values; it keeps them in bfloat16."""
    master = nn.Parameter(parameter.detach().float().clone(), parameter.requires_grad)
    parameter.data = parameter.data.bfloat16()
    return master


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
