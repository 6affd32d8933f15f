"""A batch from disk (numpy) to the model's device (torch).

Shapes: B batch, V views of the build, K steps, N tokens, D latent width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import SettingsError
from pipeline.format.schema import Batch, Observation, Targets

NumpyBatch = Batch[NDArray[Any]]
TorchBatch = Batch[Tensor]


def to_device(batch: NumpyBatch, device: torch.device, views: int) -> TorchBatch:
    """Copy a batch to a device; latents cross as they are stored and are float16 there, whatever the build's are.

    Latents of a build with fewer views than the model's predictor takes are filled up by repeating the last view, as
    the reference does. The student sees only the real images, because a copy adds no information.

    Args:
        batch: from the stream. Keep it until the device has used the result: its buffers are reused after that.
        device: where to.
        views: V of the predictor.

    Raises:
        SettingsError: the build has more views than the predictor takes.
    """
    observation, targets = batch.observation, batch.targets
    return Batch(
        keys=batch.keys,
        observation=Observation(
            images=_tensor(observation.images, device),
            instruction=observation.instruction,
            state=_optional(observation.state, device),
        ),
        targets=Targets(
            context=fill_views(_latents(targets.context, targets.context_scale, device), 1, views),
            latents=fill_views(_latents(targets.latents, targets.latents_scale, device), 2, views),
            latent_mask=_tensor(targets.latent_mask, device),
            actions=_optional(targets.actions, device),
            action_mask=_optional(targets.action_mask, device),
        ),
    )


def fill_views(latents: Tensor, axis: int, views: int) -> Tensor:
    """Repeat the last view along `axis` until there are `views` of them; no copy where none is missing.

    Raises:
        SettingsError: there are more views than that.
    """
    found = latents.shape[axis]
    if found > views:
        raise SettingsError(
            f"the build has {found} views and model.predictor.views is {views}; set model.predictor.views={found}"
        )
    if found == views:
        return latents
    last = latents.narrow(axis, found - 1, 1)
    return torch.cat([latents, *[last] * (views - found)], dim=axis)


def _latents(values: NDArray[Any], scale: NDArray[np.float32] | None, device: torch.device) -> Tensor:
    """float16 [..., D] on the device, from float16, or from int8 and float32 [...]: half the bytes have crossed then.

    To the bit what `pipeline.shards.int8.dequantise` gives: one float32 product, rounded to float16.
    """
    if scale is None:
        return _tensor(values, device)
    return (_tensor(values, device) * _tensor(scale, device)[..., None]).to(torch.float16)


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    # Arrays that torch cannot express (read-only or strided) are copied here.
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if device.type == "cuda":
        # Only pinned memory is copied without blocking.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _optional(array: NDArray[Any] | None, device: torch.device) -> Tensor | None:
    return None if array is None else _tensor(array, device)
