"""Real builds made in this process, without Ray, by pipeline code that a mutant may have made leaky."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from jobs.preprocess.plan import prepare
from pipeline.building.commit import commit
from pipeline.building.shard_jobs import decode_group, write_inputs_shard, write_targets_shard
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderSettings, LatentSettings, WindowPolicy
from tests.conftest import SampleData
from tests.jobs.runs import build_config, robot_source, ssv2_source

Latents = NDArray[Any]
WrapEncode = Callable[[Encoder, FrameBlock], tuple[Latents, Latents]]


@dataclass
class World:
    """What a mutant works with. `raw` is what the auditor compares with, `made_from` what the build is made from;
    `source` are settings of the reader besides its root, in place of those of the sample data; `window`: another choice
    of windows."""

    folder: Path
    data: SampleData
    patch: pytest.MonkeyPatch
    kind: str = "video"  # "robot"; human video "int8": latents stored as int8, "tubelet": in that encoder mode
    encode: WrapEncode = Encoder.encode
    encoder: EncoderSettings = field(default_factory=lambda: EncoderSettings(kind="tiny", resize="squash"))
    made_from: Path | None = None
    raw_copy: Path | None = None
    claimed_dtype: str | None = None
    source: dict[str, Any] | None = None
    window: WindowPolicy | None = None

    @property
    def raw(self) -> Path:
        """The raw data of the auditor."""
        return self.raw_copy or (self.data.lerobot if self.kind == "robot" else self.data.ssv2)

    def copy_raw(self) -> Path:
        """A copy of the raw data that may be edited."""
        origin = self.data.lerobot if self.kind == "robot" else self.data.ssv2
        return Path(shutil.copytree(origin, self.folder / "raw"))

    def build(self) -> Path:
        """Two windows an episode, or those of `window`; see `tests.jobs.runs.build_config`."""
        made_from = self.made_from or self.raw
        source = robot_source(made_from) if self.kind == "robot" else ssv2_source(made_from)
        source |= self.source or {}
        window = WindowPolicy(interval=2, every=0, per_episode=2)
        window = self.window or window
        latents = LatentSettings(dtype="int8" if self.kind == "int8" else "float16")
        if self.kind == "tubelet":
            window = WindowPolicy(interval=2, every=12)  # a window's last step ends where the next begins
            self.encoder = replace(self.encoder, mode="tubelet")
        base = EncoderSettings(kind="tiny", resize="squash")
        base = replace(base, mode=self.encoder.mode, dtype=self.claimed_dtype or self.encoder.dtype)
        settings = build_config(self.folder / "build", source, window=window, latents=latents, encoder=base)
        settings = replace(settings, accept_lookahead=True)  # what the audit finds, a plan already refuses
        preparation = prepare(settings)
        plan, source, store = preparation.plan, preparation.source, preparation.store
        recipe, encoder = plan.recipe(), Encoder(self.encoder, "cpu")
        for task in plan.tasks:
            write_inputs_shard(source, task, recipe, (), store)
            groups = [decode_group(source, refs, recipe, ()) for refs in task.groups]
            encode = partial(self.encode, encoder)
            write_targets_shard(groups, encode, encoder.machine, task, recipe, (), store)
        commit(plan, store)
        return Path(store.where)
