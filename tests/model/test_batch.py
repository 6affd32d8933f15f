from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.batch import NumpyBatch, fill_views, to_device
from pipeline.errors import SettingsError
from pipeline.format.schema import Batch, Observation, Targets
from pipeline.shards.int8 import dequantise, quantise

B, V, K, N, D, S, T, A = 3, 2, 4, 5, 6, 7, 8, 9
CPU = torch.device("cpu")


def _counting(*shape: int, dtype: str = "float32") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


def _batch(views: int, robot: bool) -> NumpyBatch:
    return Batch(
        keys=("a", "b", "c"),
        observation=Observation(
            _counting(B, views, 4, 4, 3, dtype="uint8"), ("x", "y", "z"), _counting(B, S) if robot else None
        ),
        targets=Targets(
            context=_counting(B, views, N, D, dtype="float16"),
            latents=_counting(B, K, views, N, D, dtype="float16"),
            latent_mask=np.ones((B, K), bool),
            actions=_counting(B, T, A) if robot else None,
            action_mask=np.ones((B, T), bool) if robot else None,
        ),
    )


def test_values_and_dtypes_survive() -> None:
    batch = _batch(V, robot=True)
    out = to_device(batch, CPU, views=V)
    assert out.keys == batch.keys
    assert out.observation.instruction == ("x", "y", "z")
    assert out.observation.images.dtype == torch.uint8
    assert out.targets.latents.dtype == torch.float16
    assert np.array_equal(out.targets.latents.numpy(), batch.targets.latents)
    assert out.targets.actions is not None
    assert batch.targets.actions is not None
    assert np.array_equal(out.targets.actions.numpy(), batch.targets.actions)


def test_int8_latents_are_multiplied_on_the_device_to_the_bit_of_numpy() -> None:
    exact = np.random.default_rng(0).standard_normal((B, K + 1, V, N, D)).astype(np.float16)
    values, scale = quantise(exact)
    batch = _batch(V, robot=True)
    targets = replace(
        batch.targets,
        context=values[:, 0],
        latents=values[:, 1:],
        context_scale=scale[:, 0],
        latents_scale=scale[:, 1:],
    )
    out = to_device(replace(batch, targets=targets), CPU, views=V + 1).targets
    assert out.context.dtype == out.latents.dtype == torch.float16
    assert out.context_scale is None
    assert out.latents_scale is None
    wanted = dequantise(values, scale)
    assert np.array_equal(out.context[:, :V].numpy(), wanted[:, 0])
    assert np.array_equal(out.latents[:, :, :V].numpy(), wanted[:, 1:])
    assert np.array_equal(out.latents[:, :, V].numpy(), wanted[:, 1:, -1])


def test_a_video_batch_has_one_image_and_as_many_latent_views_as_the_model() -> None:
    batch = _batch(1, robot=False)
    out = to_device(batch, CPU, views=2)
    assert out.observation.images.shape[1] == 1
    assert out.observation.state is None
    assert out.targets.actions is None
    for view in (0, 1):
        assert np.array_equal(out.targets.context[:, view].numpy(), batch.targets.context[:, 0])
        assert np.array_equal(out.targets.latents[:, :, view].numpy(), batch.targets.latents[:, :, 0])


def test_the_last_view_is_the_one_repeated() -> None:
    latents = torch.tensor([[[1.0], [2.0]]])  # [B, V, 1]
    assert fill_views(latents, 1, 4).flatten().tolist() == [1, 2, 2, 2]


def test_more_views_than_the_model_takes_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"2 views and model.predictor.views is 1; set model.predictor.views=2"):
        to_device(_batch(2, robot=True), CPU, views=1)


@pytest.mark.filterwarnings("error")
def test_read_only_memory_is_copied() -> None:
    batch = _batch(V, robot=True)
    batch.targets.latents.flags.writeable = False
    out = to_device(batch, CPU, views=V)
    before = batch.targets.latents.copy()
    out.targets.latents.zero_()
    assert np.array_equal(batch.targets.latents, before)
