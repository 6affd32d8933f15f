"""Drawing: a textured table, shaded objects, a robot arm or a human hand, and the noise of a camera sensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from pipeline.sample_world.camera import Camera
from pipeline.sample_world.variety import FULL, Variety
from pipeline.sample_world.world import World

Colour = tuple[int, int, int]
Draw = Callable[[], None]

PALETTE: dict[str, Colour] = {
    "red": (205, 45, 40),
    "green": (50, 155, 70),
    "blue": (45, 90, 205),
    "yellow": (235, 195, 40),
    "purple": (135, 65, 170),
    "orange": (240, 125, 30),
}
TABLES: tuple[Colour, ...] = ((176, 138, 100), (150, 150, 155), (196, 180, 150), (118, 132, 120))
PLAIN_TABLE: Colour = TABLES[2]
SKINS: tuple[Colour, ...] = ((224, 172, 135), (190, 135, 100), (120, 80, 58))
ROBOT: Colour = (88, 92, 102)
WALL: Colour = (196, 204, 210)
OVERSAMPLING = 2
TEXELS = 384
TEXELS_A_METRE = 160.0
SENSOR_NOISE = 3.0
"""Standard deviation of the noise on each frame, of 255."""
CIRCLE = np.linspace(0, 2 * np.pi, 18, endpoint=False)


@dataclass(frozen=True)
class Look:
    """What differs between episodes besides the scene. `effector` is "gripper" or "hand"."""

    effector: str
    table: Colour
    skin: Colour
    texture: NDArray[np.uint8]


def make_look(rng: np.random.Generator, effector: str, variety: Variety = FULL) -> Look:
    """Draw a table and, for the human half, a skin."""
    if not variety.textures:
        return Look(effector, PLAIN_TABLE, SKINS[0], np.full((TEXELS, TEXELS, 3), PLAIN_TABLE, np.uint8))
    table = TABLES[int(rng.integers(len(TABLES)))]
    skin = SKINS[int(rng.integers(len(SKINS)))]
    return Look(effector, table, skin, _texture(rng, table))


def render(
    world: World, look: Look, camera: Camera, size: int, rng: np.random.Generator, noise: float = SENSOR_NOISE
) -> NDArray[np.uint8]:
    """One frame as the camera sees it, uint8 RGB [size, size, 3]; `rng` gives the sensor noise alone."""
    background = _table(look, camera, size).repeat(OVERSAMPLING, 0).repeat(OVERSAMPLING, 1)
    image = Image.fromarray(background)
    canvas = _Canvas(ImageDraw.Draw(image), camera, size * OVERSAMPLING)
    canvas.shadows(world)
    parts = [canvas.thing(world, index) for index in range(len(world.things))]
    parts += canvas.hand(world, look.skin) if look.effector == "hand" else canvas.gripper(world)
    for _, draw in sorted(parts, key=lambda part: -part[0]):
        draw()
    clean = np.asarray(image.reduce(OVERSAMPLING), np.float32)
    error = rng.standard_normal(clean.shape, np.float32) * noise
    return np.clip(clean + error + 0.5, 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, base: Colour) -> NDArray[np.uint8]:
    """Wood-like: long streaks and large blotches, strong enough to show motion. [TEXELS, TEXELS, 3]."""
    streaks = rng.normal(0, 1, (TEXELS // 6, TEXELS // 48))
    blotches = rng.normal(0, 1, (TEXELS // 24, TEXELS // 24))
    layers = [np.asarray(Image.fromarray(a.astype(np.float32)).resize((TEXELS, TEXELS))) for a in (streaks, blotches)]
    shade = 1 + 0.13 * layers[0] + 0.13 * layers[1]
    return np.clip(shade[..., None] * np.asarray(base), 0, 255).astype(np.uint8)


def _table(look: Look, camera: Camera, size: int) -> NDArray[np.uint8]:
    """Table and wall without anything on them, [size, size, 3]."""
    points, falling = camera.table_points(size)
    # The texture is centred on the table, so that its seam is not visible.
    texel = (points * TEXELS_A_METRE).astype(np.int32) + TEXELS // 2
    texel %= TEXELS
    image = look.texture[texel[..., 1], texel[..., 0]]
    image[~falling | (points[..., 1] > 1.0)] = WALL
    return image


class _Canvas:
    """Drawing in world coordinates. Parts are (distance from the camera, call that draws), painted far to near."""

    def __init__(self, draw: ImageDraw.ImageDraw, camera: Camera, size: int) -> None:
        self._draw = draw
        self._camera = camera
        self._size = size

    def shadows(self, world: World) -> None:
        """On the table, below everything: they show the height of a lifted thing."""
        for thing, place in zip(world.things, world.places, strict=True):
            self._polygon(_ring((place[0], place[1], 0.001), thing.radius), (70, 60, 50))
        self._polygon(_ring((world.state[0], world.state[1], 0.001), 0.05), (85, 75, 65))

    def thing(self, world: World, index: int) -> tuple[float, Draw]:
        thing, place = world.things[index], world.places[index].astype(np.float64)
        shape = {"cube": self._cube, "ball": self._ball, "can": self._can}[thing.shape]
        return self._depth(place), lambda: shape(place, thing.radius, PALETTE[thing.colour])

    def gripper(self, world: World) -> list[tuple[float, Draw]]:
        """An arm that reaches in from the far side of the table."""
        x, y, z = (float(v) for v in world.state[:3])
        wrist = np.array([x, y, z + 0.2])
        base = np.array([0.0, 1.05, 0.25])
        elbow = (wrist + base) / 2 + np.array([0, 0.05, 0.28])
        parts = [self._limb(base, elbow, 0.11, ROBOT), self._limb(elbow, wrist, 0.09, _shade(ROBOT, 1.35))]
        palm = np.array([x, y, z + 0.1])
        parts.append(self._limb(wrist, palm, 0.055, _shade(ROBOT, 0.75)))
        return parts + self._fingers(world, palm, 0.022, _shade(ROBOT, 0.5))

    def hand(self, world: World, skin: Colour) -> list[tuple[float, Draw]]:
        """A forearm that reaches in from the viewer's side."""
        x, y, z = (float(v) for v in world.state[:3])
        palm = np.array([x, y - 0.03, z + 0.09])
        elbow = np.array([0.5 * x + 0.5, -0.4, 0.3])
        sleeve = elbow + 0.45 * (palm - elbow)
        parts = [self._limb(elbow, sleeve, 0.085, (70, 85, 120)), self._limb(sleeve, palm, 0.06, skin)]
        depth = self._depth(palm)
        parts.append((depth - 0.01, lambda: self._ball(palm, 0.075, skin)))
        return parts + self._fingers(world, palm, 0.024, _shade(skin, 0.85))

    def _fingers(
        self, world: World, palm: NDArray[np.float64], width: float, colour: Colour
    ) -> list[tuple[float, Draw]]:
        yaw = float(world.state[5])
        side = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        tip = world.state[:3].astype(np.float64) - (0, 0, 0.03)
        parts = []
        for sign, spread in ((-1, float(world.state[6])), (1, float(world.state[7]))):
            root, end = palm + side * sign * spread, tip + side * sign * spread
            parts += [self._limb(palm, root, width, colour), self._limb(root, end, width, colour)]
        return parts

    def _limb(
        self, begin: NDArray[np.float64], end: NDArray[np.float64], radius: float, colour: Colour
    ) -> tuple[float, Draw]:
        """A tapered bar with round ends, lighter along its middle."""

        def draw() -> None:
            (a, b), depth = self._project([begin, end])
            along = b - a
            normal = np.array([-along[1], along[0]]) / max(1e-6, float(np.linalg.norm(along)))
            for part, shade in ((1.0, 0.8), (0.55, 1.1)):
                ra, rb = (self._pixels(radius * part, float(d)) for d in depth)
                self._fill([a + normal * ra, b + normal * rb, b - normal * rb, a - normal * ra], _shade(colour, shade))
                self._disc(a, ra, _shade(colour, shade))
                self._disc(b, rb, _shade(colour, shade))

        return self._depth((begin + end) / 2), draw

    def _ball(self, place: NDArray[np.float64], radius: float, colour: Colour) -> None:
        (centre,), depth = self._project([place])
        size = self._pixels(radius, float(depth[0]))
        self._disc(centre, size, _shade(colour, 0.75))
        self._disc(centre - size * 0.15, size * 0.78, colour)
        self._disc(centre - size * 0.35, size * 0.3, _shade(colour, 1.5))

    def _can(self, place: NDArray[np.float64], radius: float, colour: Colour) -> None:
        half = np.array([0, 0, radius])
        top, bottom = _ring(place + half, radius), _ring(place - half, radius)
        outline = self._project(np.concatenate([top, bottom]))[0]
        self._fill(outline[ConvexHull(outline).vertices], _shade(colour, 0.75))
        self._polygon(top, _shade(colour, 1.25))
        self._polygon(_ring(place + half, radius * 0.6), _shade(colour, 0.6))

    def _cube(self, place: NDArray[np.float64], radius: float, colour: Colour) -> None:
        corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * radius * 0.9 + place
        faces = {
            (0, -1, 0): (0, 4, 5, 1),
            (0, 1, 0): (2, 6, 7, 3),
            (-1, 0, 0): (0, 2, 3, 1),
            (1, 0, 0): (4, 6, 7, 5),
            (0, 0, 1): (1, 5, 7, 3),
        }
        for normal, face in faces.items():
            outward = place + np.array(normal) * radius * 0.9
            if np.dot(np.asarray(self._camera.position) - outward, normal) > 0:
                shade = 1.3 if normal[2] else 0.95 if normal[1] else 0.7
                self._polygon(corners[list(face)], _shade(colour, shade))

    def _polygon(self, points: NDArray[np.float64], colour: Colour) -> None:
        self._fill(self._project(points)[0], colour)

    def _fill(self, points: Sequence[NDArray[np.float64]] | NDArray[np.float64], colour: Colour) -> None:
        self._draw.polygon([(float(u), float(v)) for u, v in points], fill=colour)

    def _disc(self, centre: NDArray[np.float64], radius: float, colour: Colour) -> None:
        u, v = (float(c) for c in centre)
        self._draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=colour)

    def _project(self, points: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        return self._camera.project(np.asarray(points), self._size)

    def _pixels(self, metres: float, depth: float) -> float:
        return self._size * self._camera.focal * metres / depth

    def _depth(self, point: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(point - np.asarray(self._camera.position)))


def _ring(centre: Sequence[float] | NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    x, y, z = (float(v) for v in centre)
    return np.stack([x + radius * np.cos(CIRCLE), y + radius * np.sin(CIRCLE), np.full(len(CIRCLE), z)], 1)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(c * factor)) for c in colour)
    return red, green, blue
