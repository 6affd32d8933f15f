"""A build that is being made, with everything that its commands leave on the way."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from jobs.cluster.build_tasks.run_progress import PROGRESS_FILE, NodeWork, Progress
from jobs.common.driver_lock import DriverLock
from jobs.preprocess.plan import prepare
from jobs.preprocess.prediction import write_prediction
from pipeline.building.shard_jobs import decode_group, write_inputs_shard, write_targets_shard
from pipeline.encoder.encoder import Encoder
from pipeline.planning.hardware import Hardware
from pipeline.planning.prediction import StageTimes, predict
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.storage.store import LocalStore
from tests.jobs.runs import build_config, ssv2_source


def write_unfinished(folder: Path) -> None:
    """Make every shard of a build, but not the build, in `folder`."""
    clips = folder.with_name(f"{folder.name}-clips")
    write_ssv2(clips, clips=4, seed=0, size=64)
    settings = build_config(folder, ssv2_source(clips))
    preparation = prepare(settings)
    plan, store = preparation.plan, preparation.store
    recipe, encoder = plan.recipe(), Encoder(settings.encoder, "cpu")
    for task in plan.tasks:
        write_inputs_shard(preparation.source, task, recipe, (), store)
        groups = [decode_group(preparation.source, refs, recipe, ()) for refs in task.groups]
        write_targets_shard(groups, encoder.encode, encoder.machine, task, recipe, (), store)
    times = StageTimes(0.1, 0.2, 3, 12)
    write_prediction(predict(plan.estimate, 1000, times, Hardware(), plan.settings.encoder.dtype), store)
    progress = Progress(4, 12, 2, 1, 6, 1000, nodes={"node": NodeWork()})
    store.write(PROGRESS_FILE, json.dumps(asdict(progress)).encode())
    with DriverLock(LocalStore(folder)):
        owner = store.read("lock/1/driver.json")
    left = {**json.loads(owner), "pid": os.getpid(), "started": 1}
    store.write("lock/1/driver.json", json.dumps(left).encode())
