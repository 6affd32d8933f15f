"""What `vlajepa evaluate` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jobs.closed_loop.ensemble import MODES
from jobs.common.image_ablation import ImageAblation


@dataclass(frozen=True)
class EvaluateConfig:
    """`vlajepa evaluate`.

    policy      a run's folder (its newest checkpoint), a checkpoint's, ws://HOST:PORT of a `vlajepa serve`, or
                "script": the scripted expert, which sees the simulator's state
    simulator   python of the environment that LIBERO is installed in
    suite       libero_spatial, libero_object, libero_goal, libero_10, libero_90, a changed one (libero_goal_swap, …);
                of SimplerEnv google_robot_visual_matching, google_robot_variant_aggregation, widowx_visual_matching
    out         folder for episodes.jsonl, results.json, results.md and videos/
    tasks       indices; null: all
    episodes    of each task, with start states first_start, first_start+1, …; null: all there are (LIBERO has 50)
    environments  simulators at a time, and rows of the policy's batch
    execute     actions of a chunk carried out before the policy is asked again; null: all, or 1 with an ensemble
    ensemble    how chunks that overlap are averaged: none, temporal (ACT) or adaptive (CogACT)
    horizon     actions of a chunk that averaging may use; null: all
    hold        simulator steps an action is kept for; null: the simulator's rate (20) over the build's frames a second
    max_steps   of an episode; null: the benchmark's limit
    pixels      of the pictures LIBERO draws; the policy's are resized from them as in preprocessing
    shadows     draw shadows and reflections, as where the demonstrations were made; in SimplerEnv: trace rays
    turned      the build's pictures are turned by 180 degrees (OpenVLA's copies of LIBERO)
    image_ablation  none, or grey: pictures are replaced by grey, a control
    swap        each task gets the instruction of the next one of `tasks`: a control
    cameras     view of the policy -> camera; null: the robot's, in their order (LIBERO: agentview, robot0_eye_in_hand)
    perturb     an axis of LIBERO-Plus: camera, robot, language, light, background, noise, layout;  level  1..5
    videos      episodes of each task that are filmed
    api_key     of a served policy; null: it asks for none
    """

    policy: str
    simulator: Path
    suite: str
    out: Path
    tasks: tuple[int, ...] | None = None
    episodes: int | None = 50
    first_start: int = 0
    environments: int = 2
    execute: int | None = None
    ensemble: str = "none"
    horizon: int | None = None
    hold: int | None = None
    max_steps: int | None = None
    pixels: int = 256
    shadows: bool = True
    turned: bool = False
    image_ablation: ImageAblation = ImageAblation.NONE
    swap: bool = False
    cameras: dict[str, str] | None = None
    perturb: str | None = None
    level: int = 3
    videos: int = 1
    seed: int = 0
    device: str = "auto"
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("episodes", "environments", "execute", "horizon", "hold", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("first_start", "videos", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 32 <= self.pixels <= 1024:
            raise ValueError(f"pixels must be 32..1024, got {self.pixels}")
        if not 1 <= self.level <= 5:
            raise ValueError(f"level must be 1..5, got {self.level}")
        if self.tasks is not None and (not self.tasks or len(set(self.tasks)) < len(self.tasks)):
            raise ValueError(f"tasks must be null or different indices, got {list(self.tasks)}")
        if self.swap and self.tasks is not None and len(self.tasks) < 2:
            raise ValueError(f"swap needs at least two tasks, got {list(self.tasks)}")
        if self.ensemble not in MODES:
            raise ValueError(f"ensemble must be one of {', '.join(MODES)}, got {self.ensemble!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be one of auto, cpu, cuda, got {self.device!r}")
