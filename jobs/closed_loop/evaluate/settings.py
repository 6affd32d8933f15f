"""Settings of `vlajepa evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from jobs.closed_loop.ensemble import EnsembleMode
from jobs.common.policy.image_ablation import ImageAblation
from jobs.simulator.libero_plus.names import CATEGORIES, SUITES
from jobs.simulator.perturb.axes import AXES
from pipeline.format.enums import Device
from pipeline.format.settings import checked, setting

SCRIPT = "script"
"""The policy that is the scripted expert."""


class PlusMode(StrEnum):
    """What is done with LIBERO-Plus's tasks."""

    PLAY = "play"
    LIST = "list"
    MAKE = "make"


class Wording(StrEnum):
    """Where the instruction of a LIBERO-Plus task is from, see `jobs.simulator.libero_plus.tasks.WORDINGS`."""

    LIST = "list"
    LIBERO = "libero"
    GOAL = "goal"


@checked
class PlusSettings:
    """LIBERO-Plus's own tasks: section `plus`."""

    wording: Wording = setting(
        "instructions (those of the category language are always the goal file's). list: of LIBERO-Plus's list, with "
        "the numbers of the change behind the words; libero: of LIBERO's own list; goal: of the goal file",
        default=Wording.LIST,
    )
    mode: PlusMode = setting(
        "play; list: write down for each task what is missing here to play it; make: list, and make each scene and its "
        "start once without playing",
        default=PlusMode.PLAY,
    )
    categories: tuple[str, ...] | None = setting(f"of {', '.join(CATEGORIES)}; null: all", default=None, decides=False)
    each: int | None = setting(
        "tasks of each suite and category, spread over those that can be played here; null: all",
        default=None,
        at_least=1,
        decides=False,
    )
    classification: Path | None = setting(
        "task_classification.json of sylvestf/LIBERO-plus, for the difficulty; null: the package's, if it has one",
        default=None,
        decides=False,
    )

    def __post_init__(self) -> None:
        known = set(CATEGORIES)
        if self.categories is not None and (not self.categories or not set(self.categories) <= known):
            raise ValueError(f"categories must be null or of {', '.join(CATEGORIES)}, got {list(self.categories)}")


@checked
class EvaluateConfig:
    """`vlajepa evaluate`. Settings that do not decide an episode may change: the same command then adds episodes.

    `environments` decides: the rows of a batch decide the last bits of its sums.
    """

    policy: str = setting(
        "a run's folder (its newest checkpoint), a checkpoint's, ws://HOST:PORT of a `vlajepa serve`, or script: the "
        "scripted expert, which sees the simulator's state",
        decides=False,
    )
    simulator: Path = setting("python of the environment that the simulator is installed in", decides=False)
    suite: str = setting(
        "libero_spatial, libero_object, libero_goal, libero_10, libero_90, a changed one (libero_goal_swap, …); of "
        "LIBERO-Plus libero_plus or its part libero_plus_spatial, …_object, …_goal, …_10; of SimplerEnv "
        "google_robot_visual_matching, google_robot_variant_aggregation, widowx_visual_matching"
    )
    out: Path = setting("folder for episodes.jsonl, results.json, results.md and videos/", decides=False)
    tasks: tuple[int, ...] | None = setting("indices; null: all", default=None, decides=False)
    episodes: int | None = setting(
        "of each task, with start states first_start, first_start+1, …; null: all there are (LIBERO has 50)",
        default=50,
        at_least=1,
        decides=False,
    )
    first_start: int = setting("index of the first start state", default=0, at_least=0)
    environments: int = setting("simulators at a time, and rows of the policy's batch", default=2, at_least=1)
    execute: int | None = setting(
        "actions of a chunk carried out before the policy is queried again; null: all, or 1 with an ensemble",
        default=None,
        at_least=1,
    )
    ensemble: EnsembleMode = setting("how chunks that overlap are averaged", default=EnsembleMode.NONE)
    horizon: int | None = setting("actions of a chunk that averaging may use; null: all", default=None, at_least=1)
    delay: int = setting(
        "actions carried out between an observation and its chunk, which begins with them and goes on from them "
        "(real-time chunking); 0: the simulator waits",
        default=0,
        at_least=0,
    )
    hold: int | None = setting(
        "simulator steps an action is kept for; null: the simulator's rate (20) over the build's frames a second",
        default=None,
        at_least=1,
    )
    max_steps: int | None = setting("of an episode; null: the benchmark's limit", default=None, at_least=1)
    pixels: int = setting(
        "side of the images LIBERO draws; the policy's are resized from them as in preprocessing",
        default=256,
        unit="pixels",
        at_least=32,
        at_most=1024,
    )
    shadows: bool = setting(
        "draw shadows and reflections, as where the demonstrations were made; in SimplerEnv: trace rays", default=True
    )
    turned: bool = setting("the build's images are turned by 180 degrees (OpenVLA's copies of LIBERO)", default=False)
    image_ablation: ImageAblation = setting("control: grey replaces every image by grey", default=ImageAblation.NONE)
    swap: bool = setting("control: give each task the instruction of the next one of `tasks`", default=False)
    cameras: dict[str, str] | None = setting(
        "view of the policy -> camera; null: the robot's, in their order (LIBERO: agentview, robot0_eye_in_hand)",
        default=None,
    )
    expects: Path | None = setting(
        "build that the policy should have been trained on: one with other cameras, channels, rate or statistics is "
        "refused; null: only what the robot shows and takes is compared",
        default=None,
        decides=False,
    )
    perturb: str | None = setting(f"an axis of LIBERO-Plus: {', '.join(AXES)}", default=None)
    level: int = setting("strength of the perturbation", default=3, at_least=1, at_most=5)
    plus: PlusSettings = setting("LIBERO-Plus's own tasks", default_factory=PlusSettings)
    videos: int = setting("episodes of each task that are recorded as video", default=1, at_least=0, decides=False)
    seed: int = setting("of the policy's noise", default=0, at_least=0)
    device: Device = setting("where the policy computes", default=Device.AUTO, decides=False)
    api_key: str | None = setting("of a served policy; null: it needs none", default=None, repr=False, decides=False)

    def __post_init__(self) -> None:
        if self.tasks is not None and (not self.tasks or len(set(self.tasks)) < len(self.tasks)):
            raise ValueError(f"tasks must be null or different indices, got {list(self.tasks)}")
        if self.perturb is not None and self.perturb not in AXES:
            raise ValueError(f"perturb must be null or one of {', '.join(AXES)}, got {self.perturb!r}")
        if self.swap and self.tasks is not None and len(self.tasks) < 2:
            raise ValueError(f"swap needs at least two tasks, got {list(self.tasks)}")
        if self.suite in SUITES and (self.perturb or self.swap or self.first_start or self.episodes not in (1, None)):
            raise ValueError(
                f"{self.suite} has one start of each task, and changes each already: it is played with episodes=1, "
                "first_start=0 and without perturb= and swap="
            )
