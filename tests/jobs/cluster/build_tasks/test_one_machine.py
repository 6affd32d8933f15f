"""A build's encoders run on devices of one model, unless the settings allow several."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.cluster.build_tasks.one_machine import require_one_machine
from pipeline.errors import RunError
from pipeline.format.machine import Machine

H100 = Machine("NVIDIA H100 80GB HBM3", "12.8", "91002", "highest")


@pytest.mark.parametrize("other", [{"device": "NVIDIA A100"}, {"cuda": "12.6"}, {"cudnn": "9"}, {"precision": "high"}])
def test_other_machines_are_refused_unless_they_are_allowed(other: dict[str, str]) -> None:
    mixed = [H100, replace(H100, **other), H100]
    assert require_one_machine([H100, H100], mixed=False) == {H100}
    assert require_one_machine(mixed, mixed=True) == set(mixed)
    with pytest.raises(RunError, match=r"2 kinds of devices: .*NVIDIA H100.*cluster\.mixed_devices=true"):
        require_one_machine(mixed, mixed=False)
