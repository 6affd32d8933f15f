"""Actions and state to [-1, 1] and back, by the minimum and maximum, or two quantiles, of the train split.

Statistics come from a build's `stats.json`, which holds the train split alone (rule L6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from model.settings import Scaling
from pipeline.errors import BuildError, SettingsError
from pipeline.format.json.strict_json import parse
from pipeline.format.schema import Sizes
from pipeline.format.text.printable import printable, reason


@dataclass(frozen=True)
class ChannelRange:
    """The two values of each channel that become -1 and 1, in the source's units."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise ValueError(f"min and max must have the same channels, got {len(self.low)} and {len(self.high)}")
        for channel, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low <= high:
                raise ValueError(f"channel {channel}: min {low} must not be above max {high}, nor either be NaN")


@dataclass(frozen=True)
class Grippers:
    """Channels of state and action that are a gripper's."""

    state: frozenset[int] = frozenset()
    action: frozenset[int] = frozenset()


NO_GRIPPERS = Grippers()


@dataclass(frozen=True)
class BuildStats:
    """Ranges of a build; None for what human video does not have."""

    state: ChannelRange | None
    action: ChannelRange | None

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], scaling: Scaling = Scaling.MIN_MAX, grippers: Grippers = NO_GRIPPERS
    ) -> Self:
        """From the object in `stats.json`.

        Args:
            grippers: channels that keep their whole range whatever the scaling.

        Raises:
            BuildError: a key is missing, or the statistics are not of the train split.
        """
        if content.get("split") != "train":
            raise BuildError(f"stats.json must be of the train split, got split={content.get('split')!r}; rebuild it")
        try:
            return cls(
                _channel_range(content["state"], scaling, grippers.state),
                _channel_range(content["action"], scaling, grippers.action),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BuildError(f"stats.json is damaged ({reason(error)}); rebuild it") from error

    @classmethod
    def parse(
        cls,
        data: bytes,
        where: object,
        scaling: Scaling = Scaling.MIN_MAX,
        grippers: Grippers = NO_GRIPPERS,
    ) -> Self:
        """From the content of a `stats.json`; see `from_json`.

        Raises:
            BuildError: it is no JSON, or not as `from_json` wants it; the message names `where`.
        """
        try:
            content = parse(data)
            if not isinstance(content, dict):
                raise ValueError("it holds no JSON object")
            return cls.from_json(content, scaling, grippers)
        except (ValueError, BuildError) as error:
            raise BuildError(f"{where}: {printable(error)}") from error


def require_channels(channels: ChannelRange | None, name: str, width: int) -> ChannelRange:
    """The ranges of a state or an action. Raises SettingsError unless they have so many channels."""
    found = None if channels is None else len(channels.low)
    if channels is None or found != width:
        raise SettingsError(f"stats.json must have {width} {name} channels, as the build's sizes say; got {found}")
    return channels


def unit_stats(sizes: Sizes) -> BuildStats:
    """Ranges of -1 to 1, for a model whose own are loaded afterwards."""
    state, action = (ChannelRange((-1.0,) * n, (1.0,) * n) if n else None for n in (sizes.state, sizes.action))
    return BuildStats(state, action)


def merge_stats(parts: Sequence[BuildStats]) -> BuildStats:
    """Ranges that cover every build of a run; a kind that one build lacks is None."""
    return BuildStats(_cover([part.state for part in parts]), _cover([part.action for part in parts]))


def _cover(ranges: Sequence[ChannelRange | None]) -> ChannelRange | None:
    found = [one for one in ranges if one is not None]
    if len(found) < len(ranges):
        return None
    low = tuple(min(values) for values in zip(*(one.low for one in found), strict=True))
    high = tuple(max(values) for values in zip(*(one.high for one in found), strict=True))
    return ChannelRange(low, high)


def _channel_range(
    statistics: Mapping[str, Any] | None, scaling: Scaling, grippers: frozenset[int]
) -> ChannelRange | None:
    if statistics is None:
        return None
    whole = ChannelRange(_numbers(statistics["min"]), _numbers(statistics["max"]))
    if scaling == Scaling.MIN_MAX:
        return whole
    mean, std, low, high = (list(_numbers(statistics[name])) for name in ("mean", "std", "q01", "q99"))
    if not {len(each) for each in (mean, std, low, high)} <= {len(whole.low)}:
        raise ValueError("statistics must have the same channels")
    for channel, (least, most) in enumerate(zip(whole.low, whole.high, strict=True)):
        at_ends = _lies_at_its_ends(least, most, mean[channel], std[channel])
        if channel in grippers or at_ends or low[channel] == high[channel]:
            low[channel], high[channel] = least, most
    return ChannelRange(tuple(low), tuple(high))


def _lies_at_its_ends(least: float, most: float, mean: float, std: float) -> bool:
    """Whether a channel is one of two values, or most of it lies at its two ends, as a gripper's.

    The variance of values in [least, most] is at most (most - mean) (mean - least), and is that where all of them are
    one of the two ends (Bhatia and Davis, 2000). It is a third of it for a uniform distribution, and far less where
    single outliers make the range. Of a rare second value, such as a gripper that is closed in 0.5 % of the frames,
    both quantiles would be the other one.
    """
    return std**2 > 0.75 * (most - mean) * (mean - least)


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError(f"a range must be a list of numbers, found {values!r:.80}")
    if not all(abs(value) <= torch.finfo(torch.float32).max for value in values):
        raise ValueError(f"a range must be finite in float32, found {values!r:.80}")
    return tuple(values)


class MinMaxScaler(nn.Module):
    """Maps the range of each channel to [-1, 1]. A constant channel maps to 0 and comes back as it was.

    The ranges are buffers: a checkpoint carries the scaling it was trained with. Values outside the range are not cut
    here: the model clips a state at `ModelSettings.state_bound`.

    Args:
        channels: the ranges.
        floor: the smallest range divided by, in the source's units.
    """

    center: Tensor
    half_range: Tensor

    def __init__(self, channels: ChannelRange, floor: float) -> None:
        super().__init__()
        low = torch.tensor(channels.low, dtype=torch.float64)
        high = torch.tensor(channels.high, dtype=torch.float64)
        self.register_buffer("center", ((low + high) / 2).float())
        self.register_buffer("half_range", ((high - low).clamp(min=floor) / 2).float())

    def require_usable(self) -> None:
        """Raise ValueError where a range is not finite, or not above 0."""
        usable = self.center.isfinite() & self.half_range.isfinite() & (self.half_range > 0)
        for channel in (~usable).nonzero()[:, 0].tolist():
            center, half = float(self.center[channel]), float(self.half_range[channel])
            raise ValueError(
                f"channel {channel} has the middle {center:g} and half the range {half:g}, no usable scale"
            )

    def forward(self, values: Tensor) -> Tensor:
        """Source units [..., C] -> float32, about [-1, 1]."""
        return (values.float() - self.center) / self.half_range

    def inverse(self, values: Tensor) -> Tensor:
        """About [-1, 1], [..., C] -> float32 in source units."""
        return values.float() * self.half_range + self.center


def statistics_id(state: MinMaxScaler | None, action: MinMaxScaler | None) -> str:
    """SHA-256 of the ranges that a model scales by: equal exactly where two models take the same numbers for the same
    state and mean the same motion by the same output. None: there is no such kind."""
    digest = hashlib.sha256()
    for scaler in (state, action):
        for buffer in () if scaler is None else (scaler.center, scaler.half_range):
            digest.update(b"%d:" % len(buffer) + buffer.detach().float().cpu().numpy().astype("<f4").tobytes())
        digest.update(b";")
    return digest.hexdigest()
