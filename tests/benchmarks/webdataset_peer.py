"""The same samples the way WebDataset's documentation stores and reads arrays: `.npy` members of a tar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds

from tests.benchmarks.full_size_build import VIEWS, RandomSamples, sample_key


def write_tars(folder: Path, shards: int, shard_samples: int) -> list[str]:
    """Write the samples of `write_full_size_build`."""
    folder.mkdir(parents=True)
    source = RandomSamples()
    paths = [str(folder / f"{shard:06d}.tar") for shard in range(shards)]
    for shard, path in enumerate(paths):
        with wds.TarWriter(path) as writer:
            for index in range(shard * shard_samples, (shard + 1) * shard_samples):
                writer.write(_members(source, index))
    return paths


def batches(paths: list[str], batch_size: int, workers: int, targets_only: bool) -> Iterator[Any]:
    """Batched samples in the order of the tars, which is the cheapest for WebDataset: no shuffle buffer.

    With `targets_only` the other members are passed over unread. With workers the arrays become tensors first, so that
    they cross over in shared memory and not through a pipe.
    """
    select = _is_latent if targets_only else None
    dataset = wds.WebDataset(paths, shardshuffle=False, select_files=select).decode("rgb8")
    dataset = dataset.batched(
        batch_size, collation_fn=_collate_tensors if workers else wds.filters.default_collation_fn
    )
    if not workers:
        return iter(dataset)
    return iter(wds.WebLoader(dataset, batch_size=None, num_workers=workers))


def _collate_tensors(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch = wds.filters.default_collation_fn(samples)
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def _is_latent(member: str) -> bool:
    return member.endswith((".context.npy", ".latents.npy"))


def _members(source: RandomSamples, index: int) -> dict[str, Any]:
    rows = source.rows(range(index, index + 1))
    members: dict[str, Any] = {
        "__key__": sample_key(index),
        "context.npy": rows.context[0],
        "latents.npy": rows.latents[0],
    }
    inputs = source.inputs(index)
    members |= {f"{view}.jpg": data for view, data in zip(VIEWS, inputs.images, strict=True)}
    assert rows.actions is not None
    assert rows.action_mask is not None
    masks = {"latent_mask.npy": rows.latent_mask[0], "action_mask.npy": rows.action_mask[0]}
    return members | masks | {"actions.npy": rows.actions[0], "json": inputs.json}
