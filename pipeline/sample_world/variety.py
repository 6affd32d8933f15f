"""What differs between episodes of the sample world. Each part is a setting: few give a world that can be learned."""

from __future__ import annotations

from pipeline.format.settings import checked, setting

FILM_FPS = 12
"""Steps of the world a second."""
TASKS = ("push", "lift", "approach", "carry")


@checked
class Variety:
    """Section `variety` of `vlajepa sample-data`; the defaults are all there is."""

    textures: bool = setting("a table with a texture, and a skin, an episode; false: one plain table", default=True)
    shapes: bool = setting("cubes, balls and cans of several sizes; false: cubes of one size", default=True)
    colours: int = setting("things are of the first so many", default=6, at_least=3, at_most=6)
    random_start: bool = setting("the gripper starts anywhere; false: open, at home", default=True)
    motor_noise: bool = setting(
        "its path trembles, it turns as it likes, and sweeps about when its task is over", default=True
    )
    moving_cameras: bool = setting(
        "a wrist camera beside the robot's front camera, and a human's camera that drifts", default=True
    )
    tasks: tuple[str, ...] = setting(
        "kinds: push, lift, approach, carry (straight to a thing, then left, right or up with it)",
        default=("push", "lift", "approach"),
    )
    fps: int = setting("frames a second; must divide 12", default=FILM_FPS, at_least=1, at_most=FILM_FPS)
    frames: int | None = setting(
        "of every episode; null: a robot's has 60 to 80, a human's 30 to 60", default=None, at_least=2
    )

    def __post_init__(self) -> None:
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks must be a list of {', '.join(TASKS)}, got {list(self.tasks)}")
        if FILM_FPS % self.fps:
            raise ValueError(f"fps must divide {FILM_FPS}, got {self.fps}")

    @property
    def stride(self) -> int:
        """Steps of the world from frame to frame."""
        return FILM_FPS // self.fps

    def steps(self, otherwise: tuple[int, int]) -> tuple[int, int]:
        """Shortest and longest episode in steps of the world; `otherwise` in frames, where `frames` is null."""
        shortest, longest = otherwise if self.frames is None else (self.frames, self.frames)
        return shortest * self.stride, longest * self.stride


FULL = Variety()
