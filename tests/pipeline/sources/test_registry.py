"""Sources made from a manifest's settings."""

from __future__ import annotations

import pytest

from pipeline.errors import SettingsError
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.registry import make_source
from pipeline.sources.ssv2 import SSv2Source


def test_settings_reach_the_source() -> None:
    assert make_source("ssv2", root="data") == SSv2Source(root="data", name="ssv2")
    made = make_source("lerobot", root="data", name="toy", cameras=["front", "wrist"], val_share=0.2)
    assert made == LeRobotSource(root="data", name="toy", cameras=("front", "wrist"), val_share=0.2)


@pytest.mark.parametrize(
    ("type_", "settings", "message"),
    [
        ("zarr", {}, "must be one of ssv2, lerobot, rlds, libero, videos, mcap, got 'zarr'"),
        ("ssv2", {"root": "data", "rot": 1}, "no setting rot; allowed are root, name"),
        ("lerobot", {"root": "data"}, "needs name"),
        ("ssv2", {"root": "data", "name": "a b"}, "a_b"),
    ],
)
def test_what_is_refused(type_: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_source(type_, **settings)
