"""All faults by name."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import drivers, files, kills
from tests.faults.judge import Outcome
from tests.faults.lab import Lab


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    text     for the table;  times  how often it is tried
    instead  of "bytes identical", where episodes have to be left out
    """

    name: str
    text: str
    times: int
    trial: Callable[[Lab, random.Random], Outcome]
    instead: str = "the rest identical"


def _killed(*titles: str) -> Callable[[Lab, random.Random], Outcome]:
    return lambda lab, rng: kills.kill_process(lab, rng, *titles)


FAULTS = (
    Fault("decode-task", "SIGKILL of a decoding worker", 10, _killed("ray::_decode_task")),
    Fault("inputs-task", "SIGKILL of an inputs worker", 10, _killed("ray::_inputs_task")),
    Fault("encoder", "SIGKILL of an encoder actor", 10, _killed("ray::_EncoderActor")),
    Fault("registry", "SIGKILL of the registry actor", 10, _killed("ray::EpisodeRegistry")),
    Fault("node", "Loss of a worker node", 10, kills.kill_node),
    Fault("all-nodes", "Loss of all worker nodes, new ones 10 s later", 3, kills.kill_all_workers),
    Fault("driver", "SIGKILL of the driver", 10, kills.kill_driver),
    Fault("often", "SIGKILL of the driver, five times in one build", 3, kills.kill_driver_often),
    Fault("commit", "SIGKILL of the driver during the commit", 10, kills.kill_driver_at_commit),
    Fault("driver-and-node", "Loss of the driver with its node", 10, kills.kill_driver_and_node),
    Fault("drivers-node", "Loss of the node the driver runs on", 3, kills.kill_node_of_driver),
    Fault("head", "Loss of the head and all nodes", 10, kills.kill_head),
    Fault("storm", "A random kill every 1-2 s for 15 s", 10, kills.storm),
    Fault("encoder-storm", "Encoders killed while they wait for decoding, 3 to 8 times", 3, kills.encoder_storm),
    Fault("node-added", "A node lost, another added", 5, kills.add_node),
    Fault("io-passes", "Reads that fail with EIO once or twice", 3, files.errors_that_pass),
    Fault("io-stays", "Files that always fail with EIO (ledger: undecodable)", 3, files.errors_that_stay),
    Fault(
        "hangs",
        "A reader that hangs (ledger: timed-out; with the interpreter locked: kills-reader)",
        3,
        files.hanging_reader,
    ),
    Fault("crashes", "A reader that crashes (ledger: kills-reader)", 3, files.crashing_reader),
    Fault("vanished", "Sources gone after the plan (ledger: missing-file)", 3, files.vanished),
    Fault("truncated", "Sources cut short after the plan (ledger: changed-file)", 3, files.truncated),
    Fault("replaced", "Sources with another byte, `hash_raw=true` (ledger: changed-file)", 3, files.replaced),
    Fault("disk-full", "ENOSPC on every write, then space again", 3, files.disk_full),
    Fault("small-disk", "A disk that is too small, then made larger", 3, files.small_disk),
    Fault("rename-only", "No hard links and no O_EXCL", 3, files.rename_only),
    Fault("second-driver", "A second driver while the first one works", 3, drivers.second_driver),
    Fault("two-at-once", "Two drivers started at the same moment", 3, drivers.two_at_once),
    Fault("standing-driver", "A driver stopped, then killed", 3, drivers.standing_driver),
    Fault("sigterm", "SIGTERM to the driver", 3, drivers.terminated),
    Fault("ctrl-c", "Ctrl-C", 3, drivers.interrupted),
)
