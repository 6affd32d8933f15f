"""The human half of the sample world: a hand, written as a Something-Something-v2 folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.sample_world.camera import front_camera
from pipeline.sample_world.folder import new_folder
from pipeline.sample_world.render import render
from pipeline.sample_world.scene import Film, Scene
from pipeline.sample_world.script import Task
from pipeline.sample_world.truth import truth_row, write_truth
from pipeline.sample_world.variety import FULL, Variety
from pipeline.sample_world.video import CODECS, write_video
from pipeline.sample_world.world import World
from pipeline.sources.ssv2 import LABEL_FILES, LABEL_FOLDER, VIDEO_FOLDER

FRAMES = (30, 60)
FIRST_ID = 100001
PAN_SPEED = 0.006
"""Largest sideways motion of the camera, metres a frame."""
TEMPLATES = {
    "push left": "Pushing [something] from right to left",
    "push right": "Pushing [something] from left to right",
    "lift": "Lifting [something] up completely without letting it drop down",
    "approach": "Moving [something] closer to [something]",
    "carry left": "Pulling [something] from right to left",
    "carry right": "Pulling [something] from left to right",
    "carry up": "Moving [something] up",
}


def write_ssv2(
    root: str | Path,
    clips: int,
    seed: int,
    size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    variety: Variety = FULL,
    twins: int = 0,
) -> None:
    """Write `clips` clips of size x size pixels, at 12 fps unless `variety` says otherwise, and their labels; test
    clips get none.

    Args:
        root: a new or empty folder.
        clips: at least 3, so that every split has one.
        seed: equal seeds give equal bytes on the same machine.
        progress: called with (clips written, all) after each.
        twins: scenes, each in two clips that begin with the same picture and have different labels; they are then the
            validation split, and none of the others is; truth.jsonl says where the named things stand.

    Raises:
        SettingsError: a value out of range.  RunError: the folder is not empty.
    """
    if clips < 3:
        raise SettingsError(f"clips must be at least 3, got {clips}")
    base = new_folder(root, size)
    splits = _splits(np.random.default_rng([seed, 0]), clips, 0.0 if twins else 0.15) + ["val"] * 2 * twins
    (base / VIDEO_FOLDER).mkdir()
    truth: list[dict[str, object]] = []
    entries: dict[str, list[dict[str, object]]] = {split: [] for split in LABEL_FILES}
    scenes = Film(seed, 1, "hand", FRAMES, variety).episodes(clips, twins)
    for index, (split, scene) in enumerate(zip(splits, scenes, strict=True)):
        number = str(FIRST_ID + index)
        write_video(base / VIDEO_FOLDER / f"{number}.webm", _frames(scene, size, variety), variety.fps, CODECS["vp9"])
        labels = _labels(scene.rollout.task, scene.first)
        truth.append(truth_row(number, scene))
        entries[split].append({"id": number} if split == "test" else {"id": number, **labels})
        if progress is not None:
            progress(index + 1, len(splits))
    _write_labels(base / LABEL_FOLDER, entries, variety.tasks)
    if twins:
        write_truth(base, truth)


def _write_labels(folder: Path, entries: Mapping[str, list[dict[str, object]]], tasks: Sequence[str]) -> None:
    folder.mkdir()
    for split, file in LABEL_FILES.items():
        _write_json(folder / file, entries[split])
    templates = [template for kind, template in TEMPLATES.items() if kind.split()[0] in tasks]
    classes = sorted(template.replace("[something]", "something") for template in templates)
    _write_json(folder / "labels.json", {name: str(place) for place, name in enumerate(classes)})


def _frames(scene: Scene, size: int, variety: Variety) -> Iterator[NDArray[np.uint8]]:
    """The camera drifts sideways at a steady speed, through the middle of the scene; or stands."""
    worlds = scene.rollout.worlds
    speed = float(scene.rng.uniform(-PAN_SPEED, PAN_SPEED)) if variety.moving_cameras else 0.0
    middle = len(worlds) / 2
    for index, world in enumerate(worlds):
        yield render(world, scene.look, front_camera(pan=speed * (index - middle)), size, scene.rng)


def _labels(task: Task, world: World) -> dict[str, object]:
    """A clip's texts, as the dataset's label files hold them."""
    names = [world.things[thing].name for thing in (task.thing, task.other) if thing >= 0]
    template = text = TEMPLATES[f"{task.kind} {task.direction}".strip()]
    for name in names:
        text = text.replace("[something]", name, 1)
    return {"label": text[0].lower() + text[1:], "template": template, "placeholders": names}


def _splits(rng: np.random.Generator, clips: int, val_share: float) -> list[str]:
    val, test = (max(1, round(clips * share)) if share else 0 for share in (val_share, 0.1))
    names = ["val"] * val + ["test"] * test + ["train"] * (clips - val - test)
    return [names[i] for i in rng.permutation(clips)]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
