"""Other colours and patterns of table, floor and walls. Sizes and choices are ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PARTS = {"table": ("table",), "floor": ("floor",), "wall": ("wall",)}
"""Part of the room and what its materials' names contain."""

NOT_OF_THE_ROOM = ("leg", "decoration")

TINTS = 0.35
"""Lowest value of a channel of a tint."""

COLOUR, CUBE_SIDES = 1, 6
"""MuJoCo's role of a texture that is a material's colour (mjTEXROLE_RGB), and the squares of a cube's texture."""

PATTERNS = ("checks", "stripes", "spots")


class Surfaces:
    """The materials of a scene's room.

    1  the table, or without one the floor, is tinted
    2  table, floor and walls are tinted
    3  the table, or without one the floor, has a pattern
    4  floor and walls have patterns, the table is tinted
    5  all have patterns

    Args:
        sim: robosuite's simulation.
        not_of_the_room: what the names of other materials begin with.
    """

    def __init__(self, sim: Any, not_of_the_room: Sequence[str]) -> None:
        import mujoco

        self._sim, model = sim, sim.model._model
        names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_MATERIAL, i) or "" for i in range(model.nmat)]
        self.parts = parts_of_the_room(names, not_of_the_room)
        self._before: dict[int, np.ndarray] = {}

    def change(self, level: int, rng: np.random.Generator) -> None:
        """Undo the last change of patterns, then make one; `mat_rgba` must be as it was."""
        touched = set(self._before)
        for changed, values in self._before.items():
            self._bytes(changed)[:] = values
        main = self.parts["table"] or self.parts["floor"]
        every = [material for materials in self.parts.values() for material in materials]
        rest = [material for material in every if material not in main] or main
        tinted = {1: main, 2: every, 3: [], 4: main, 5: []}[level]
        drawn = {1: [], 2: [], 3: main, 4: rest, 5: every}[level]
        for material in drawn:
            texture = self._texture(material)
            if texture is None:
                tinted = [*tinted, material]
                continue
            self._before.setdefault(texture, self._bytes(texture).copy())
            self._draw(texture, level, rng)
            touched.add(texture)
        for material in tinted:
            self._sim.model.mat_rgba[material, :3] *= rng.uniform(TINTS, 1, 3)
        self._upload(sorted(touched))

    def _texture(self, material: int) -> int | None:
        ids = np.atleast_1d(self._sim.model.mat_texid[material])
        texture = int(ids[COLOUR] if len(ids) > COLOUR else ids[0])
        return texture if texture >= 0 else None

    def _bytes(self, texture: int) -> np.ndarray:
        """The image uint8 [H, W, channels], to be written to."""
        model = self._sim.model
        height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
        channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        return np.asarray(model.tex_data)[start : start + height * width * channels].reshape(height, width, channels)

    def _draw(self, texture: int, level: int, rng: np.random.Generator) -> None:
        values = self._bytes(texture)
        sides = CUBE_SIDES if len(values) == CUBE_SIDES * values.shape[1] else 1
        side = pattern(len(values) // sides, values.shape[1], rng)
        values[..., :3] = np.tile(side, (sides, 1, 1))

    def _upload(self, textures: Sequence[int]) -> None:
        """Copy textures to the renderer."""
        import mujoco

        context = self._sim._render_context_offscreen
        if context is None or not textures:
            return
        context.gl_ctx.make_current()
        for texture in textures:
            mujoco.mjr_uploadTexture(self._sim.model._model, context.con, texture)


def parts_of_the_room(names: Sequence[str], not_of_the_room: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the materials of table, floor and wall, by their names."""
    return {
        part: [
            index
            for index, name in enumerate(names)
            if any(word in name for word in words)
            and not any(word in name for word in NOT_OF_THE_ROOM)
            and not name.startswith(tuple(not_of_the_room))
        ]
        for part, words in PARTS.items()
    }


def pattern(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Two colours in checks, stripes or spots: uint8 [height, width, 3]."""
    kind = PATTERNS[int(rng.integers(len(PATTERNS)))]
    colours, cells = rng.integers(30, 226, (2, 3)).astype(np.uint8), int(rng.integers(4, 13))
    down, right = np.arange(height) * cells // height, np.arange(width) * cells // width
    if kind == "checks":
        chosen = (down[:, None] + right[None]) % 2
    elif kind == "stripes":
        chosen = np.broadcast_to((right % 2)[None], (height, width))
    else:
        chosen = rng.integers(0, 2, (cells, cells))[down[:, None], right[None]]
    return colours[chosen]
