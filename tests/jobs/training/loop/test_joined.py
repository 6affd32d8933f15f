"""Ranks by the environment that torchrun sets up."""

from __future__ import annotations

import pytest

from jobs.training.loop.ranks import joined
from pipeline.errors import SettingsError


@pytest.mark.parametrize("text", ["abc", "-1", "", "2.0"])
def test_a_number_of_ranks_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(SettingsError, match=r"WORLD_SIZE must be a number as torchrun sets it"):
        joined("cpu", 900.0).__enter__()
