"""Other libraries over the same samples, each used as its documentation says; `tests.benchmarks.loaders` measures them.

A module of this package imports its library when it is imported itself: a missing one is an ImportError there and
nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.streaming.jpeg import decode_jpeg
from tests.benchmarks.full_size_build import SIZES, VIEWS, RandomSamples, sample_key


@dataclass(frozen=True)
class PeerBatch:
    """What every contender hands over; shapes as in `pipeline.format.schema`, one row a sample."""

    key: tuple[str, ...]
    instruction: tuple[str, ...]
    images: Tensor
    state: Tensor
    context: Tensor
    latents: Tensor
    latent_mask: Tensor
    actions: Tensor
    action_mask: Tensor

    @staticmethod
    def of(found: Mapping[str, Any]) -> PeerBatch:
        """From a batch that a library made of `decoded` samples; masks that it had to store as numbers become bool."""
        values = {field.name: found[field.name] for field in fields(PeerBatch)}
        for name in ("latent_mask", "action_mask"):
            values[name] = values[name].to(torch.bool)
        return PeerBatch(**values | {name: tuple(values[name]) for name in ("key", "instruction")})


class Peer(Protocol):
    """One way to store and read the samples.

    name   as shown in the table
    notes  what it does, line by line: format, order, decoding, batching, resuming
    """

    name: str
    notes: tuple[str, ...]

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        """Store the samples of `write_full_size_build`, and remember where."""

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        """A fresh loader's batches, epoch after epoch without end. Closes the loader before."""

    def state(self) -> Any:
        """The loader's state after the batches taken so far, to be saved with a checkpoint."""

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        """A fresh loader that goes on from a state, with the arguments of the last `batches`."""

    def close(self) -> None:
        """Stop workers."""


@dataclass(frozen=True)
class Arguments:
    """Those of `Peer.batches`."""

    batch: int
    workers: int
    seed: int


def stored(source: RandomSamples, index: int) -> dict[str, Any]:
    """Everything of a sample, arrays as arrays, files as bytes."""
    inputs, rows = source.inputs(index), source.rows(range(index, index + 1))
    assert rows.actions is not None
    assert rows.action_mask is not None
    return {
        "key": sample_key(index),
        "json": inputs.json,
        **dict(zip(VIEWS, inputs.images, strict=True)),
        "context": rows.context[0],
        "latents": rows.latents[0],
        "latent_mask": rows.latent_mask[0],
        "actions": rows.actions[0],
        "action_mask": rows.action_mask[0],
    }


def decoded(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A stored sample with its files decoded: what the training step takes. For libraries that leave decoding to the
    user; pictures by the decoder that our reader uses."""
    pictures = np.empty((SIZES.views, SIZES.image_size, SIZES.image_size, 3), np.uint8)
    for view, out in zip(VIEWS, pictures, strict=True):
        decode_jpeg(bytes(sample[view]), out)
    return assembled(sample, pictures, json.loads(bytes(sample["json"])))  # LitData gives memoryviews


def assembled(sample: Mapping[str, Any], pictures: NDArray[np.uint8], content: Mapping[str, Any]) -> dict[str, Any]:
    """A sample whose pictures and JSON the library has decoded already."""
    return {
        "key": content["key"],
        "instruction": content["instruction"],
        "images": pictures,
        "state": np.asarray(content["state"], np.float32),
        **{name: sample[name] for name in ("context", "latents", "latent_mask", "actions", "action_mask")},
    }
