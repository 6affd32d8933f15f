from __future__ import annotations

import json

import pytest
import torch

from model.normalize import BuildStats, ChannelRange, MinMaxScaler
from pipeline.errors import BuildError

CHANNELS = ChannelRange(low=(-1.0, 0.0, 5.0), high=(3.0, 10.0, 5.0))


def test_the_range_maps_to_minus_one_and_one() -> None:
    scaler = MinMaxScaler(CHANNELS, floor=1e-3)
    ends = scaler(torch.tensor([[-1.0, 0.0, 5.0], [3.0, 10.0, 5.0]]))
    assert ends[:, :2].tolist() == [[-1, -1], [1, 1]]


def test_a_constant_channel_maps_to_zero_and_does_not_explode() -> None:
    scaler = MinMaxScaler(CHANNELS, floor=0.5)
    assert scaler(torch.tensor([0.0, 0.0, 5.0]))[2] == 0
    assert scaler(torch.tensor([0.0, 0.0, 5.1]))[2] == pytest.approx(0.4, abs=1e-5)


def test_there_and_back() -> None:
    scaler = MinMaxScaler(CHANNELS, floor=1e-3)
    values = torch.rand(4, 7, 3) * 20 - 10
    torch.testing.assert_close(scaler.inverse(scaler(values)), values, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_carries_the_ranges() -> None:
    trained = MinMaxScaler(CHANNELS, floor=1e-3)
    other = MinMaxScaler(ChannelRange((0.0,) * 3, (1.0,) * 3), floor=1e-3)
    values = torch.rand(2, 3)
    assert not torch.equal(other(values), trained(values))
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other(values), trained(values))


def _content() -> dict[str, object]:
    channel = {"count": 3, "min": [0.0, 1.0], "max": [1.0, 2.0], "mean": [0, 0], "std": [1, 1]}
    return {"split": "train", "samples": 3, "state": None, "action": channel}


def test_stats_are_read_from_their_file() -> None:
    data = json.dumps(_content()).encode()
    assert BuildStats.parse(data, "stats.json") == BuildStats(None, ChannelRange((0.0, 1.0), (1.0, 2.0)))


def test_statistics_of_another_split_are_refused() -> None:
    with pytest.raises(BuildError, match="train split, got split='val'"):
        BuildStats.from_json(_content() | {"split": "val"})


@pytest.mark.parametrize(
    "change",
    [
        {"action": {"min": [0.0]}},
        {"action": {"min": [2.0], "max": [1.0]}},
        {"action": {"min": "ab", "max": "cd"}},
        {"action": {"min": [True], "max": [True]}},
        {"action": {"min": [0.0], "max": [1e300]}},
        {"state": [1, 2]},
        {"state": "wide"},
    ],
)
def test_damaged_statistics_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="damaged"):
        BuildStats.from_json(_content() | change)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"split": "train", "split": "train"}', b"NaN"])
def test_a_file_that_is_no_json_is_named(data: bytes) -> None:
    with pytest.raises(BuildError, match=r"^/b/stats\.json: "):
        BuildStats.parse(data, "/b/stats.json")
