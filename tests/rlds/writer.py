"""RLDS datasets written with the real TFDS builder and the feature specification each has at its publisher.

The images are frames of a real clip, in the dataset's own size; the numbers are smooth made-up trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.sources.video.decode import Video

Features = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """One episode to write: `steps` by the feature specification, and the rest of the record."""

    steps: list[dict[str, Any]]
    episode: Mapping[str, Any]


def write_rlds(
    root: Path,
    name: str,
    version: str,
    features: Callable[[Any], Features],
    splits: Mapping[str, Sequence[Recorded]],
    shards: int = 1,
) -> Path:
    """Prepare a dataset as its own builder would; returns the folder of the version.

    Args:
        features: `tensorflow_datasets` -> the features of a record.
        splits: split -> its episodes. The builder puts them into an order of its own.
        shards: record files of each split.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    specification = tfds.features.FeaturesDict(features(tfds))

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self) -> Any:
            return self.dataset_info_from_configs(features=specification)

        def _split_generators(self, manager: Any) -> Any:
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split: str) -> Iterator[tuple[str, Any]]:
            for number, record in enumerate(splits[split]):
                yield f"{number:05d}", {"steps": record.steps, **record.episode}

    Builder.name = name
    builder = Builder(data_dir=str(root))
    config = tfds.download.DownloadConfig(try_download_gcs=False, num_shards=shards)
    builder.download_and_prepare(download_config=config)
    return Path(str(builder.data_dir))


def steps_feature(tfds: Any, step: Features) -> Any:
    """The `steps` of a record: what every RLDS step has, and `step`."""
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_)
    numbers = {"discount": np.float32, "reward": np.float32}
    return tfds.features.Dataset({**flags, **numbers, **step})


def image_feature(tfds: Any, height: int, width: int) -> Any:
    """A camera."""
    return tfds.features.Image(shape=(height, width, 3), dtype=np.uint8, encoding_format="jpeg")


def with_flags(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what every RLDS step has."""
    last = len(steps) - 1
    return [
        {
            "is_first": i == 0,
            "is_last": i == last,
            "is_terminal": i == last,
            "discount": 1.0,
            "reward": float(i == last),
            **step,
        }
        for i, step in enumerate(steps)
    ]


def real_frames(shared_data: Path, clip: int, count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """The first frames of a real clip, resized."""
    path = sorted((shared_data / "ssv2/20bn-something-something-v2").glob("*.webm"))[clip]
    with Video(path) as video:
        frames = video.frames(range(count))
    return [np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames]


def smooth(rng: np.random.Generator, count: int, width: int, scale: float) -> NDArray[np.float64]:
    """A random walk whose steps change slowly, [count, width]."""
    steps = rng.normal(size=(count, width)).cumsum(0) * scale / 4
    return rng.uniform(-scale, scale, width) + steps
