"""Stands in for meshes that a checkout of ManiSkill2_real2sim lacks: `python stand_ins.py DATA OUT`.

Copies of the repository often come without its files of 4 MiB and more. OUT links to all that DATA has, and gets

- for a scene's stage (the room and its table) a plain table of the height that objects are put on;
- for a thing without a visual mesh its collision mesh.

So robots, cameras, controllers, starts and success tests are SimplerEnv's own, and what the scene looks like is not.
In visual matching a photograph covers the stage, in images at least.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import trimesh

TABLE_HEIGHT = 0.87
"""Of the table's top, metres above the floor: `scene_table_height` of SimplerEnv's environments."""

TABLE_SIZE = (1.0, 1.6, 0.05)

STAGES = dict.fromkeys(("bridge_table_1_v1", "bridge_table_1_v2"), (-2.0634, -2.8313)) | dict.fromkeys(
    (
        "Baked_sc1_staging_objaverse_cabinet1_h870",
        "Baked_sc1_staging_objaverse_cabinet2_h870",
        "google_pick_coke_can_1_v4",
        "google_pick_coke_can_1_v4_alt_background",
        "google_pick_coke_can_1_v4_alt_background_2",
        "modern_bedroom_no_roof",
        "modern_office_no_roof",
    ),
    (-1.6616, -3.0337),
)
"""Where the world's origin is in a stage, metres: SimplerEnv moves it by as much (`_load_arena_helper`)."""

TABLE_CENTRE = (-0.5, 0.1)
"""Of the table, in the world: under the objects' places, in front of both robots."""


def link(data: Path, out: Path) -> None:
    """`out` with a link to every file of `data`."""
    for path in sorted(data.rglob("*")):
        if path.is_file():
            target = out / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(path.resolve())


def add_stages(folder: Path) -> list[str]:
    """Write the stages that are missing; their names."""
    missing = [name for name in STAGES if not (folder / f"{name}.glb").exists()]
    for name in missing:
        x, y = np.add(TABLE_CENTRE, STAGES[name])
        table = trimesh.creation.box(TABLE_SIZE)
        table.apply_translation([x, y, TABLE_HEIGHT - TABLE_SIZE[2] / 2])
        table.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))  # y points up in a stage
        table.export(folder / f"{name}.glb")
    return missing


def add_visuals(folder: Path) -> list[str]:
    """Give things without a visual mesh the shape of their collision mesh; their names."""
    missing = []
    for collision in sorted(folder.glob("*/collision.obj")):
        thing = collision.parent
        if not any((thing / f"textured.{ending}").exists() for ending in ("obj", "dae", "glb")):
            shutil.copy(collision, thing / "textured.obj")
            missing.append(thing.name)
    return missing


def main(data: Path, out: Path) -> None:
    """Make `out` from `data`, with the names of what is stood in for in stand-ins.txt."""
    link(data, out)
    stages = out / "hab2_bench_assets" / "stages"
    missing = add_stages(stages) + add_visuals(out / "custom" / "models")
    (out / "stand-ins.txt").write_text("".join(f"{name}\n" for name in missing))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
