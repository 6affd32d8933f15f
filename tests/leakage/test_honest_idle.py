"""Honest builds with `window.skip_idle`: clean at the deepest levels, smaller, and the same whatever comes later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.preprocess.plan import prepare
from pipeline.errors import RunError
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from tests.conftest import SampleData
from tests.jobs.runs import build_config, make_here, robot_source, ssv2_source

WINDOW = WindowPolicy(interval=2, every=3, skip_idle=4, idle_change=0.17)
GONE = 10**9


def _audited(build: Build, root: Path, level: str = "source") -> None:
    verdict = audit(AuditConfig(build=build.path, level=level, root=root, nonce="n0", least=1))[0]
    assert verdict.findings == ()


def _nows(build: Build) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in pq.read_table(build.path / "samples.parquet", columns=["episode", "now"]).to_pylist():
        found.setdefault(row["episode"], []).append(row["now"])
    return found


@pytest.mark.parametrize(
    "window", [WINDOW, pytest.param(replace(WINDOW, every=0, per_episode=9, end="pad"), marks=pytest.mark.slow)]
)
def test_idle_windows_are_left_out(sample_data: SampleData, tmp_path: Path, window: WindowPolicy) -> None:
    config = build_config(tmp_path / "build", robot_source(sample_data.lerobot), window=window)
    build = make_here(config)
    _audited(build, sample_data.lerobot, "perturb" if window.every else "source")
    kept = _nows(build)
    whole = _nows(make_here(replace(config, out=tmp_path / "all", window=replace(window, skip_idle=0))))
    assert all(set(kept[episode]) <= set(whole[episode]) for episode in kept)
    assert 0.4 * _count(whole) < _count(kept) < 0.95 * _count(whole)


def _count(nows: dict[str, list[int]]) -> int:
    return sum(map(len, nows.values()))


def _rest(root: Path, episode: int, first: int, last: int) -> None:
    """The robot stands still from frame `first` to frame `last`."""
    path = next(root.glob(f"data/*/episode_{episode:06d}.parquet"))
    table = pq.read_table(path)
    at = table.schema.get_field_index("observation.state")
    state = np.array(table["observation.state"].to_pylist(), np.float32)
    state[first : last + 1] = state[first]
    column = pa.array(state.tolist(), table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), column), path)


@pytest.mark.slow
def test_what_comes_later_changes_no_choice(tmp_path: Path) -> None:
    """Two sets that are the same up to frame 39; of an episode that never moves the first frames are left."""
    window = WindowPolicy(interval=2, every=1, skip_idle=3, idle_change=1e-6)
    made = {}
    for name, last in (("short", 24), ("long", 60)):
        root = tmp_path / name
        write_lerobot(root, episodes=4, seed=0, size=64)
        _rest(root, 1, 10, 24)
        _rest(root, 1, 40, last + 20)
        _rest(root, 2, 0, GONE)
        config = build_config(tmp_path / f"build-{name}", robot_source(root, val_share=0.0), window=window)
        build = make_here(replace(config, accept_lookahead=True, max_bad_share=0.0))
        _audited(build, root)
        made[name] = _nows(build)["robot-000001"]
        assert _nows(build)["robot-000002"] == [0, 1, 2]
    for nows in made.values():
        assert set(range(13, 25)).isdisjoint(nows)
        assert {10, 11, 12, 25} <= set(nows)
    assert [now for now in made["short"] if now < 40] == [now for now in made["long"] if now < 40]


def test_an_episode_without_any_other_window_is_in_the_ledger(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_lerobot(root, episodes=4, seed=0, size=64)
    _rest(root, 2, 0, GONE)
    window = WindowPolicy(interval=2, every=0, per_episode=4, skip_idle=3, idle_change=1e-6)
    config = build_config(tmp_path / "build", robot_source(root, val_share=0.0), window=window)
    build = make_here(replace(config, accept_lookahead=True, max_bad_share=0.0))
    (line,) = map(json.loads, (build.path / "ledger.jsonl").read_bytes().splitlines())
    assert (line["episode"], line["reason"], line["windows"]) == ("robot-000002", "all-idle", None)
    _audited(build, root)


def test_a_source_without_a_state_is_refused(sample_data: SampleData, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no state to tell idle frames by; set window.skip_idle=0"):
        prepare(build_config(tmp_path / "build", ssv2_source(sample_data.ssv2), window=WINDOW))
