"""Which cameras of a build the student and the world model see, by name."""

from __future__ import annotations

from collections.abc import Sequence

from model.settings import ModelSettings
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.streaming.cameras import Cameras


def chosen_cameras(build: Build, model: ModelSettings) -> Cameras:
    """The cameras that a model of these settings is shown of a build.

    Names choose among the cameras of robots. Human video has one camera, whatever it is called, and keeps it.

    Raises:
        SettingsError: a name is none of the build's cameras, or names stand in another order than there; or the world
            model would see more cameras than the predictor takes.
    """
    if not build.has_actions:
        return Cameras.all_of(build)
    found = Cameras(
        _numbers(build, "student_cameras", model.student_cameras),
        _numbers(build, "world_model_cameras", model.world_model_cameras),
    )
    count, most = len(found.latents), model.predictor.views
    if count > most:
        raise SettingsError(
            f"{build.path} has {count} cameras for the world model and model.predictor.views is {most}; set "
            f"model.predictor.views={count}, or name {most} in model.world_model_cameras ({', '.join(build.views)})"
        )
    return found


def camera_names(build: Build, numbers: Sequence[int]) -> tuple[str, ...]:
    """Names of a build's views."""
    return tuple(build.views[number] for number in numbers)


def _numbers(build: Build, name: str, wanted: Sequence[str]) -> tuple[int, ...]:
    if not wanted:
        return tuple(range(len(build.views)))
    found = tuple(number for number, view in enumerate(build.views) if view in wanted)
    if camera_names(build, found) != tuple(wanted):
        raise SettingsError(
            f"model.{name} must name cameras of {build.path} in its order ({', '.join(build.views)}), got "
            f"{', '.join(wanted)}"
        )
    return found
